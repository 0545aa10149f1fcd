"""MRR, mean rank and hits as sums, so that those of two blocks, slices or directions add up."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snag_dist.ranking.ranks import RankTable

HITS_AT = (1, 3, 10)
"""The k for which hits are counted."""

Ranks = NDArray[np.int64] | NDArray[np.float64]


@dataclass(frozen=True)
class RankSums:
    """Sums over the ranks of a set of queries, of one kind of rank.

    Attributes:
        count: queries.
        reciprocal: sum of 1 / rank.
        rank: sum of ranks.
        hits_at: queries with rank <= k, for each k of `HITS_AT`.
    """

    count: int
    reciprocal: float
    rank: float
    hits_at: tuple[int, ...]

    @classmethod
    def of(cls, ranks: Ranks) -> "RankSums":
        """Sum over ranks (Q,), from 1."""
        hits = tuple(int(np.count_nonzero(ranks <= k)) for k in HITS_AT)
        return cls(len(ranks), float(np.sum(1.0 / ranks)), float(np.sum(ranks)), hits)

    def __add__(self, other: "RankSums") -> "RankSums":
        hits = tuple(mine + theirs for mine, theirs in zip(self.hits_at, other.hits_at, strict=True))
        return RankSums(self.count + other.count, self.reciprocal + other.reciprocal, self.rank + other.rank, hits)

    @property
    def mrr(self) -> float:
        """Mean reciprocal rank, in (0, 1]; NaN without queries."""
        return self.reciprocal / self.count if self.count else float("nan")

    @property
    def mean_rank(self) -> float:
        """Mean rank, from 1; NaN without queries."""
        return self.rank / self.count if self.count else float("nan")

    def hits(self, k: int) -> float:
        """Share of queries with rank <= k, k one of `HITS_AT`; NaN without queries."""
        return self.hits_at[HITS_AT.index(k)] / self.count if self.count else float("nan")

    def to_dict(self) -> dict[str, float]:
        """Return mrr, mean_rank and hits@k by name."""
        return {
            "mrr": self.mrr,
            "mean_rank": self.mean_rank,
            **{f"hits@{k}": self.hits(k) for k in HITS_AT},
        }


@dataclass(frozen=True)
class RankMetrics:
    """The three kinds of rank over the same queries; `realistic` is the headline.

    Over both directions of every triple the sums hold as many heads as tails, so a mean over queries is the
    mean of the two directions.
    """

    realistic: RankSums
    optimistic: RankSums
    pessimistic: RankSums

    @classmethod
    def of(cls, table: RankTable) -> "RankMetrics":
        """Sum over the queries of a table."""
        return cls(*(RankSums.of(ranks) for ranks in (table.realistic, table.optimistic, table.pessimistic)))

    def __add__(self, other: "RankMetrics") -> "RankMetrics":
        return RankMetrics(
            self.realistic + other.realistic,
            self.optimistic + other.optimistic,
            self.pessimistic + other.pessimistic,
        )

    @property
    def count(self) -> int:
        """Queries."""
        return self.realistic.count

    @property
    def mrr(self) -> float:
        """Mean reciprocal realistic rank."""
        return self.realistic.mrr

    @property
    def mean_rank(self) -> float:
        """Mean realistic rank."""
        return self.realistic.mean_rank

    def hits(self, k: int) -> float:
        """Share of queries with realistic rank <= k."""
        return self.realistic.hits(k)

    def to_dict(self) -> dict[str, Any]:
        """Return a plain tree for JSON: `num_queries`, then the metrics of each kind of rank."""
        return {
            "num_queries": self.count,
            "realistic": self.realistic.to_dict(),
            "optimistic": self.optimistic.to_dict(),
            "pessimistic": self.pessimistic.to_dict(),
        }
