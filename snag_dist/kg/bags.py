"""What surrounds an entity, as counts: how often each relation touches it, which attributes it has.

These bags are two of the modalities of entity alignment. Most entries are zero, so a bag is kept sparse and made
dense in blocks.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from snag_dist.kg.truth import Ids, Ragged


@dataclass(frozen=True)
class Bag:
    """Counts of E entities over F columns.

    Attributes:
        columns: (F,) int64 the relation or attribute each column stands for, the most frequent first; equally
            frequent ones by ascending id.
        entries: E lists of columns with a count, ascending.
        counts: (n,) int64, at least 1.
    """

    columns: Ids
    entries: Ragged
    counts: Ids

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def width(self) -> int:
        """F."""
        return len(self.columns)

    @property
    def present(self) -> NDArray[np.bool_]:
        """(E,) which entities have any count: the presence mask of the modality."""
        return self.entries.lengths() > 0

    def dense(self, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """Return the (stop - start, F) counts of entities [start, stop); all of them by default."""
        stop = len(self) if stop is None else stop
        offsets = self.entries.offsets[start : stop + 1]
        block = np.zeros((stop - start, self.width), dtype=np.float32)
        rows = np.repeat(np.arange(stop - start), np.diff(offsets))
        block[rows, self.entries.values[offsets[0] : offsets[-1]]] = self.counts[offsets[0] : offsets[-1]]
        return block

    def blocks(self, size: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (first entity, (at most `size`, F) counts) over all entities in order."""
        for start in range(0, len(self), size):
            yield start, self.dense(start, min(start + size, len(self)))


def relation_bag(triples: Ids, num_entities: int, *, num_columns: int = 1000) -> Bag:
    """Count, for every entity, the triples of each frequent relation it is an end of.

    Args:
        triples: (T, 3) int64 of both graphs, columns head, relation, tail. Head and tail count one each, so a
            triple from an entity to itself counts two.
        num_entities: E.
        num_columns: how many relations are kept at most, by number of triples; F is less where fewer occur.

    Source: SNAG, section 4 (relation feature); EVA, section 3.2. The released code is always `num_columns` wide,
    zeros included.
    """
    columns, column_of = _most_frequent(triples[:, 1], num_columns)
    ends = np.concatenate([triples[:, 0], triples[:, 2]])
    return _count(columns, num_entities, ends, np.tile(column_of[triples[:, 1]], 2))


def attribute_bag(attributes: Ragged, *, num_columns: int = 1000) -> Bag:
    """Mark, for every entity, which frequent attributes it has.

    Args:
        attributes: E lists of attributes, each once.
        num_columns: how many attributes are kept at most, by number of entities that have them.

    Source: SNAG, section 4 (attribute feature): binary.
    """
    columns, column_of = _most_frequent(attributes.values, num_columns)
    return _count(columns, len(attributes), attributes.queries(), column_of[attributes.values])


def _most_frequent(ids: Ids, num_columns: int) -> tuple[Ids, Ids]:
    """Return (F,) the commonest ids, and the column of every id up to the largest, -1 where it has none."""
    frequency = np.bincount(ids)
    # A stable sort leaves equally frequent ids in ascending order.
    order = np.argsort(-frequency, kind="stable")[:num_columns]
    columns = order[frequency[order] > 0].astype(np.int64, copy=False)
    column_of = np.full(len(frequency), -1, dtype=np.int64)
    column_of[columns] = np.arange(len(columns))
    return columns, column_of


def _count(columns: Ids, num_entities: int, entities: Ids, column: Ids) -> Bag:
    width = max(1, len(columns))
    kept = column >= 0
    codes, counts = np.unique(entities[kept] * width + column[kept], return_counts=True)
    offsets = np.searchsorted(codes, np.arange(num_entities + 1, dtype=np.int64) * width)
    entries = Ragged(offsets.astype(np.int64, copy=False), codes % width)
    return Bag(columns, entries, counts.astype(np.int64, copy=False))
