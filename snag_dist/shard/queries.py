"""The queries of a whole batch at every owner of candidates, and what owners know of them back again.

For a loss over all entities codes stay where they are. Instead the queries go to every owner, each scores them with its
own rows, and four numbers a query are summed up. Every worker then takes the loss of its own queries. Backward, the
slopes of all queries go to every owner, and the gradients of the queries return to their workers, where they are added
in the order of the ranks.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from snag_dist.objective.all_entities import AllScores
from snag_dist.objective.score_statistics import Excluded, ScoreStatistics
from snag_dist.shard.group import Group
from snag_dist.shard.partition import Partition


@dataclass(frozen=True)
class Gathering:
    """The queries of all workers, rank after rank.

    Attributes:
        group: the workers.
        sizes: queries by rank; Q in all.
    """

    group: Group
    sizes: list[int]

    @classmethod
    def of(cls, group: Group, num_queries: int) -> "Gathering":
        """Learn how many queries each worker has. A collective."""
        sizes = group.all_gather(torch.tensor([num_queries], device=group.device))
        return cls(group, cast("list[int]", torch.cat(sizes).tolist()))

    @property
    def own(self) -> slice:
        """Where this worker's queries lie among all."""
        first = sum(self.sizes[: self.group.rank])
        return slice(first, first + self.sizes[self.group.rank])

    def collect(self, values: Tensor) -> Tensor:
        """Bring values (n, ...) of each worker's queries to all: (Q, ...), without a graph. A collective."""
        if self.group.size == 1:
            return values
        copies = values.repeat(self.group.size, *[1] * (values.ndim - 1))
        return self.group.all_to_all(copies, [len(values)] * self.group.size, self.sizes)

    def collect_queries(self, queries: Tensor) -> Tensor:
        """Bring queries (n, D) of each worker to all: (Q, D), differentiable. A collective, backward too."""
        return queries if self.group.size == 1 else cast(Tensor, _Collect.apply(queries, self))

    def take_own(self, scores: AllScores) -> AllScores:
        """Keep what belongs to this worker's queries, differentiable. Backward is a collective."""
        if self.group.size == 1:
            return scores
        stacked = torch.stack([scores.log_partition, scores.true, scores.mean], dim=1)
        return AllScores(*cast(Tensor, _TakeOwn.apply(stacked, self)).unbind(1))

    def combine(self, own: ScoreStatistics) -> ScoreStatistics:
        """Merge statistics over the owners of the entities. A collective."""
        if self.group.size == 1:
            return own
        maximum = self.group.maximum(own.maximum.clone())
        sums = self.group.sum(torch.stack([own.total_at(maximum), own.true, own.linear]))
        return ScoreStatistics(maximum, *sums.unbind(0))

    def send_excluded(self, excluded: Excluded, partition: Partition) -> Excluded:
        """Tell every owner which of its rows do not count for which queries. A collective.

        Args:
            excluded: pairs of this worker's queries and row ids, on the host.
            partition: of the rows.

        Returns:
            Pairs of all workers' queries and this owner's rows, counted from its first.
        """
        first, _ = partition.rows(self.group.rank)
        pairs = torch.stack([excluded.query + self.own.start, excluded.entity], dim=1).to(self.group.device)
        if self.group.size > 1:
            sent = partition.split(excluded.entity.numpy())
            ones = [1] * self.group.size
            received = self.group.all_to_all(torch.tensor(sent, device=pairs.device), ones, ones)
            pairs = self.group.all_to_all(pairs, sent, cast("list[int]", received.tolist()))
            pairs = pairs[torch.argsort(pairs[:, 1], stable=True)]
        return Excluded(pairs[:, 0].contiguous(), pairs[:, 1] - first)


class _Collect(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, gathering: Gathering) -> Tensor:
        ctx.gathering = gathering
        return gathering.collect(queries)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        gathering: Gathering = ctx.gathering
        group = gathering.group
        num = gathering.sizes[group.rank]
        parts = group.all_to_all(grads[0], gathering.sizes, [num] * group.size)
        total = torch.zeros_like(parts[:num])
        for part in parts.split([num] * group.size):
            total += part
        return total, None


class _TakeOwn(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, gathering: Gathering) -> Tensor:
        ctx.gathering = gathering
        return values[gathering.own].clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.gathering.collect(grads[0]), None
