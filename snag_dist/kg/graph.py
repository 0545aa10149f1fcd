"""The one shape a knowledge graph has in memory: keys in the order of their ids, triples of ids by split."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from snag_dist.errors import DataError

SPLITS = ("train", "valid", "test")
COLUMNS = ("head", "relation", "tail")


@dataclass(frozen=True)
class Graph:
    """A graph whose ids are dense: id i is the i-th key.

    Attributes:
        entities: (E,) keys, distinct.
        relations: (R,) keys, distinct.
        triples: split name (one of `SPLITS`) to (T, 3) int64, columns **head, relation, tail**, whatever
            order the file had.
        entity_names, relation_names: (E,) and (R,) human labels; None where the source has none.
        skipped_literals: split name to the statements left out of it because their object is a literal, not
            an entity (N-Triples); empty for other layouts.

    Raises:
        DataError: at construction, if a split is unknown or not (T, 3), an id is out of range, or the labels
            are not one per key.
    """

    entities: tuple[str, ...]
    relations: tuple[str, ...]
    triples: Mapping[str, NDArray[np.int64]]
    entity_names: tuple[str, ...] | None = None
    relation_names: tuple[str, ...] | None = None
    skipped_literals: Mapping[str, int] = field(default_factory=dict[str, int])

    def __post_init__(self) -> None:
        for split, triples in self.triples.items():
            if split not in SPLITS:
                raise DataError(f"split {split!r}: expected one of {', '.join(SPLITS)}; rename the split")
            if triples.ndim != 2 or triples.shape[1] != 3 or triples.dtype != np.int64:
                raise DataError(
                    f"split {split!r}: expected a (T, 3) int64 array of triples, got {triples.shape} "
                    f"{triples.dtype}; pass head, relation, tail as three int64 columns"
                )
            bad = find_bad_id(triples, self.num_entities, self.num_relations)
            if bad is not None:
                row, column = bad
                raise DataError(
                    f"split {split!r} row {row}: {COLUMNS[column]} id {triples[row, column]} is not in "
                    f"[0, {self._limit(column)}); mend the triple or add its {_what(column)}"
                )
        self._check_names("entity_names", self.entity_names, self.num_entities)
        self._check_names("relation_names", self.relation_names, self.num_relations)

    @property
    def num_entities(self) -> int:
        return len(self.entities)

    @property
    def num_relations(self) -> int:
        return len(self.relations)

    def split(self, name: str) -> NDArray[np.int64]:
        """Return the (T, 3) triples of a split; (0, 3) if the graph does not have it."""
        return self.triples.get(name, np.empty((0, 3), dtype=np.int64))

    def all_triples(self) -> NDArray[np.int64]:
        """Return the triples of all splits, (T, 3), train first, duplicates kept."""
        return np.concatenate([self.split(name) for name in SPLITS])

    def _limit(self, column: int) -> int:
        return self.num_relations if column == 1 else self.num_entities

    @staticmethod
    def _check_names(what: str, names: tuple[str, ...] | None, expected: int) -> None:
        if names is not None and len(names) != expected:
            raise DataError(f"{what}: expected {expected} labels, one per key, got {len(names)}; leave none out")


def encode_triples(graph: Graph) -> dict[str, NDArray[np.int64]]:
    """Give every triple one number, the same for equal triples of any split, for set operations.

    Returns:
        Split name to (T,) int64; numbers of different graphs cannot be compared.
    """
    everything = graph.all_triples()
    # (head, relation) is numbered first: all three ids multiplied would pass 2^63 at 90 M entities.
    pairs = np.unique(everything[:, 0] * graph.num_relations + everything[:, 1], return_inverse=True)[1]
    codes = pairs.astype(np.int64, copy=False) * graph.num_entities + everything[:, 2]
    ends = np.cumsum([len(graph.split(name)) for name in SPLITS])
    return dict(zip(SPLITS, np.split(codes, ends[:-1]), strict=True))


def find_bad_id(triples: NDArray[np.int64], num_entities: int, num_relations: int) -> tuple[int, int] | None:
    """Return (row, column) of the first id outside its range, None if all are inside.

    Args:
        triples: (T, 3) int64, columns head, relation, tail.
    """
    if not len(triples):
        return None
    limits = np.array([num_entities, num_relations, num_entities], dtype=np.int64)
    # Two reductions settle the usual case without a (T, 3) mask.
    if bool((triples.min(axis=0) >= 0).all() and (triples.max(axis=0) < limits).all()):
        return None
    outside = (triples < 0) | (triples >= limits)
    row = int(outside.any(axis=1).argmax())
    return row, int(outside[row].argmax())


def _what(column: int) -> str:
    return "relation" if column == 1 else "entity"
