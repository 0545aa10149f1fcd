"""The k-core of a graph: the largest part of it in which every entity has at least k triples.

Degrees are counted in passes over blocks of triples, so that memory is a few numbers an entity and one block, however
many triples there are.

Source: Seidman, "Network structure and minimum degree" (Social Networks, 1983); here an edge is a triple between two
different entities, so parallel triples count as many times.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from snag_dist.kg.truth import Ids

Blocks = Callable[[], Iterable[Ids]]
"""Begins a pass over the triples: blocks (n, 3) of columns head, relation, tail."""


@dataclass(frozen=True)
class Core:
    """Who is in the k-core.

    Attributes:
        k: triples that every member has with other members, at least; 0 is the whole graph.
        members: (E,) whether an entity is in it.
    """

    k: int
    members: NDArray[np.bool_]

    @property
    def num_entities(self) -> int:
        """Return the number of members."""
        return int(self.members.sum())

    @property
    def share(self) -> float:
        """Return the share of the entities that are members, in [0, 1]."""
        return self.num_entities / len(self.members)


def find_core(blocks: Blocks, num_entities: int, k: int) -> Core:
    """Find the k-core; it may be empty.

    Args:
        blocks: of the triples that count, passed over several times.
        num_entities: E.
        k: at least 0.
    """
    return Core(k, _peel(blocks, np.ones(num_entities, dtype=bool), k)[0])


def choose_core(blocks: Blocks, num_entities: int, share: float) -> Core:
    """Find the smallest core that still has a share of the entities.

    Args:
        blocks: of the triples that count, passed over several times.
        num_entities: E.
        share: in (0, 1].

    Returns:
        The core of the highest k; the whole graph, k = 0, where even the 1-core has fewer entities.
    """
    core = Core(0, np.ones(num_entities, dtype=bool))
    while True:
        members, least = _peel(blocks, core.members.copy(), core.k + 1)
        if int(members.sum()) < max(1.0, share * num_entities):
            return core
        # Every k up to the least degree has this core.
        core = Core(least, members)


def _peel(blocks: Blocks, members: NDArray[np.bool_], k: int) -> tuple[NDArray[np.bool_], int]:
    """Remove entities of a degree below k until none is left, in place; return the least degree of the others too."""
    while True:
        degrees = _count_degrees(blocks, members)
        weak = members & (degrees < k)
        if not weak.any():
            return members, int(degrees[members].min(initial=np.iinfo(np.int64).max))
        members[weak] = False


def _count_degrees(blocks: Blocks, members: NDArray[np.bool_]) -> Ids:
    """Count (E,) triples of every member with other members."""
    degrees = np.zeros(len(members), dtype=np.int64)
    for triples in blocks():
        heads, tails = triples[:, 0], triples[:, 2]
        inside = members[heads] & members[tails] & (heads != tails)
        np.add.at(degrees, heads[inside], 1)
        np.add.at(degrees, tails[inside], 1)
    return degrees
