"""Where a model is good and where it is not: the ranks of one evaluation, cut by facts of the store.

Nothing is ranked again. A slice is a set of queries; its metrics are sums over them, so every group of slices
adds up to the whole.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Self

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from snag_dist.ranking.metrics import RankMetrics
from snag_dist.ranking.ranks import RankTable
from snag_dist.store.gather import FeatureRows
from snag_dist.store.holdout import NewEntities
from snag_dist.store.missing import MissingConfig
from snag_dist.store.opened import Store

Ids = NDArray[np.int64]
Flags = NDArray[np.bool_]

DEGREE_BOUNDS = (0, 2, 5, 10, 20, 50, 100, 1000)
"""Largest degree of each bucket; the last bucket has no bound. About equal steps in the logarithm, as degrees
fall off like a power; 0 alone, since an entity without a train triple has nothing but its modalities."""

NEW_SIDE = "held out of training"
"""Name of the group of slices by which side of a query was held out of training."""
RELATION = "relation"
"""Name of the group of slices that has one for every relation."""


@dataclass(frozen=True)
class EntityFacts:
    """What slices ask of the entities and relations.

    Attributes:
        degree: (E,) train triples an entity has a part in; one with itself counts twice.
        present: by modality, (E,) whether an entity has it.
        relations: (R,) keys.
        new: (E,) whether an entity was held out of training; None where none was.
    """

    degree: Ids
    present: Mapping[str, Flags]
    relations: tuple[str, ...]
    new: Flags | None = None

    @classmethod
    def of_store(
        cls, store: Store, modalities: tuple[str, ...], missing: Mapping[str, MissingConfig] | None = None
    ) -> Self:
        """Read the facts: train triples part by part, presence from the bitmaps.

        Args:
            store: that was trained on.
            modalities: that are asked for.
            missing: who has lost one, by modality, as in training.

        Raises:
            DataError: the store lacks a modality or its train split, or a file has changed.
        """
        degree = np.zeros(store.num_entities, dtype=np.int64)
        for part in store.triple_parts("train"):
            table = pq.read_table(part, columns=["head", "tail"])
            for column in ("head", "tail"):
                degree += np.bincount(table[column].to_numpy(), minlength=store.num_entities)
        lost, num = missing or {}, store.num_entities
        present = {name: FeatureRows.open(store, name, 0, num, lost.get(name)).present for name in modalities}
        return cls(degree, present, tuple(store.relations()["key"].to_pylist()))

    def of_whole(self, new: NewEntities, features: Mapping[str, FeatureRows]) -> Self:
        """Return the facts of all entities of the whole store, those held out included; these are of the others.

        Args:
            new: the entities held out.
            features: of the whole store, by modality.
        """
        rows_of_known = new.rows_of_ids[new.partition(1).ids_of_known(np.arange(len(self.degree)))]
        degree = np.zeros(len(new.held), dtype=np.int64)
        degree[rows_of_known] = self.degree
        present = {name: features[name].present.copy() for name in self.present}
        for name, flags in present.items():
            # Of known entities as training saw them, whatever the whole store has.
            flags[rows_of_known] = self.present[name]
        return replace(self, degree=degree, present=present, new=new.held)


@dataclass(frozen=True)
class Slice:
    """Queries that have something in common.

    Attributes:
        group: what the queries were cut by; the slices of a group hold every query once.
        name: of this slice within the group.
        metrics: over its queries, at least one.
    """

    group: str
    name: str
    metrics: RankMetrics


def cut(table: RankTable, facts: EntityFacts) -> list[Slice]:
    """Cut the queries in all ways there are: group after group, slices in the order of their labels.

    Args:
        table: ranks; entities as rows, relations as ids of the store the facts come from.
        facts: of that store.

    Returns:
        Slices that have queries. Groups: direction; degree of the known entity and of the answer; whether an
        entity of the triple is unseen in train; where entities were held out, which side was; each modality of the
        known entity and of the answer; relation.
    """
    return [
        Slice(group, names[label], RankMetrics.of(table.take(index)))
        for group, labels, names in _groups(table, facts)
        for label, index in _split(labels)
    ]


def _groups(table: RankTable, facts: EntityFacts) -> Iterator[tuple[str, Ids, tuple[str, ...]]]:
    yield "direction", table.find_tail.astype(np.int64), ("head", "tail")
    sides = {"known entity": table.known, "answer": table.answer}
    for side, rows in sides.items():
        buckets = np.searchsorted(np.array(DEGREE_BOUNDS), facts.degree[rows]).astype(np.int64)
        yield f"train degree of {side}", buckets, degree_names()
    unseen = (facts.degree[table.head] == 0) | (facts.degree[table.tail] == 0)
    yield "unseen in train", unseen.astype(np.int64), ("neither entity", "an entity")
    if facts.new is not None:
        sides_new = facts.new[table.known] + 2 * facts.new[table.answer].astype(np.int64)
        yield NEW_SIDE, sides_new, ("neither", "known entity", "answer", "both")
    for modality, present in facts.present.items():
        for side, rows in sides.items():
            yield f"{modality} of {side}", present[rows].astype(np.int64), ("missing", "present")
    yield RELATION, table.relation, facts.relations


def degree_names() -> tuple[str, ...]:
    """Name the degree buckets: 0, 1-2, 3-5, ..., over 1000."""
    return ("0", *(f"{low + 1}-{high}" for low, high in pairwise(DEGREE_BOUNDS)), f"over {DEGREE_BOUNDS[-1]}")


def _split(labels: Ids) -> Iterator[tuple[int, Ids]]:
    # One sort for all labels: a mask for each of thousands of relations would read the table as often.
    order = np.argsort(labels, kind="stable")
    values, starts = np.unique(labels[order], return_index=True)
    yield from zip(values.tolist(), np.split(order, starts[1:]), strict=True)
