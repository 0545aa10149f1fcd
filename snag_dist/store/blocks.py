"""A block of triples on its way from a source into the store: keys or source ids in, rows out."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from snag_dist.errors import DataError
from snag_dist.kg.graph import COLUMNS
from snag_dist.random import Stream
from snag_dist.store.schema import TRIPLE_SCHEMA

Ints = NDArray[np.int64]

UNKNOWN = -1
"""Stands where a source names something that is not there; no table of a finished store holds it."""


@dataclass(frozen=True)
class Block:
    """Consecutive triples of one split.

    Attributes:
        split: which one.
        columns: head, relation, tail, (T,) each: int64 source ids, or large_string keys.
        explain: (row of the block, column 0 to 2, what was expected) to the error for a value that is not known;
            None where all are known.
        num_literals: statements about literals that were left out of it.
    """

    split: str
    columns: tuple[pa.Array, pa.Array, pa.Array]
    explain: Callable[[int, int, str], DataError] | None = None
    num_literals: int = 0

    def __len__(self) -> int:
        return len(self.columns[0])


@dataclass(frozen=True)
class Rows:
    """Entity rows by a seeded permutation of source ids, a pure function: nothing is held, whatever E is.

    Source: design.md, section 2.
    """

    seed: int
    num: int

    def of(self, ids: Ints) -> Ints:
        """Return the row of each source id, (n,)."""
        return self._stream.permute(torch.tensor(ids), self.num).numpy()

    def ids(self, rows: Ints) -> Ints:
        """Return the source id of each row, (n,)."""
        return self._stream.unpermute(torch.tensor(rows), self.num).numpy()

    @property
    def _stream(self) -> Stream:
        return Stream(self.seed, "store/rows")


@dataclass(frozen=True)
class InOrder:
    """Relation ids, which stay as the source has them."""

    num: int

    def of(self, ids: Ints) -> Ints:
        """Return the ids."""
        return ids

    def ids(self, rows: Ints) -> Ints:
        """Return the ids."""
        return rows


Places = Rows | InOrder
"""Where a store puts what a source numbers."""


def place(ids: Ints, places: Places) -> Ints:
    """Return the place of each source id, (n,); `UNKNOWN` where it is out of range."""
    known = (ids >= 0) & (ids < places.num)
    if bool(known.all()):
        return places.of(ids)
    placed = np.full(len(ids), UNKNOWN, dtype=np.int64)
    placed[known] = places.of(ids[known])
    return placed


def as_ids(column: pa.Array) -> Ints:
    """Return a column of integers as (T,) int64; `UNKNOWN` where one is missing."""
    return column.cast(pa.int64()).fill_null(UNKNOWN).to_numpy()


def are_keys(column: pa.Array) -> bool:
    """Return whether a column of triples holds keys."""
    return pa.types.is_large_string(column.type)


def rows_table(heads: Ints, relations: Ints, tails: Ints) -> pa.Table:
    """Return triples as the store keeps them."""
    columns = [heads, relations.astype(np.int32), tails]
    return pa.table([pa.array(column) for column in columns], schema=TRIPLE_SCHEMA)


def check_known(block: Block, table: pa.Table, limits: tuple[str, str]) -> None:
    """Refuse a block that names something unknown.

    Args:
        block: as it came.
        table: the same as rows.
        limits: what was expected of an entity, and of a relation.

    Raises:
        DataError: naming the first place.
    """
    for column, name in enumerate(COLUMNS):
        unknown = table[name].to_numpy() == UNKNOWN
        if bool(unknown.any()):
            assert block.explain is not None, f"a source that knows all its ids has an unknown {name}"
            raise block.explain(int(unknown.argmax()), column, limits[column == 1])
