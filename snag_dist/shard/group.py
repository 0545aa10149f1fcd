"""The workers of a run and the collectives they share.

A group of one skips the network: the same code runs alone or distributed. Collectives run on the process group that
Ray Train (or a test) has set up: gloo on CPU, NCCL on GPU.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class CollectiveError(RuntimeError):
    """Workers lost each other: not the user's to mend, and cured by starting them anew."""


class Pending:
    """A collective under way: the tensors in it are the network's until `wait` has returned.

    Args:
        group: of the workers in it.
        operation: as `Group.named` calls it.
        work: what torch waits for; None where nothing travels.
        result: what `wait` returns.
        sent: held until then.
    """

    def __init__(self, group: "Group", operation: str, work: dist.Work | None, result: Tensor, sent: Tensor):
        self._group, self._operation, self._work, self._result, self._sent = group, operation, work, result, sent

    def wait(self) -> Tensor:
        """Return what came, once it is here."""
        if self._work is not None:
            with self._group.named(self._operation):
                self._work.wait()
        return self._result


@dataclass
class Group:
    """This worker's place among W workers.

    Attributes:
        rank: of this worker, from 0.
        size: W.
        device: where its tensors live.
        bytes_sent: by `all_to_all` so far, for telemetry.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    bytes_sent: int = 0

    def all_to_all(self, values: Tensor, sent: list[int], received: list[int]) -> Tensor:
        """Send consecutive rows of `values` (n, ...) to each worker, `sent[w]` of them; return what came, by rank."""
        return self.begin_all_to_all(values, sent, received).wait()

    def begin_all_to_all(self, values: Tensor, sent: list[int], received: list[int]) -> Pending:
        """Begin what `all_to_all` does; every worker begins its collectives in the same order."""
        result = values.new_empty((sum(received), *values.shape[1:]))
        values = values.contiguous()
        with self.named("all_to_all"):
            work = dist.all_to_all_single(result, values, received, sent, async_op=True)
        self.bytes_sent += (len(values) - sent[self.rank]) * values[:1].numel() * values.element_size()
        return Pending(self, "all_to_all", work, result, values)

    def sum(self, values: Tensor) -> Tensor:
        """Sum a tensor over the workers, in place; every worker gets the same."""
        return self.begin_sum(values).wait()

    def begin_sum(self, values: Tensor, operation: str = "sum") -> Pending:
        """Begin what `sum` does, as an `operation`; every worker begins its collectives in the same order."""
        work: dist.Work | None = None
        if self.size > 1:
            with self.named(operation):
                work = dist.all_reduce(values, async_op=True)
        return Pending(self, operation, work, values, values)

    def maximum(self, values: Tensor) -> Tensor:
        """Take the largest over the workers, element by element, in place."""
        if self.size > 1:
            with self.named("maximum"):
                dist.all_reduce(values, op=dist.ReduceOp.MAX)
        return values

    def broadcast(self, values: Tensor, source: int) -> Tensor:
        """Fill a tensor, of one shape on all workers, with the one of worker `source`, in place."""
        if self.size > 1:
            with self.named("broadcast"):
                dist.broadcast(values, src=source)
        return values

    def all_gather(self, values: Tensor) -> list[Tensor]:
        """Collect a tensor of one shape from every worker, by rank."""
        if self.size == 1:
            return [values]
        parts = [torch.empty_like(values) for _ in range(self.size)]
        with self.named("all_gather"):
            dist.all_gather(parts, values.contiguous())
        return parts

    def gather_objects(self, value: Any) -> list[Any]:
        """Collect a small object from every worker, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with self.named("gather_objects"):
            dist.all_gather_object(values, value)
        return values

    def broadcast_object(self, value: Any) -> Any:
        """Return rank 0's value on every worker."""
        if self.size == 1:
            return value
        box = [value]
        with self.named("broadcast_object"):
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def barrier(self) -> None:
        """Wait until every worker is here."""
        if self.size > 1:
            with self.named("barrier"):
                dist.barrier()

    @contextmanager
    def named(self, operation: str) -> Iterator[None]:
        """Say which worker waited in which operation, where torch says only that a connection failed.

        Around anything that exchanges, by this group or by a library; what is wrong with the rest of it stays as it is.

        Raises:
            CollectiveError: another worker died, or did not come within the timeout of the process group.
        """
        try:
            yield
        except RuntimeError as error:
            if isinstance(error, CollectiveError) or not _is_of_the_network(error):
                raise
            # Its first sentence; what gloo adds is advice.
            words = str(error).splitlines()[0].partition(". ")[0]
            raise CollectiveError(
                f"rank {self.rank} of {self.size}: {operation} did not end: {words}; another worker died, or did not "
                "come within cluster.timeout_seconds"
            ) from error


_OF_THE_NETWORK = ("gloo", "nccl", "connection", "timeout", "timed out")
"""gloo has no type of its own for what it raises: its words tell, or the name of its source file."""


def _is_of_the_network(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or any(word in str(error).lower() for word in _OF_THE_NETWORK)
