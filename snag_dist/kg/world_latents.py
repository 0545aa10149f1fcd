"""The truth of the generated world: who lives in it, and what every entity is like before any fact is drawn.

The world is one of painters. Everything about an entity is a pure function of (seed, id):

- **Kind** follows from the id: each kind owns one range of ids.
- **Digits.** The discrete attributes that others refer to lie in the id like digits: local index
  `l = style + 8 * (colour + 8 * (theme + 8 * rank))` for a person. So "the third city that is blue and by the sea"
  is arithmetic, no list of the cities is ever held, and a block of any size can name entities outside of it.
- **Home.** Every entity but a country comes from one other: a city from a country, a person from the city of birth, a
  painting from its painter. The two share some attributes, and position comes down from home to home.
- **Popularity** falls with the place in an order of the candidates, which gives the degrees a power-law tail.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from snag_dist.kg.world_order import Floats, Ints, Order, draw_place
from snag_dist.random import Stream

KINDS = ("country", "city", "academy", "museum", "gallery", "movement", "person", "painting")
COUNTRY, CITY, ACADEMY, MUSEUM, GALLERY, MOVEMENT, PERSON, PAINTING = range(len(KINDS))
STYLES = ("layered", "upright", "slanting", "geometric", "dotted", "circular", "plain", "shaded")
COLOURS = ("red", "orange", "yellow", "green", "turquoise", "blue", "purple", "grey")
THEMES = ("sea", "mountain", "forest", "desert", "river", "field", "garden", "snow")
NUM_PERIODS = 4
FIRST_YEAR, NUM_YEARS = 1800, 200

SIZES = {"style": len(STYLES), "colour": len(COLOURS), "theme": len(THEMES), "period": NUM_PERIODS}
# Which attributes of a kind can be looked up by arithmetic, lowest digit first.
DIGITS: tuple[tuple[str, ...], ...] = (
    ("theme",),
    ("theme", "colour"),
    ("style", "theme"),
    ("theme", "period"),
    ("colour", "period"),
    ("style", "period"),
    ("style", "colour", "theme"),
    ("style", "colour", "theme"),
)
# Share of the entities and least number of each kind; paintings take the rest.
_SHARES = ((0.015, 9), (0.08, 20), (0.048, 12), (0.048, 12), (0.048, 12), (0.032, 12), (0.35, 50))
# Kind of an entity's home, and what the two have in common; a country has none.
HOMES: tuple[tuple[int, tuple[str, ...]], ...] = (
    (-1, ()),
    (COUNTRY, ("theme",)),
    (CITY, ("theme", "colour")),
    (CITY, ("theme", "colour")),
    (CITY, ("theme", "colour")),
    (CITY, ("theme", "colour")),
    (CITY, ("theme", "colour")),
    (PERSON, ("style", "colour")),
)


@dataclass(frozen=True)
class Latents:
    """What N entities are like: the ground truth behind facts, sentences and pictures.

    Attributes:
        ids: (N,) entities.
        kind: (N,) index into `KINDS`.
        style, colour, theme: (N,) index into `STYLES`, `COLOURS`, `THEMES`.
        era: (N,) share of the world's time that had passed, in [0, 1).
        position: (N, 2) place on the map, each coordinate in [0, 1].
        home: (N,) the entity this one comes from; -1 for a country.
    """

    ids: Ints
    kind: Ints
    style: Ints
    colour: Ints
    theme: Ints
    era: Floats
    position: Floats
    home: Ints

    @property
    def period(self) -> Ints:
        """(N,) quarter of the world's time, in [0, 4)."""
        return (self.era * NUM_PERIODS).astype(np.int64)

    @property
    def year(self) -> Ints:
        """(N,) calendar year."""
        return FIRST_YEAR + (self.era * NUM_YEARS).astype(np.int64)

    def attribute(self, name: str) -> Ints:
        """Return one of the discrete attributes of `SIZES`, (N,)."""
        return {"style": self.style, "colour": self.colour, "theme": self.theme, "period": self.period}[name]


def draw(seed: int, name: str, ids: Ints, width: int) -> Floats:
    """Draw (N, width) uniform numbers in [0, 1), a pure function of (seed, name, id)."""
    numbers = Stream(seed, f"world/{name}").uniform(torch.as_tensor(ids), width, torch.float64)
    return np.asarray(numbers.numpy(), dtype=np.float64)


def _digits(kind: int) -> dict[str, int]:
    return {name: SIZES[name] for name in DIGITS[kind]}


class Population:
    """The entities of a world of a given size, addressed by id.

    Args:
        seed: of the world.
        num_entities: of all kinds together, at least 200.
        noise: share of the homes that follow a random attribute instead of the entity's own, in [0, 1].
    """

    def __init__(self, seed: int, num_entities: int, noise: float) -> None:
        self.seed = seed
        self.num_entities = num_entities
        self.noise = noise
        counts = [max(least, int(share * num_entities)) for share, least in _SHARES]
        counts.append(num_entities - sum(counts))
        self.counts = tuple(counts)
        self.starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self.map_width = int(np.ceil(np.sqrt(self.counts[COUNTRY])))

    def ids_of(self, kind: int) -> Ints:
        """Return all ids of a kind, (n,)."""
        return np.arange(int(self.starts[kind]), int(self.starts[kind + 1]), dtype=np.int64)

    def kinds(self, ids: Ints) -> Ints:
        """Return the kind of each id, (N,)."""
        return np.searchsorted(self.starts, ids, side="right").astype(np.int64) - 1

    def local(self, ids: Ints) -> Ints:
        """Return the index of each id within its kind, (N,)."""
        return ids - self.starts[self.kinds(ids)]

    def home(self, ids: Ints) -> Ints:
        """Return the entity each one comes from, (N,); -1 for a country."""
        kinds = self.kinds(ids)
        homes = np.full(len(ids), -1, dtype=np.int64)
        for kind, (home_kind, shared) in enumerate(HOMES):
            here = kinds == kind
            if home_kind >= 0 and bool(here.any()):
                homes[here] = self._home_of_kind(kind, home_kind, shared, ids[here])
        return homes

    def _home_of_kind(self, kind: int, home_kind: int, shared: tuple[str, ...], ids: Ints) -> Ints:
        numbers = draw(self.seed, "home", ids, 3)
        own = self._own_attributes(kind, ids)
        homes = self.choose(home_kind, self.blur({name: own[name] for name in shared}, numbers[:, 1:]), numbers[:, 0])
        if kind != CITY:
            return homes
        # City c is the capital of country c: so a country finds its capital without a search.
        local = ids - self.starts[CITY]
        return np.where(local < self.counts[COUNTRY], self.starts[COUNTRY] + local, homes)

    def latents(self, ids: Ints) -> Latents:
        """Return everything about these entities; any ids, in any order, repeated or not."""
        kinds, homes = self.kinds(ids), self.home(ids)
        columns = {name: np.zeros(len(ids), dtype=np.int64) for name in ("style", "colour", "theme")}
        era, position = np.zeros(len(ids)), np.zeros((len(ids), 2))
        for kind in range(len(KINDS)):
            here = kinds == kind
            if not bool(here.any()):
                continue
            own = self._own_attributes(kind, ids[here])
            for name, column in columns.items():
                column[here] = own[name]
            era[here] = self._era(kind, ids[here])
            position[here] = self._position(kind, ids[here], homes[here])
        return Latents(ids, kinds, columns["style"], columns["colour"], columns["theme"], era, position, homes)

    def _own_attributes(self, kind: int, ids: Ints) -> dict[str, Ints]:
        numbers = draw(self.seed, "attributes", ids, len(SIZES))
        own = {name: (numbers[:, i] * size).astype(np.int64) for i, (name, size) in enumerate(SIZES.items())}
        rest = ids - self.starts[kind]
        for name in DIGITS[kind]:
            rest, own[name] = np.divmod(rest, SIZES[name])
        return own

    def _era(self, kind: int, ids: Ints) -> Floats:
        within = draw(self.seed, "era", ids, 1)[:, 0]
        if "period" not in DIGITS[kind]:
            return within
        return (self._own_attributes(kind, ids)["period"] + within) / NUM_PERIODS

    def _position(self, kind: int, ids: Ints, homes: Ints) -> Floats:
        # Down the homes to the country: painting, person, city, country.
        if kind == COUNTRY:
            local = ids - self.starts[COUNTRY]
            corner = np.stack(np.divmod(local, self.map_width)[::-1], axis=1)
            return (corner + 0.5) / self.map_width
        home_kind = HOMES[kind][0]
        place = self._position(home_kind, homes, self.home(homes))
        if kind != CITY:
            return place
        offset = (draw(self.seed, "position", ids, 2) - 0.5) / self.map_width
        return np.clip(place + offset, 0.0, 1.0)

    def blur(self, attributes: Mapping[str, Ints], numbers: Floats) -> dict[str, Ints]:
        """Replace the attributes of a random share of the rows, `noise`, by others.

        Args:
            attributes: name to (N,) values.
            numbers: (N, 2) uniform: whether, and by how much.
        """
        struck = numbers[:, 0] < self.noise
        code = (numbers[:, 1] * 2**20).astype(np.int64)
        blurred: dict[str, Ints] = {}
        for name, values in attributes.items():
            code, moved = np.divmod(code, SIZES[name])
            blurred[name] = np.where(struck, (values + moved) % SIZES[name], values)
        return blurred

    def choose(self, kind: int, attributes: Mapping[str, Ints], numbers: Floats) -> Ints:
        """Draw an entity of a kind with the given attributes, the popular ones more often.

        Args:
            kind: of the entity to draw.
            attributes: some of the kind's digits, name to (N,) values.
            numbers: (N,) uniform.

        Returns:
            (N,) ids. Where the world is too small to hold the combination, some entity of the kind.
        """
        order = Order(self.counts[kind], _digits(kind), tuple(attributes))
        return self.starts[kind] + order.member(attributes, draw_place(numbers, order.length))

    def choose_earlier(self, shared: tuple[str, ...], ids: Ints, numbers: Floats) -> Ints:
        """Draw an entity of the same kind and attributes that comes before in their order of popularity.

        As nobody is chosen by one who comes before, no pair is drawn twice, whichever way round.

        Args:
            shared: names of digits that both must have in common.
            ids: (N,) entities of one kind.
            numbers: (N,) uniform.

        Returns:
            (N,) ids; -1 where nobody comes before.
        """
        kind = int(self.kinds(ids[:1])[0])
        order = Order(self.counts[kind], _digits(kind), shared)
        own = self._own_attributes(kind, ids)
        place = order.place(ids - self.starts[kind], own)
        found = order.member(own, draw_place(numbers, place))
        other = self._own_attributes(kind, self.starts[kind] + found)
        alike = np.all([own[name] == other[name] for name in shared], axis=0)
        before = (place > 0) & alike & (order.place(found, other) < place)
        return np.where(before, self.starts[kind] + found, -1)
