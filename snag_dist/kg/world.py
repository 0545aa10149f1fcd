"""The generated world: a graph with planted structure, sentences and pictures, drawn from a seed at any size.

Painters, their paintings, and the cities, countries, academies, museums, galleries and movements around them have
latent attributes (style, colour, theme, era, position). Facts follow from the attributes; a sentence tells style, theme
and era; a picture shows style, colour and position. The graph is sparse: an entity is sure of two facts, which rest on
different attributes, and most have few others. So the training facts of an entity leave open more than a third of the
attributes that its test facts rest on; its sentence and picture tell most of them. As the truth is known, what a
modality is worth can be measured.

Everything is a pure function of (seed, id): the graph built at once and the blocks streamed to disk are the same
triples, and a block costs the memory of its own entities whatever the size of the world.

**Splits.** The split of a fact is a pure function of its triple, and these rules hold at any size:

- no triple occurs twice, so train, valid and test are disjoint;
- a fact and its mirror (`painted_by` and `painted`, `spouse` both ways) lie in the same split: no test triple has its
  inverse in train, so the inverse pairs can be learnt but give no test answer away;
- of the two kinds of fact that every entity is sure to own, one, drawn by id, lies in train whatever else
  happens: every entity of valid and test is seen in training;
- composed facts stay what they are: the premises of a test fact (`born_in`, then `located_in`) are often in train.
  Finding it through them is reasoning, which is wanted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from snag_dist.config import Config
from snag_dist.errors import ConfigError
from snag_dist.kg.graph import SPLITS, Graph
from snag_dist.kg.world_counts import expect_triples
from snag_dist.kg.world_facts import (
    IS_TOLD_BY_TAIL,
    MIRRORS,
    RELATIONS,
    anchor_relations,
    draw_facts,
)
from snag_dist.kg.world_latents import KINDS, Latents, Population, draw
from snag_dist.kg.world_order import Bools, Ints
from snag_dist.kg.world_pictures import Pixels, draw_pictures
from snag_dist.kg.world_text import write_names, write_sentences

_LARGEST = 600_000_000


class WorldConfig(Config):
    """What a generated world is made of."""

    kind: Literal["world"] = "world"
    """Tells a generated world from the other sources of a graph."""
    seed: int = 0
    """Of everything in the world; another seed is another world."""
    num_entities: int = Field(default=2000, ge=200, le=_LARGEST)
    """Entities of all kinds together."""
    density: float = Field(default=1.0, gt=0.0, le=40.0)
    """Factor on the chance of every fact that is not certain, up to a chance of 1. At density 1 there are about 3.8
    triples an entity, of which 1.2 are of this kind; at 40 all facts there can be, 9.9 an entity."""
    noise: float = Field(default=0.05, ge=0.0, le=1.0)
    """Share of the facts that follow a random attribute instead of the true one."""
    valid_share: float = Field(default=0.1, gt=0.0, le=0.3)
    """Share of the triples in valid."""
    test_share: float = Field(default=0.1, gt=0.0, le=0.3)
    """Share of the triples in test."""
    picture_side: int = Field(default=32, ge=8, le=512)
    """Height and width of a picture, in pixels."""
    missing_pictures: float = Field(default=0.25, ge=0.0, le=1.0)
    """Share of the entities without a picture."""
    wrong_pictures: float = Field(default=0.1, ge=0.0, le=1.0)
    """Share of the existing pictures that show another entity."""
    wrong_words: float = Field(default=0.05, ge=0.0, le=1.0)
    """Share of the attributes in a sentence that are told wrong."""


@dataclass(frozen=True)
class EntityBlock:
    """Consecutive entities of a world.

    Attributes:
        keys: (N,) names in the graph.
        names: (N,) human labels.
        latents: their ground truth, ids included.
    """

    keys: tuple[str, ...]
    names: tuple[str, ...]
    latents: Latents


@dataclass(frozen=True)
class TripleBlock:
    """The triples that consecutive entities own.

    Attributes:
        triples: (T, 3) int64 ids, columns head, relation, tail.
        splits: (T,) index into `SPLITS`.
    """

    triples: Ints
    splits: Ints


class World:
    """A generated world; holds nothing but its config, so it costs nothing at any size.

    Attributes:
        expected_triples: how many it has, by the chances of its facts.

    Raises:
        ConfigError: more triples are asked for in valid and test than the anchors leave.
    """

    def __init__(self, config: WorldConfig) -> None:
        self.config = config
        self._population = Population(config.seed, config.num_entities, config.noise)
        expected = expect_triples(self._population, config.density)
        self.expected_triples = round(expected.total)
        # The anchors lie in train, so the other facts go to valid and test more often.
        self._free_share = 1.0 - expected.anchored / expected.total
        if config.valid_share + config.test_share > self._free_share:
            raise ConfigError(
                f"valid_share + test_share: expected at most {self._free_share:.2f} together, got "
                f"{config.valid_share + config.test_share:g}; every entity keeps a fact in train: lower them"
            )

    @property
    def num_entities(self) -> int:
        return self.config.num_entities

    @property
    def relations(self) -> tuple[str, ...]:
        """Keys of the relations, in the order of their ids."""
        return tuple(relation.key for relation in RELATIONS)

    @property
    def relation_names(self) -> tuple[str, ...]:
        """Human labels of the relations, in the order of their ids."""
        return tuple(key.replace("_", " ") for key in self.relations)

    def ids(self) -> Ints:
        """Return all ids, (E,)."""
        return np.arange(self.num_entities, dtype=np.int64)

    def latents(self, ids: Ints) -> Latents:
        """Return the ground truth of these entities."""
        return self._population.latents(ids)

    def keys(self, ids: Ints) -> list[str]:
        """Return the key of each entity, its kind and its index within the kind: `person/17`."""
        population = self._population
        pairs = zip(population.kinds(ids), population.local(ids), strict=True)
        return [f"{KINDS[int(kind)]}/{int(local)}" for kind, local in pairs]

    def names(self, ids: Ints) -> list[str]:
        """Return the human label of each entity; two may share one."""
        return write_names(self._population, ids)

    def texts(self, ids: Ints) -> list[str]:
        """Return the sentence about each entity."""
        return write_sentences(self._population, self.latents(ids), self.config.wrong_words)

    def pictures(self, ids: Ints) -> tuple[Pixels, Bools]:
        """Return the picture of each entity.

        Args:
            ids: (N,) entities.

        Returns:
            (N, side, side, 3) red, green, blue, zero where there is none; and (N,) whether there is one.
        """
        shown = self.shown(ids)
        present = shown >= 0
        side = self.config.picture_side
        pictures = np.zeros((len(ids), side, side, 3), dtype=np.uint8)
        pictures[present] = draw_pictures(self.config.seed, self.latents(shown[present]), side)
        return pictures, present

    def shown(self, ids: Ints) -> Ints:
        """Return the entity that each one's picture shows, (N,): itself, another where it is wrong, -1 for none."""
        numbers = draw(self.config.seed, "pictures", ids, 3)
        step = 1 + (numbers[:, 2] * (self.num_entities - 1)).astype(np.int64)
        shown = np.where(numbers[:, 1] < self.config.wrong_pictures, (ids + step) % self.num_entities, ids)
        return np.where(numbers[:, 0] < self.config.missing_pictures, -1, shown)

    def split_of(self, triples: Ints) -> Ints:
        """Return the split of facts of this world, as indices into `SPLITS`.

        Args:
            triples: (T, 3) ids, columns head, relation, tail.
        """
        # A fact and its mirror are one: it is looked up as its owner tells it, a symmetric one with the lower id first.
        mirrors = MIRRORS[triples[:, 1]]
        turned = IS_TOLD_BY_TAIL[triples[:, 1]]
        turned |= (mirrors == triples[:, 1]) & (triples[:, 0] > triples[:, 2])
        heads, tails = np.where(turned, triples[:, ::2].T[::-1], triples[:, ::2].T)
        relations = np.where(turned, mirrors, triples[:, 1])
        address = (heads * len(RELATIONS) + relations) * self.num_entities + tails
        number = draw(self.config.seed, "split", address, 1)[:, 0] * self._free_share
        valid, test = self.config.valid_share, self.config.test_share
        splits = np.where(number < valid, 1, np.where(number < valid + test, 2, 0))
        return np.where(anchor_relations(self._population, heads) == relations, 0, splits)

    def iter_entity_blocks(self, block_size: int) -> Iterator[EntityBlock]:
        """Go through the entities in the order of their ids, `block_size` at a time.

        Raises:
            ConfigError: `block_size` is below 1.
        """
        for ids in self.blocks(block_size):
            yield EntityBlock(tuple(self.keys(ids)), tuple(self.names(ids)), self.latents(ids))

    def iter_triple_blocks(self, block_size: int) -> Iterator[TripleBlock]:
        """Go through all triples, those owned by `block_size` entities at a time, in the order of the owners.

        The blocks joined are the same array for any block size.

        Raises:
            ConfigError: `block_size` is below 1.
        """
        for ids in self.blocks(block_size):
            yield self.facts(ids)

    def facts(self, ids: Ints) -> TripleBlock:
        """Return the triples that consecutive entities own, in the order of the owners."""
        triples = self._triples_of(ids)
        return TripleBlock(triples, self.split_of(triples))

    def graph(self) -> Graph:
        """Build the whole graph in memory."""
        block = next(self.iter_triple_blocks(self.num_entities))
        ids = self.ids()
        return Graph(
            entities=tuple(self.keys(ids)),
            relations=self.relations,
            triples={split: block.triples[block.splits == row] for row, split in enumerate(SPLITS)},
            entity_names=tuple(self.names(ids)),
            relation_names=self.relation_names,
        )

    def blocks(self, block_size: int) -> Iterator[Ints]:
        """Go through all ids, `block_size` at a time.

        Raises:
            ConfigError: `block_size` is below 1.
        """
        if block_size < 1:
            raise ConfigError(f"block_size: expected at least 1, got {block_size}; ask for one entity or more")
        for start in range(0, self.num_entities, block_size):
            yield np.arange(start, min(start + block_size, self.num_entities), dtype=np.int64)

    def _triples_of(self, ids: Ints) -> Ints:
        facts = list(draw_facts(self._population, self.latents(ids), self.config.density))
        heads = np.concatenate([fact.heads for fact in facts])
        tails = np.concatenate([fact.tails for fact in facts])
        relations = np.concatenate([np.full(len(fact.heads), fact.relation, dtype=np.int64) for fact in facts])
        mirrors = MIRRORS[relations]
        told = np.stack([heads, relations, tails], axis=1)
        mirrored = np.stack([tails, mirrors, heads], axis=1)
        both = np.stack([told, mirrored], axis=1)
        kept = np.stack([np.ones(len(told), dtype=np.bool_), mirrors >= 0], axis=1)
        order = np.argsort(heads, kind="stable")
        return both[order].reshape(-1, 3)[kept[order].reshape(-1)]
