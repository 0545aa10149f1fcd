"""Slices of the global batch, one worker's share at a time.

From memory, an epoch is one keyed permutation of the triples, a bijection that is computed and never stored; every
worker takes its slice of each global batch. From a stream, triples are shuffled in windows, see
`snag_dist.store.stream`. Either way batches are a function of seed, epoch and step, the same at any number of workers.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from snag_dist.random import Stream
from snag_dist.shard.group import Group
from snag_dist.store.stream import StreamPlan

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Slice:
    """A worker's share of a global batch.

    Attributes:
        positives: (b, 3) head, relation, tail.
        first: place of the first of them in the global batch.
        global_triples: triples in the global batch, over all workers.
    """

    positives: Ids
    first: int
    global_triples: int


class TripleSource(ABC):
    """Where positives come from.

    Attributes:
        steps_per_epoch: global batches in an epoch, the same on every worker.
    """

    steps_per_epoch: int

    @abstractmethod
    def epoch(self, number: int, first_step: int) -> Iterator[Slice]:
        """Yield this worker's slices of epoch `number`, from step `first_step` of that epoch on."""


class MemoryTriples(TripleSource):
    """All triples in memory, read without copying by the workers of a node."""

    def __init__(self, triples: Ids, batch_size: int, group: Group, seed: int):
        """Hold (T, 3) triples; `batch_size` is of the global batch."""
        self._triples = triples
        self._batch_size = batch_size
        self._group = group
        self._order = Stream(seed, "epoch/order")
        self.steps_per_epoch = -(-len(triples) // batch_size)

    def epoch(self, number: int, first_step: int) -> Iterator[Slice]:
        """See `TripleSource.epoch`."""
        order = self._order.at(epoch=number)
        total = len(self._triples)
        for step in range(first_step, self.steps_per_epoch):
            start = step * self._batch_size
            size = min(self._batch_size, total - start)
            first, stop = (size * rank // self._group.size for rank in (self._group.rank, self._group.rank + 1))
            places = order.permute(torch.arange(start + first, start + stop), total).numpy()
            yield Slice(self._triples[places], first, size)


class StreamedTriples(TripleSource):
    """Triples read from Ray Data while training goes on: one stream over all epochs that are left."""

    def __init__(self, batches: Iterator[Ids], plan: StreamPlan, rank: int):
        """Follow a stream.

        Args:
            batches: this worker's slices (b, 3), from the step the run goes on with.
            plan: how the stream was cut.
            rank: of this worker.
        """
        self._batches = batches
        self._plan = plan
        self._rank = rank
        self.steps_per_epoch = plan.steps_per_epoch

    def epoch(self, number: int, first_step: int) -> Iterator[Slice]:
        """See `TripleSource.epoch`; epochs come in order, each once."""
        for positives in islice(self._batches, self.steps_per_epoch - first_step):
            yield Slice(positives, self._rank * self._plan.local_batch, self._plan.global_batch)
