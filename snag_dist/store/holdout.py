"""Entities that training never sees: the store without them, and what is known of them.

They stand for the entities of tomorrow: a model of the others gives them codes from their pictures and texts alone, and
how well it does so is measured on the triples they have in the whole store. What is left is a store of its own,
`holdouts/<share>-<seed>/`; see `snag_dist.store.cut`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from snag_dist.config import Config
from snag_dist.errors import DataError
from snag_dist.random import Stream
from snag_dist.shard.partition import JointPartition
from snag_dist.store.cut import Cut, find_cut, make_cut, refuse_pair
from snag_dist.store.cut_records import HoldoutRecord
from snag_dist.store.gather import FeatureRows
from snag_dist.store.missing import MissingConfig
from snag_dist.store.opened import Store, rows_of_source_ids
from snag_dist.store.schema import HOLDOUTS

Ids = NDArray[np.int64]


class HoldoutConfig(Config):
    """Entities that a run is trained without, to measure what it makes of new ones."""

    share: float = Field(default=0.05, gt=0.0, le=0.5)
    """Share of the entities of the store that are held out, with all their triples."""
    seed: int = Field(default=0, ge=0)
    """Of the draw."""


def without_held(store: Store, config: HoldoutConfig, *, make: bool = True) -> Store:
    """Return the store without the entities that are held out.

    Args:
        store: of one graph.
        config: who is held out.
        make: where it is not there. One process does so; workers, which are many, find what the driver made.

    Raises:
        ConfigError: the store is of two graphs.
        DataError: no entity or no triple is held out, or no training or dev triple is left; a file of the store is
            damaged; or it is not there and is not to be made.
    """
    refuse_pair(store)
    held = _held(store, config)
    cut = _cut(store, config, held)
    if not make:
        return find_cut(store, cut)
    known = make_cut(store, cut)
    before, left = store.manifest.num_triples, known.manifest.num_triples
    emptied = [split for split, num in before.items() if num and not left[split]]
    if emptied or sum(before.values()) == sum(left.values()):
        found = f"no triple of split {emptied[0]!r} left" if emptied else "no triple of theirs"
        raise DataError(
            f"{store.path}: holdout: expected triples on both sides, got {int(held.sum())} entities held out and "
            f"{found}; choose another share or seed"
        )
    return known


def _cut(store: Store, config: HoldoutConfig, held: NDArray[np.bool_]) -> Cut:
    parent, num = store.manifest, int(held.sum())
    if num in (0, len(held)):
        raise DataError(
            f"{store.path}: holdout.share: expected a share that holds some of {len(held)} entities out, got "
            f"{config.share:g} and {num}; choose another"
        )
    record = HoldoutRecord(
        share=config.share,
        seed=config.seed,
        parent_fingerprint=parent.fingerprint,
        parent_entities=parent.num_entities,
        parent_triples=parent.num_triples,
    )
    return Cut(
        place=Path(HOLDOUTS) / f"{config.share!r}-{config.seed}",
        choice=("holdout", config.share, config.seed),
        members=lambda: ~held,
        title=f"all but {num} entities",
        record={"holdout": record},
    )


def _held(store: Store, config: HoldoutConfig) -> NDArray[np.bool_]:
    """Return (E,) which entities are held out, drawn by the number the source gave them."""
    drawn = Stream(config.seed, "store/holdout").uniform(torch.arange(store.num_entities), 1)[:, 0]
    held = np.empty(store.num_entities, dtype=np.bool_)
    held[store.rows_of_source_ids] = drawn.numpy() < config.share
    return held


@dataclass(frozen=True)
class NewEntities:
    """What the whole store knows of the entities that were held out of a part of it.

    All entities are numbered anew, so that every worker owns a share of both kinds: the ids of a `JointPartition`.

    Attributes:
        whole: the store that has them all.
        held: (E,) by row of the whole store, whether an entity is held out.
    """

    whole: Store
    held: NDArray[np.bool_]

    @classmethod
    def of(cls, whole: Store, config: HoldoutConfig) -> "NewEntities":
        """Find them again, as `without_held` drew them."""
        return cls(whole, _held(whole, config))

    @cached_property
    def rows(self) -> Ids:
        """Return (H,) their rows in the whole store, ascending."""
        return np.flatnonzero(self.held)

    def partition(self, num_workers: int) -> JointPartition:
        """Return who owns which of all entities."""
        return JointPartition(self.whole.num_entities, self.whole.virtual_shards, num_workers, num_new=len(self.rows))

    @cached_property
    def joint_ids(self) -> Ids:
        """Return (E,) the id that each row of the whole store has among all."""
        joint = self.partition(1)
        ids = np.empty(self.whole.num_entities, dtype=np.int64)
        ids[self.rows] = joint.ids_of_new(np.arange(len(self.rows)))
        # As the cut numbers what it keeps.
        in_order = self.whole.rows_of_source_ids
        kept = in_order[~self.held[in_order]]
        ids[kept] = joint.ids_of_known(rows_of_source_ids(self.whole.manifest.seed, len(kept)))
        return ids

    @cached_property
    def rows_of_ids(self) -> Ids:
        """Return (E,) the row in the whole store of each id among all."""
        rows = np.empty_like(self.joint_ids)
        rows[self.joint_ids] = np.arange(len(rows))
        return rows

    def triples(self, *splits: str) -> Ids:
        """Read splits of the whole store: (T, 3) int64, entities by their ids among all."""
        return np.concatenate(list(self.iter_triples(*splits)))

    def iter_triples(self, *splits: str) -> Iterator[Ids]:
        """Go through splits of the whole store without holding them, (n, 3) at a time as `triples`."""
        for split in splits:
            for triples in self.whole.iter_triples(split):
                triples[:, [0, 2]] = self.joint_ids[triples[:, [0, 2]]]
                yield triples

    def triples_of_new(self) -> Ids:
        """Return the distinct triples of all splits that have at least one of them, (T, 3) as `triples`."""
        pieces = self.iter_triples(*self.splits)
        of_new = [triples[self.held[self.rows_of_ids[triples[:, [0, 2]]]].any(axis=1)] for triples in pieces]
        return np.unique(np.concatenate(of_new), axis=0)

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits of the whole store that have triples."""
        return tuple(split for split, num in self.whole.manifest.num_triples.items() if num)

    def features(self, modality: str, missing: MissingConfig | None) -> FeatureRows:
        """Map the vectors of the whole store."""
        return FeatureRows.open(self.whole, modality, 0, self.whole.num_entities, missing=missing)
