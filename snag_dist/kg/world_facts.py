"""The laws of the generated world: which relations it has, and how its facts follow from the latent attributes.

Every fact is owned by its head and drawn from a stream keyed by the head's id, so a block of entities knows all its
facts without the rest of the world. Three sorts:

- **links**: the tail shares some attributes with the head, and the popular are taken more often;
- **composed**: the tail is found by following two other facts (a person's nationality is the country of the city of
  birth), whether or not those two are among the drawn ones;
- **arithmetic**: capitals, neighbours on the map, couples.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from snag_dist.kg.world_latents import (
    ACADEMY,
    CITY,
    COUNTRY,
    GALLERY,
    HOMES,
    MOVEMENT,
    MUSEUM,
    PAINTING,
    PERSON,
    Latents,
    Population,
    draw,
)
from snag_dist.kg.world_order import Bools, Floats, Ints


@dataclass(frozen=True)
class Relation:
    """A relation and what mirrors it.

    Attributes:
        key: its name in the triples.
        mirror: key of the inverse relation, the own key of a symmetric one, None where nothing mirrors it.
        is_told_by_tail: its facts are the mirrors of facts that the tail owns.
    """

    key: str
    mirror: str | None = None
    is_told_by_tail: bool = False


RELATIONS = (
    Relation("located_in", "contains"),
    Relation("contains", "located_in", is_told_by_tail=True),
    Relation("capital"),
    Relation("borders", "borders"),
    Relation("twinned_with", "twinned_with"),
    Relation("known_for"),
    Relation("began_in"),
    Relation("founded_by"),
    Relation("born_in"),
    Relation("nationality"),
    Relation("belongs_to"),
    Relation("studied_at"),
    Relation("represented_by"),
    Relation("taught_by", "teacher_of"),
    Relation("teacher_of", "taught_by", is_told_by_tail=True),
    Relation("spouse", "spouse"),
    Relation("influenced_by"),
    Relation("painted_by", "painted"),
    Relation("painted", "painted_by", is_told_by_tail=True),
    Relation("in_movement"),
    Relation("resembles", "resembles"),
    Relation("shown_in"),
    Relation("sold_by"),
    Relation("depicts"),
)
RELATION_IDS = {relation.key: row for row, relation in enumerate(RELATIONS)}
# (R,) id of each relation's mirror, -1 where nothing mirrors it; and whether the tail owns its facts.
MIRRORS = np.array([RELATION_IDS[r.mirror] if r.mirror else -1 for r in RELATIONS], dtype=np.int64)
IS_TOLD_BY_TAIL = np.array([relation.is_told_by_tail for relation in RELATIONS])

# By kind of the head: the relation to its home.
HOME_RELATIONS = ("", "located_in", "located_in", "located_in", "located_in", "began_in", "born_in", "painted_by")


@dataclass(frozen=True)
class Link:
    """A law: heads of one kind point to tails that share attributes with them.

    Attributes:
        relation: key.
        head, tail: kinds.
        shared: attributes that the two have in common; digits of the tail's kind.
        slots: facts at most, each drawn for itself.
        chance: that a head of average activity has the fact of a slot.
        certain: the fact of the first slot exists whatever the chance.
        earlier: the tail comes before the head in the order of popularity, so no pair is linked both ways.
    """

    relation: str
    head: int
    tail: int
    shared: tuple[str, ...]
    slots: int = 1
    chance: float = 1.0
    certain: bool = False
    earlier: bool = False


# The first two facts of a kind rest on different attributes, so that one does not give the other's answer away.
LINKS = (
    Link("known_for", COUNTRY, MOVEMENT, ("style",), slots=3, chance=0.3, certain=True),
    Link("known_for", CITY, MOVEMENT, ("style",), certain=True),
    Link("known_for", ACADEMY, MOVEMENT, ("style",), certain=True),
    Link("known_for", MUSEUM, MOVEMENT, ("style",), certain=True),
    Link("known_for", GALLERY, MOVEMENT, ("style",), certain=True),
    Link("twinned_with", CITY, CITY, ("colour",), slots=2, chance=0.15, earlier=True),
    Link("founded_by", MOVEMENT, PERSON, ("style",), certain=True),
    Link("belongs_to", PERSON, MOVEMENT, ("style",), certain=True),
    Link("studied_at", PERSON, ACADEMY, ("style", "theme"), slots=2, chance=0.15),
    Link("represented_by", PERSON, GALLERY, ("colour", "period"), slots=2, chance=0.15),
    Link("taught_by", PERSON, PERSON, ("style", "theme"), slots=2, chance=0.15, earlier=True),
    Link("influenced_by", PERSON, PERSON, ("colour", "theme"), slots=2, chance=0.15),
    Link("resembles", PAINTING, PAINTING, ("style", "theme"), chance=0.2, earlier=True),
    Link("shown_in", PAINTING, MUSEUM, ("theme", "period"), certain=True),
    Link("sold_by", PAINTING, GALLERY, ("colour", "period"), slots=2, chance=0.15),
    Link("depicts", PAINTING, CITY, ("theme", "colour"), slots=2, chance=0.15),
)
# Relation, kind of head, relation that leads on from the head's home, chance.
COMPOSED = (("nationality", PERSON, "located_in", 0.3), ("in_movement", PAINTING, "belongs_to", 0.3))
SPOUSE_CHANCE = 0.24
# Between the most and the least active owner of facts.
ACTIVITY_RANGE = 12.0
LEAST_ACTIVITY = float(np.log(ACTIVITY_RANGE) / (ACTIVITY_RANGE - 1.0))

# By kind, the two relations that every entity has a fact of; one of them, drawn by id, is its anchor in train.
_CERTAIN = (
    ("capital", "known_for"),
    ("located_in", "known_for"),
    ("located_in", "known_for"),
    ("located_in", "known_for"),
    ("located_in", "known_for"),
    ("began_in", "founded_by"),
    ("born_in", "belongs_to"),
    ("painted_by", "shown_in"),
)
# (kinds, 2) the same as ids.
CERTAIN_IDS = np.array([[RELATION_IDS[key] for key in pair] for pair in _CERTAIN], dtype=np.int64)


@dataclass(frozen=True)
class Facts:
    """Facts of one relation: (N,) heads that own them and (N,) tails."""

    relation: int
    heads: Ints
    tails: Ints


def anchor_relations(population: Population, ids: Ints) -> Ints:
    """Return the relation whose facts of this entity always lie in train, (N,)."""
    second = draw(population.seed, "anchor", ids, 1)[:, 0] < 0.5
    return CERTAIN_IDS[population.kinds(ids), second.astype(np.int64)]


def draw_facts(population: Population, latents: Latents, density: float) -> Iterator[Facts]:
    """Draw the facts that the given entities own, without their mirrors.

    Args:
        population: of the world.
        latents: of N distinct entities.
        density: factor on the chance of every fact that is not certain; a chance ends at 1.

    Yields:
        Facts, no triple twice, no entity linked to itself.
    """
    chances = density * _activity(population, latents.ids)
    for kind in range(len(HOMES)):
        here = latents.kind == kind
        if not bool(here.any()):
            continue
        ids, homes = latents.ids[here], latents.home[here]
        if HOME_RELATIONS[kind]:
            yield Facts(RELATION_IDS[HOME_RELATIONS[kind]], ids, homes)
        for link in (link for link in LINKS if link.head == kind):
            own = {name: latents.attribute(name)[here] for name in link.shared}
            yield from _draw_link(population, link, ids, own, chances[here])
        for relation, _, second, chance in (law for law in COMPOSED if law[1] == kind):
            told = draw(population.seed, relation, ids, 1)[:, 0] < chance * chances[here]
            tails = population.home(homes[told]) if second == "located_in" else movements(population, homes[told])
            yield Facts(RELATION_IDS[relation], ids[told], tails)
        if kind == COUNTRY:
            yield from _draw_countries(population, ids)
        if kind == PERSON:
            yield _draw_couples(population, ids, chances[here])


def movements(population: Population, persons: Ints) -> Ints:
    """Return the movement each person belongs to, (N,)."""
    link = next(link for link in LINKS if link.relation == "belongs_to")
    latents = population.latents(persons)
    own = {name: latents.attribute(name) for name in link.shared}
    return _draw_tails(population, link, 0, persons, own)[0]


def _activity(population: Population, ids: Ints) -> Floats:
    # Log-uniform with mean 1: most entities own few facts, some many.
    numbers = draw(population.seed, "activity", ids, 1)[:, 0]
    return ACTIVITY_RANGE**numbers * LEAST_ACTIVITY


def _draw_tails(
    population: Population, link: Link, slot: int, ids: Ints, own: Mapping[str, Ints]
) -> tuple[Ints, Floats]:
    numbers = draw(population.seed, f"{link.relation}/{slot}", ids, 4)
    if link.earlier:
        return population.choose_earlier(link.shared, ids, numbers[:, 1]), numbers[:, 0]
    return population.choose(link.tail, population.blur(own, numbers[:, 2:]), numbers[:, 1]), numbers[:, 0]


def _draw_link(
    population: Population, link: Link, ids: Ints, own: Mapping[str, Ints], chances: Floats
) -> Iterator[Facts]:
    taken: list[Ints] = []
    for slot in range(link.slots):
        tails, numbers = _draw_tails(population, link, slot, ids, own)
        told: Bools = (tails >= 0) & (tails != ids)
        if not (slot == 0 and link.certain):
            told &= numbers < link.chance * chances
        for others in taken:
            told &= tails != others
        taken.append(np.where(told, tails, -1))
        yield Facts(RELATION_IDS[link.relation], ids[told], tails[told])


def _draw_countries(population: Population, ids: Ints) -> Iterator[Facts]:
    count, width = population.counts[COUNTRY], population.map_width
    local = ids - population.starts[COUNTRY]
    yield Facts(RELATION_IDS["capital"], ids, population.starts[CITY] + local)
    # Neighbours to the right and below; those to the left and above own the same border themselves.
    right = (local % width + 1 < width) & (local + 1 < count)
    yield Facts(RELATION_IDS["borders"], ids[right], ids[right] + 1)
    below = local + width < count
    yield Facts(RELATION_IDS["borders"], ids[below], ids[below] + width)


def _draw_couples(population: Population, ids: Ints, chances: Floats) -> Facts:
    # Persons 2m and 2m + 1 differ in style alone, which is the lowest digit; the odd one owns the fact.
    local = ids - population.starts[PERSON]
    told = (local % 2 == 1) & (draw(population.seed, "spouse", ids, 1)[:, 0] < SPOUSE_CHANCE * chances)
    return Facts(RELATION_IDS["spouse"], ids[told], ids[told] - 1)
