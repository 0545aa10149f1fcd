"""Who is next to whom: undirected edges with self-loops, compressed by target, for the structure encoders.

Memory is a few integers per triple; nothing is as large as entities times entities.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from snag_dist.kg.truth import Ids, Ragged


@dataclass(frozen=True)
class Adjacency:
    """The edges into every entity, n in all; each pair of neighbours is there once in each direction.

    Attributes:
        sources: E lists; list i holds the neighbours of entity i and i itself, ascending.
        counts: (n,) int64 triples between the two ends, in either direction and of any relation; 1 for a
            self-loop, whatever the triples say.
    """

    sources: Ragged
    counts: Ids

    @classmethod
    def build(cls, triples: Ids, num_entities: int) -> "Adjacency":
        """Join heads and tails by sorting: O((T + E) log(T + E)).

        Args:
            triples: (T, 3) int64, columns head, relation, tail; entities in [0, E).
            num_entities: E, below 2^31.
        """
        heads, tails = triples[:, 0], triples[:, 2]
        apart = heads != tails
        heads, tails = heads[apart], tails[apart]
        loops = np.arange(num_entities, dtype=np.int64)
        target, source = np.concatenate([heads, tails, loops]), np.concatenate([tails, heads, loops])
        codes, counts = np.unique(target * num_entities + source, return_counts=True)
        offsets = np.searchsorted(codes, np.arange(num_entities + 1, dtype=np.int64) * num_entities)
        sources = Ragged(offsets.astype(np.int64, copy=False), codes % max(1, num_entities))
        return cls(sources, counts.astype(np.int64, copy=False))

    @property
    def num_entities(self) -> int:
        return len(self.sources)

    @property
    def num_edges(self) -> int:
        """n: directed edges, self-loops included."""
        return len(self.counts)

    def targets(self) -> Ids:
        """Return (n,) the entity each edge leads to, ascending; with `sources.values`, the coordinates of the edges."""
        return self.sources.queries()

    def degrees(self) -> Ids:
        """Return (E,) neighbours of each entity, itself included: at least 1."""
        return self.sources.lengths()

    def weights(self) -> Ids:
        """Return (E,) the sum of `counts` over the edges of each entity: its degree with triples counted."""
        return np.add.reduceat(self.counts, self.sources.offsets[:-1]) if self.num_entities else self.counts

    def normalised(self) -> NDArray[np.float64]:
        """Return (n,) the value of each edge in D^-1/2 A D^-1/2, with A the counts and D their sums.

        Source: Kipf and Welling, "Semi-supervised classification with graph convolutional networks" (ICLR 2017),
        as EVA and MCLEA use it: parallel triples weigh as many times.
        """
        scale = 1.0 / np.sqrt(self.weights().astype(np.float64))
        return self.counts * scale[self.targets()] * scale[self.sources.values]
