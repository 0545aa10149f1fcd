"""The learned rows a worker owns.

The table is no parameter of the DeepSpeed engine: a step touches few of its rows, and gathering or reducing the whole
of it is what does not scale. `lookup` hands out touched rows as a leaf tensor; after the engine's backward pass `step`
takes its gradient. Rows and optimiser state are kept per entity, so they are stored and re-partitioned by row range.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from snag_dist.model.features import ColumnStatistics
from snag_dist.random import Stream
from snag_dist.shard.group import Group
from snag_dist.shard.initial_rows import InitialRows
from snag_dist.shard.partition import Partition
from snag_dist.shard.placement import make_columns
from snag_dist.shard.row_optimizers import ROWS, AdamConfig, LazyAdamConfig, RowwiseAdagradConfig

BLOCK_NUMBERS = 1 << 20
"""Numbers of a block where the whole table is walked over, so that no second copy of it is made: 8 MiB of float64."""


class EntityTable:
    """The rows this worker owns.

    Attributes:
        rows: (E_local, D) fp32 (or fp64) master rows, where they lie; local position = row id - `first_row`.
        first_row: row id of the first of them.
        device: that computes steps, and that rows are handed out on.
        optimizer: of the rows.
        lr_scale: factor on the run's learning rate.
    """

    def __init__(
        self,
        config: AdamConfig | LazyAdamConfig | RowwiseAdagradConfig,
        partition: Partition,
        group: Group,
        *,
        width: int,
        start: InitialRows,
        seed: int,
        dtype: torch.dtype = torch.float32,
        scratch: Path | None = None,
    ):
        """Draw the initial rows, each a function of (seed, row id).

        Args:
            config: the optimiser, and where rows and state lie.
            partition: of the rows over the workers of `group`.
            group: the workers.
            width: D.
            start: what rows are before training.
            seed: of the run.
            dtype: of the master rows.
            scratch: folder of mapped files, where the config names none; needed with placement `disk`.

        Raises:
            ResourceError: the disk has no room for the mapped files.
        """
        self._group = group
        self._partition = partition
        self.device = group.device
        self.first_row, stop = partition.rows(group.rank)
        self._columns = make_columns(config.placement, stop - self.first_row, group.device, config.scratch or scratch)
        self.rows = self._columns.add(ROWS, (width,), dtype)
        stream = Stream(seed, "init/rows")
        for span in _blocks(self.first_row, stop, width):
            drawn = start.draw(stream, torch.arange(span.start, span.stop), width)
            local = slice(span.start - self.first_row, span.stop - self.first_row)
            self.rows[local] = drawn.to(dtype)
            self._columns.release(local.start, local.stop)
        self.lr_scale = config.lr_scale
        self.optimizer = config.build()
        for name, (tail, number) in self.optimizer.state_columns(width, dtype).items():
            self._columns.add(name, tail, number)

    @property
    def reads_ahead(self) -> bool:
        """Whether `prefetch` is worth a call."""
        return self._columns.reads_ahead

    def prefetch(self, ids: Tensor) -> None:
        """Begin to read the rows of `ids` (N,) on the host, which the next step will ask for; returns at once."""
        self._columns.prefetch(ids - self.first_row)

    def lookup(self, ids: Tensor) -> Tensor:
        """Hand out the rows of distinct `ids` (N,) as a leaf (N, D) that collects their gradient."""
        return self._columns.read(ids - self.first_row, (ROWS,))[ROWS].requires_grad_(True)

    def step(self, ids: Tensor, grad: Tensor, lr: float, step: int) -> None:
        """Update the rows of `ids` (N,) from their gradient (N, D); see `RowOptimizer.step`."""
        if len(ids) or self.optimizer.moves_untouched:
            self.optimizer.step(self._columns, ids - self.first_row, grad, lr * self.lr_scale, step)

    def column_statistics(self) -> ColumnStatistics:
        """Mean and std (ddof 1) of each column over the rows of all workers. A collective."""
        # Sums by blocks of virtual shards in float64: the same terms in the same order at any number of workers, up to
        # the sum over workers, whose rounding float64 keeps below what a float32 result can show.
        width = self.rows.shape[1]
        totals = torch.zeros(2, width, dtype=torch.float64, device=self.rows.device)
        for shard in self._partition.shards(self._group.rank):
            for span in _blocks(*self._partition.shard_rows(shard), width):
                local = slice(span.start - self.first_row, span.stop - self.first_row)
                values = self.rows[local].to(torch.float64)
                totals[0] += values.sum(dim=0)
                totals[1] += values.square().sum(dim=0)
                self._columns.release(local.start, local.stop)
        totals = self._group.sum(totals.to(self.device))
        num = self._partition.num_entities
        mean = totals[0] / num
        variance = (totals[1] - num * mean.square()).clamp_(min=0.0) / max(1, num - 1)
        return ColumnStatistics(mean.to(self.rows.dtype), variance.sqrt().to(self.rows.dtype))

    def shard_state(self, shard: int) -> dict[str, Tensor]:
        """Rows and optimiser state of one virtual shard this worker owns, as views."""
        start, stop = self._partition.shard_rows(shard)
        span = slice(start - self.first_row, stop - self.first_row)
        return {name: column[span] for name, column in self._columns.columns.items()}

    def load_shard_state(self, shard: int, state: dict[str, Tensor]) -> None:
        """Overwrite one virtual shard with what `shard_state` gave, at any number of workers and in any placement."""
        for name, target in self.shard_state(shard).items():
            target.copy_(state[name])


def _blocks(start: int, stop: int, width: int) -> Iterator[range]:
    size = max(1, BLOCK_NUMBERS // width)
    return (range(first, min(first + size, stop)) for first in range(start, stop, size))
