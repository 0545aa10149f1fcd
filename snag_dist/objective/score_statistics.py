"""What is kept of the scores of queries with some entities: four numbers a query that merge over blocks and owners."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Excluded:
    """Pairs of query and entity that take no part: other right answers. The right answer itself is never among them.

    Attributes:
        query: (n,) int64 position of the query.
        entity: (n,) int64, ascending: position among the rows that are scored, or row id where an owner is yet to be
            found.
    """

    query: Tensor
    entity: Tensor

    def within(self, queries: slice, first: int, stop: int) -> "Excluded":
        """Pairs of `queries` with entities [first, stop), as positions in that tile."""
        bounds = torch.tensor([first, stop], dtype=self.entity.dtype, device=self.entity.device)
        start, end = (int(edge) for edge in torch.searchsorted(self.entity, bounds))
        query, entity = self.query[start:end], self.entity[start:end]
        here = (query >= queries.start) & (query < queries.stop)
        return Excluded(query[here] - queries.start, entity[here] - first)


@dataclass(frozen=True)
class ScoreStatistics:
    """What is kept of the scores of Q queries with some entities.

    Attributes:
        maximum: (Q,) largest score; -inf of no entity.
        total: (Q,) sum over entities of exp(score - maximum).
        true: (Q,) score of the right answer; 0 where it is not among the entities.
        linear: (Q,) sum of the scores.
    """

    maximum: Tensor
    total: Tensor
    true: Tensor
    linear: Tensor

    @classmethod
    def of_none(cls, num_queries: int, like: Tensor) -> "ScoreStatistics":
        """Statistics over no entity, on the device of `like`, in float32 or the wider format of `like`."""
        zero = like.new_zeros(num_queries, dtype=_accumulated(like.dtype))
        return cls(torch.full_like(zero, -torch.inf), zero, zero, zero)

    @classmethod
    def of_scores(cls, scores: Tensor, answers: Tensor, excluded: Excluded | None = None) -> "ScoreStatistics":
        """Statistics over the entities of a block.

        Args:
            scores: (Q, n), n at least 1.
            answers: (Q,) column of the right answer; outside [0, n) where another block has it.
            excluded: pairs of query and column that do not count.
        """
        wide = scores.to(_accumulated(scores.dtype))
        here = (answers >= 0) & (answers < wide.shape[1])
        true = wide.gather(1, answers.where(here, 0).unsqueeze(1)).squeeze(1)
        if excluded is None:
            linear = wide.sum(1)
        else:
            pairs = (excluded.query, excluded.entity)
            linear = wide.index_put(pairs, wide.new_zeros(())).sum(1)
            wide = wide.index_put(pairs, wide.new_full((), -torch.inf))
        maximum = wide.amax(1)
        # A query without an entity left has the maximum -inf, and the difference would be NaN.
        total = torch.exp(wide - maximum.clamp_min(torch.finfo(wide.dtype).min).unsqueeze(1)).sum(1)
        return cls(maximum, total, true.where(here, 0.0), linear)

    def merge(self, other: "ScoreStatistics") -> "ScoreStatistics":
        """Statistics over the entities of both, which must be distinct."""
        maximum = torch.maximum(self.maximum, other.maximum)
        total = self.total_at(maximum) + other.total_at(maximum)
        return ScoreStatistics(maximum, total, self.true + other.true, self.linear + other.linear)

    def total_at(self, maximum: Tensor) -> Tensor:
        """Sum of exp(score - maximum) for another (Q,) maximum, at least as large as the own one.

        Workers merge by the largest `maximum` of all, then by the sums of `total_at` it, of `true` and of `linear`.
        """
        # Over no entity both maxima may be -inf, whose difference is NaN; the sum is 0 then.
        return torch.where(self.total > 0, self.total * torch.exp(self.maximum - maximum), 0.0)

    def log_partition(self) -> Tensor:
        """(Q,) log of the sum of exp(score)."""
        return self.maximum + self.total.log()


def _accumulated(dtype: torch.dtype) -> torch.dtype:
    # Sums over many entities are kept in float32 at least.
    return torch.promote_types(dtype, torch.float32)
