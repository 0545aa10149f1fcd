"""Triples gathered by the two entities they link, whichever way round: what the audit joins lies side by side."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from snag_dist.kg.graph import SPLITS

Ids = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class PairGroups:
    """The N distinct triples of all splits, sorted by pair, direction and relation.

    Attributes:
        heads, relations, tails: (N,) ids.
        group: (N,) number of the unordered pair, ascending.
        turned: (N,) whether the head has the higher id of the two.
        splits: (N,) the splits a triple stands in, bit i for `SPLITS[i]`.
    """

    heads: Ids
    relations: Ids
    tails: Ids
    group: Ids
    turned: Bools
    splits: NDArray[np.uint8]

    @classmethod
    def build(cls, triples: Mapping[str, Ids], num_entities: int, num_relations: int) -> "PairGroups":
        """Sort triples: 10 int64 a triple at most, duplicates dropped.

        Args:
            triples: split name to (T, 3) int64, columns head, relation, tail.
            num_entities: E, at most 3 * 10^9.
            num_relations: R.
        """
        present = [split for split in SPLITS if split in triples]
        together = np.concatenate([triples[split] for split in present])
        numbers = np.repeat([SPLITS.index(split) for split in present], [len(triples[split]) for split in present])
        heads, relations, tails = together.T
        pairs = np.minimum(heads, tails) * num_entities + np.maximum(heads, tails)
        order = np.argsort(pairs)
        pairs = pairs[order]
        group = np.cumsum(_is_new(pairs)) - 1
        # One number a triple: its values sort faster than rows would, and hold all that is needed.
        codes = (group * 2 + (heads > tails)[order]) * num_relations + relations[order]
        codes = np.sort(codes * len(SPLITS) + numbers[order])
        codes, split = np.divmod(codes[_is_new(codes)], len(SPLITS))
        first = np.flatnonzero(_is_new(codes))
        splits = np.bitwise_or.reduceat((1 << split).astype(np.uint8), first) if len(first) else np.empty(0, np.uint8)
        rest, relations = np.divmod(codes[first], num_relations)
        group, turned = rest >> 1, (rest & 1).astype(np.bool_)
        low, high = np.divmod(pairs[_is_new(pairs)][group], num_entities)
        heads, tails = high.copy(), low.copy()
        heads[~turned], tails[~turned] = low[~turned], high[~turned]
        return cls(heads, relations, tails, group, turned, splits)

    def __len__(self) -> int:
        return len(self.group)

    def within(self, split: str) -> Bools:
        """Return (N,) whether each triple stands in a split."""
        return (self.splits >> SPLITS.index(split) & 1).astype(np.bool_)

    def loops(self) -> Bools:
        """Return (N,) whether head and tail are one entity."""
        return self.heads == self.tails

    def neighbours(self, rows: Ids) -> tuple[Ids, Ids]:
        """Return for each of these triples all triples of its pair, itself included: its row, and their row."""
        begins = np.flatnonzero(_is_new(self.group))
        lengths = np.diff(begins, append=len(self))
        group = self.group[rows]
        num = lengths[group]
        of = np.repeat(rows, num)
        within = np.arange(len(of), dtype=np.int64) - np.repeat(np.cumsum(num) - num, num)
        return of, np.repeat(begins[group], num) + within

    def shared(self) -> Ids:
        """Return the rows whose pair has more than one triple."""
        sizes = np.bincount(self.group)
        return np.flatnonzero(sizes[self.group] > 1).astype(np.int64, copy=False)


def _is_new(ascending: Ids) -> Bools:
    """Return (n,) whether each value differs from the one before."""
    new = np.ones(len(ascending), dtype=np.bool_)
    np.not_equal(ascending[1:], ascending[:-1], out=new[1:])
    return new
