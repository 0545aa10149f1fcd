"""The learned rows a worker owns, and their optimiser.

The table is no parameter of the DeepSpeed engine: a step touches few of its rows, and gathering or reducing the whole
of it is what does not scale. `lookup` hands out touched rows as a leaf tensor; after the engine's backward pass `step`
takes its gradient. Rows and optimiser state are kept per entity, so they are stored and re-partitioned by row range.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from snag_dist.config import Config, default_kind
from snag_dist.model.features import ColumnStatistics
from snag_dist.random import Stream
from snag_dist.shard.group import Group
from snag_dist.shard.partition import Partition

# Rows initialised at a time, so that a large table needs no second copy of itself in random words.
_INIT_BLOCK = 65536


class RowOptimizer(ABC):
    """Updates rows from their gradients. State is a dict of tensors with one entry per row, (E_local, ...)."""

    def __init__(self, rows: Tensor):
        self.rows = rows
        self.state: dict[str, Tensor] = {}

    @abstractmethod
    def step(self, index: Tensor, grad: Tensor, lr: float, step: int) -> None:
        """Update rows.

        Args:
            index: (N,) distinct local positions of the touched rows.
            grad: (N, D).
            lr: learning rate of this step.
            step: steps taken so far, from 0.
        """


class Adam(RowOptimizer):
    """Dense Adam: untouched rows move on by their momentum, as in the published training."""

    def __init__(self, rows: Tensor, config: "AdamConfig"):
        super().__init__(rows)
        self._config = config
        self.state = {"exp_avg": torch.zeros_like(rows), "exp_avg_sq": torch.zeros_like(rows)}

    def step(self, index: Tensor, grad: Tensor, lr: float, step: int) -> None:
        """See `RowOptimizer.step`."""
        beta1, beta2 = self._config.betas
        if self._config.weight_decay:
            self.rows.mul_(1.0 - lr * self._config.weight_decay)
        mean, square = self.state["exp_avg"], self.state["exp_avg_sq"]
        mean.mul_(beta1)
        square.mul_(beta2)
        mean[index] += (1.0 - beta1) * grad
        square[index] += (1.0 - beta2) * grad * grad
        scale = lr / (1.0 - beta1 ** (step + 1))
        denominator = (square / (1.0 - beta2 ** (step + 1))).sqrt_().add_(self._config.epsilon)
        self.rows.addcdiv_(mean, denominator, value=-scale)


class LazyAdam(RowOptimizer):
    """Adam on touched rows only; each row corrects its bias by the number of its own updates."""

    def __init__(self, rows: Tensor, config: "LazyAdamConfig"):
        super().__init__(rows)
        self._config = config
        self.state = {
            "exp_avg": torch.zeros_like(rows),
            "exp_avg_sq": torch.zeros_like(rows),
            "num_updates": torch.zeros(len(rows), dtype=torch.int32, device=rows.device),
        }

    def step(self, index: Tensor, grad: Tensor, lr: float, step: int) -> None:
        """See `RowOptimizer.step`."""
        beta1, beta2 = self._config.betas
        mean = self.state["exp_avg"][index].lerp_(grad, 1.0 - beta1)
        square = self.state["exp_avg_sq"][index].mul_(beta2).addcmul_(grad, grad, value=1.0 - beta2)
        updates = self.state["num_updates"][index] + 1
        # In float64: 1 - .999 loses four digits in float32.
        count = updates.to(torch.float64).unsqueeze(1)
        denominator = (square / (1.0 - beta2**count).to(grad.dtype)).sqrt_().add_(self._config.epsilon)
        if self._config.weight_decay:
            self.rows[index] *= 1.0 - lr * self._config.weight_decay
        self.rows[index] -= (lr / (1.0 - beta1**count)).to(grad.dtype) * mean / denominator
        self.state["exp_avg"][index] = mean
        self.state["exp_avg_sq"][index] = square
        self.state["num_updates"][index] = updates


class RowwiseAdagrad(RowOptimizer):
    """One accumulator a row: 4 bytes of state instead of 8 D. The default past half a million entities."""

    def __init__(self, rows: Tensor, config: "RowwiseAdagradConfig"):
        super().__init__(rows)
        self._config = config
        self.state = {"sum_sq": torch.zeros(len(rows), dtype=rows.dtype, device=rows.device)}

    def step(self, index: Tensor, grad: Tensor, lr: float, step: int) -> None:
        """See `RowOptimizer.step`."""
        total = self.state["sum_sq"][index] + grad.square().mean(dim=1)
        self.state["sum_sq"][index] = total
        self.rows[index] -= lr * grad / (total.sqrt() + self._config.epsilon).unsqueeze(1)


Betas = tuple[float, float]


class _MomentsConfig(Config):
    """What both kinds of Adam have in common."""

    lr_scale: float = Field(default=1.0, gt=0)
    """Factor on the learning rate of the dense parameters."""
    betas: Betas = (0.9, 0.999)
    """Decay of the running mean and square."""
    epsilon: float = 1e-8
    """Added to the denominator."""
    weight_decay: float = Field(default=0.0, ge=0.0)
    """Decoupled (AdamW), times the learning rate, on every row that a step updates."""


class AdamConfig(_MomentsConfig):
    """Dense Adam, for parity on small graphs."""

    kind: Literal["adam"] = "adam"
    """Tells this optimiser from the others."""

    def build(self, rows: Tensor) -> RowOptimizer:
        """Build for rows (E_local, D)."""
        return Adam(rows, self)


class LazyAdamConfig(_MomentsConfig):
    """Adam on touched rows."""

    kind: Literal["lazy_adam"] = "lazy_adam"
    """Tells this optimiser from the others."""

    def build(self, rows: Tensor) -> RowOptimizer:
        """Build for rows (E_local, D)."""
        return LazyAdam(rows, self)


class RowwiseAdagradConfig(Config):
    """Adagrad with one accumulator a row."""

    kind: Literal["rowwise_adagrad"] = "rowwise_adagrad"
    """Tells this optimiser from the others."""
    lr_scale: float = Field(default=10.0, gt=0)
    """Factor on the learning rate of the dense parameters."""
    epsilon: float = 1e-8
    """Added to the denominator."""

    def build(self, rows: Tensor) -> RowOptimizer:
        """Build for rows (E_local, D)."""
        return RowwiseAdagrad(rows, self)


TableConfig = Annotated[
    AdamConfig | LazyAdamConfig | RowwiseAdagradConfig, Field(discriminator="kind"), default_kind("adam")
]


@dataclass(frozen=True)
class InitialRows:
    """What rows are before training.

    Attributes:
        distribution: `uniform` in [-scale, scale], or `normal` with standard deviation `scale`.
        scale: of it.
    """

    distribution: Literal["uniform", "normal"]
    scale: float

    def draw(self, stream: Stream, ids: Tensor, width: int) -> Tensor:
        """Draw (N, width) float64 rows of `ids` (N,)."""
        if self.distribution == "normal":
            return stream.normal(ids, width, torch.float64) * self.scale
        return (2.0 * stream.uniform(ids, width, torch.float64) - 1.0) * self.scale


class EntityTable:
    """The rows this worker owns.

    Attributes:
        rows: (E_local, D) fp32 (or fp64) master rows; local position = row id - `first_row`.
        first_row: row id of the first of them.
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
    ):
        """Draw the initial rows, each a function of (seed, row id)."""
        self._group = group
        self._partition = partition
        self.first_row, stop = partition.rows(group.rank)
        self.rows = torch.empty(stop - self.first_row, width, dtype=dtype, device=group.device)
        stream = Stream(seed, "init/rows")
        for first in range(self.first_row, stop, _INIT_BLOCK):
            ids = torch.arange(first, min(first + _INIT_BLOCK, stop))
            drawn = start.draw(stream, ids, width)
            self.rows[first - self.first_row : first - self.first_row + len(ids)] = drawn.to(dtype)
        self.lr_scale = config.lr_scale
        self.optimizer = config.build(self.rows)

    def lookup(self, ids: Tensor) -> Tensor:
        """Hand out the rows of distinct `ids` (N,) as a leaf (N, D) that collects their gradient."""
        return self.rows[self._local(ids)].requires_grad_(True)

    def step(self, ids: Tensor, grad: Tensor, lr: float, step: int) -> None:
        """Update the rows of `ids` (N,) from their gradient (N, D); see `RowOptimizer.step`."""
        if len(ids) or isinstance(self.optimizer, Adam):
            self.optimizer.step(self._local(ids), grad, lr * self.lr_scale, step)

    def column_statistics(self) -> ColumnStatistics:
        """Mean and std (ddof 1) of each column over the rows of all workers. A collective."""
        # Sums by virtual shard in float64: the same terms in the same order at any number of workers, up to the sum
        # over workers, whose rounding float64 keeps below what a float32 result can show.
        totals = torch.zeros(2, self.rows.shape[1], dtype=torch.float64, device=self.rows.device)
        for shard in self._partition.shards(self._group.rank):
            start, stop = self._partition.shard_rows(shard)
            values = self.rows[start - self.first_row : stop - self.first_row].to(torch.float64)
            totals[0] += values.sum(dim=0)
            totals[1] += values.square().sum(dim=0)
        self._group.sum(totals)
        num = self._partition.num_entities
        mean = totals[0] / num
        variance = (totals[1] - num * mean.square()).clamp_(min=0.0) / max(1, num - 1)
        return ColumnStatistics(mean.to(self.rows.dtype), variance.sqrt().to(self.rows.dtype))

    def shard_state(self, shard: int) -> dict[str, Tensor]:
        """Rows and optimiser state of one virtual shard this worker owns, as views."""
        start, stop = self._partition.shard_rows(shard)
        span = slice(start - self.first_row, stop - self.first_row)
        return {"rows": self.rows[span], **{name: value[span] for name, value in self.optimizer.state.items()}}

    def load_shard_state(self, shard: int, state: dict[str, Tensor]) -> None:
        """Overwrite one virtual shard with what `shard_state` gave, at any number of workers."""
        for name, target in self.shard_state(shard).items():
            target.copy_(state[name])

    def _local(self, ids: Tensor) -> Tensor:
        return (ids - self.first_row).to(self.rows.device)
