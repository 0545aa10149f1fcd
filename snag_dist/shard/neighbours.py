"""The edges into the rows a worker owns, and the blocks of them that a step needs.

A structure encoder of L layers needs the codes of neighbours, and theirs, L steps out. Each worker keeps the edges into
its own rows; a block names the sources of some targets, all of them or a keyed draw, so that the same neighbours are
drawn at any number of workers.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from snag_dist.kg.adjacency import Adjacency
from snag_dist.model.aggregation import Edges, connect
from snag_dist.random import Stream

Ids = NDArray[np.int64]

# Part of the address of an edge that names its source: ids are below it.
_SOURCE_BITS = 31


@dataclass(frozen=True)
class Block:
    """Edges into some targets.

    Attributes:
        sources: (S,) row ids the edges come from, distinct and ascending; the targets are among them.
        edges: between positions in `sources` and among the targets.
    """

    sources: Ids
    edges: Edges


@dataclass(frozen=True)
class OwnedEdges:
    """Undirected edges and self-loops into the rows [first_row, first_row + n).

    Attributes:
        first_row: of the worker.
        offsets: (n + 1,) where the edges of each row begin.
        sources: (L,) row ids, ascending for each row.
        values: (L,) of the normalised adjacency, as a GCN takes them.
    """

    first_row: int
    offsets: Ids
    sources: Ids
    values: NDArray[np.float64]

    @classmethod
    def build(cls, triples: Ids, num_entities: int, first_row: int, stop: int) -> "OwnedEdges":
        """Keep what leads into rows [first_row, stop) of (T, 3) triples over `num_entities` entities."""
        apart = triples[:, 0] != triples[:, 2]
        ends = triples[apart][:, [0, 2]]
        # The degree of every source is needed, though only some of the edges are.
        weights = np.bincount(ends.reshape(-1), minlength=num_entities).astype(np.float64) + 1.0
        mine = ((ends >= first_row) & (ends < stop)).any(axis=1)
        near = ends[mine]
        local = Adjacency.build(np.insert(near, 1, 0, axis=1), num_entities)
        bounds = local.sources.offsets
        span = slice(int(bounds[first_row]), int(bounds[stop]))
        sources, counts = local.sources.values[span], local.counts[span]
        offsets = bounds[first_row : stop + 1] - bounds[first_row]
        targets = np.repeat(np.arange(first_row, stop), np.diff(offsets))
        values = counts / np.sqrt(weights[targets] * weights[sources])
        return cls(first_row, offsets, sources, values)

    def block(self, targets: Ids, fanout: int | None = None, stream: Stream | None = None) -> Block:
        """Take the edges into some rows.

        Args:
            targets: (N,) row ids this worker owns, distinct and ascending.
            fanout: neighbours drawn for each target beside itself; None takes all. Values of drawn edges are scaled
                so that their sum is right on average.
            stream: of the draw, for one layer of one step; needed with a fanout.
        """
        local = targets - self.first_row
        lengths = self.offsets[local + 1] - self.offsets[local]
        target = np.repeat(np.arange(len(targets)), lengths)
        begin = np.repeat(self.offsets[local] - np.cumsum(lengths) + lengths, lengths)
        edge = begin + np.arange(len(target))
        source, value = self.sources[edge], self.values[edge]
        if fanout is not None:
            assert stream is not None
            kept, scale = _draw(targets[target], source, lengths, fanout, stream)
            target, source, value = target[kept], source[kept], (value * scale)[kept]
        sources, place = np.unique(source, return_inverse=True)
        edges = connect(
            torch.from_numpy(place), torch.from_numpy(target), len(sources), len(targets), torch.from_numpy(value)
        )
        return Block(sources, edges)


def _draw(
    target: Ids, source: Ids, lengths: Ids, fanout: int, stream: Stream
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Keep the self-loop and the `fanout` neighbours of each target with the smallest keyed numbers.

    Returns:
        (L,) which edges stay, and (L,) the factor on their values.
    """
    itself = target == source
    address = torch.from_numpy((target << _SOURCE_BITS) | source)
    number = stream.integers(address, 1, 1 << 52).view(-1).numpy()
    order = np.lexsort((source, np.where(itself, -1, number), target))
    begin = np.repeat(np.cumsum(lengths) - lengths, lengths)
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order)) - begin
    neighbours = np.repeat(lengths - 1, lengths)
    scale = np.where(itself, 1.0, np.maximum(1.0, neighbours / fanout))
    return place <= fanout, scale
