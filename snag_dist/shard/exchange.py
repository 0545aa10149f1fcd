"""Ids out to their owners, codes back, gradients out again.

A worker asks for the codes of the distinct entities of its slice. The owner of an entity may be asked by several
workers; it encodes it once and sends the code to each. Backward, the code gradients return to the owner and are added
in the order of the ranks, so a run repeats bit for bit.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from snag_dist.shard.group import Group
from snag_dist.shard.partition import Partition

T = TypeVar("T")

Meetings = Generator[None, None, T]
"""What is agreed in several meetings: yields where the others have been asked and are to be heard, returns the outcome.

Between two of them a worker has time for something else. A collective: every worker goes on at the same places.
"""


class Consultation(Generic[T]):
    """Meetings of which the first question is on its way."""

    def __init__(self, meetings: Meetings[T]):
        self._meetings = meetings
        self._is_reached = False
        self.go_on()

    def go_on(self) -> None:
        """Hear the others, and ask the next question, if any is left."""
        if not self._is_reached:
            try:
                next(self._meetings)
            except StopIteration as end:
                self._is_reached, self._outcome = True, cast(T, end.value)

    def conclude(self) -> T:
        """Hold all the meetings that are left, and return the outcome."""
        while not self._is_reached:
            self.go_on()
        return self._outcome


@dataclass(frozen=True)
class Route:
    """Where the codes of one step travel.

    Attributes:
        wanted: by rank, how many codes this worker receives from it.
        served: by rank, how many codes this worker sends to it.
        encode: (N,) row ids this worker must encode, distinct and ascending.
        place: (sum of served,) positions in `encode` of what is sent, rank after rank; None when W is 1.
    """

    wanted: list[int]
    served: list[int]
    encode: Tensor
    place: Tensor | None


class Exchange:
    """Routes ids and codes between the workers of a group."""

    def __init__(self, group: Group, partition: Partition):
        self._group = group
        self._partition = partition

    def route(self, entities: Tensor) -> Route:
        """Tell the owners which entities this worker needs. A collective: every worker calls it once a step.

        Args:
            entities: (n,) int64 row ids, distinct and ascending, on the host.
        """
        return Consultation(self.meet(entities)).conclude()

    def meet(self, entities: Tensor) -> Meetings[Route]:
        """Do what `route` does, in two meetings: how many, and which."""
        if self._group.size == 1:
            return Route([len(entities)], [len(entities)], entities, None)
        wanted = self._partition.split(entities.numpy())
        device = self._group.device
        ones = [1] * self._group.size
        counts = self._group.begin_all_to_all(torch.tensor(wanted, device=device), ones, ones)
        yield
        served = cast("list[int]", counts.wait().tolist())
        asked = self._group.begin_all_to_all(entities.to(device), wanted, served)
        yield
        encode, place = np.unique(asked.wait().cpu().numpy(), return_inverse=True)
        return Route(wanted, served, torch.from_numpy(encode), torch.from_numpy(place).to(device))

    def fetch(self, codes: Tensor, route: Route) -> Tensor:
        """Bring the codes of the entities this worker asked for.

        Args:
            codes: (N, D) of `route.encode`, on the owner.
            route: of this step.

        Returns:
            (n, D) codes in the order of the entities given to `route`; differentiable.
        """
        if route.place is None:
            return codes
        return cast(Tensor, _Fetch.apply(codes, route, self._group))


class _Fetch(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, codes: Tensor, route: Route, group: Group) -> Tensor:
        ctx.route, ctx.group, ctx.num = route, group, len(codes)
        assert route.place is not None
        return group.all_to_all(codes.index_select(0, route.place), route.served, route.wanted)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        route: Route = ctx.route
        assert route.place is not None
        returned = ctx.group.all_to_all(grads[0], route.wanted, route.served)
        return add_rows(returned, route, ctx.num), None, None


def add_rows(values: Tensor, route: Route, num: int) -> Tensor:
    """Add rows that belong to the same entity, rank after rank.

    Args:
        values: (sum of served, D), rank after rank.
        route: of the step.
        num: N, distinct entities.

    Returns:
        (N, D) sums. Within a rank's part an entity occurs once, so no addition depends on scheduling, on any device.
    """
    assert route.place is not None
    total = values.new_zeros(num, values.shape[1])
    for part, place in zip(values.split(route.served), route.place.split(route.served), strict=True):
        total[place] += part
    return total
