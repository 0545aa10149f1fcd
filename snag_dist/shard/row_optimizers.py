"""Optimisers of learned rows: what a step does to the rows it touched, and what state that needs.

State is kept per row, so it is stored, moved and re-partitioned with the rows.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from snag_dist.config import Config, default_kind
from snag_dist.shard.placement import Placement, RowColumns

ROWS = "rows"
"""Column of the rows themselves; the others are state."""

# Numbers of a block where a whole table is walked over: 4 MiB of float32.
_BLOCK_NUMBERS = 1 << 20


class RowOptimizer(ABC):
    """Updates rows from their gradients.

    Attributes:
        moves_untouched: whether a step changes rows without a gradient.
    """

    moves_untouched = False

    @abstractmethod
    def state_columns(self, width: int, dtype: torch.dtype) -> Mapping[str, tuple[tuple[int, ...], torch.dtype]]:
        """Say which columns it keeps beside rows (E_local, width): shape of an entry and number format, by name."""

    @abstractmethod
    def step(self, columns: RowColumns, index: Tensor, grad: Tensor, lr: float, step: int) -> None:
        """Update rows and state.

        Args:
            columns: rows and state.
            index: (N,) distinct local positions of the touched rows.
            grad: (N, D), on the device of the columns.
            lr: learning rate of this step.
            step: steps taken so far, from 0.
        """


class Adam(RowOptimizer):
    """Dense Adam: untouched rows move on by their momentum, as in the published training."""

    moves_untouched = True

    def __init__(self, config: "AdamConfig"):
        self._config = config

    def state_columns(self, width: int, dtype: torch.dtype) -> Mapping[str, tuple[tuple[int, ...], torch.dtype]]:
        """See `RowOptimizer.state_columns`."""
        return {"exp_avg": ((width,), dtype), "exp_avg_sq": ((width,), dtype)}

    def step(self, columns: RowColumns, index: Tensor, grad: Tensor, lr: float, step: int) -> None:
        """See `RowOptimizer.step`. Computed where the rows lie: all of them move."""
        beta1, beta2 = self._config.betas
        rows, mean, square = (columns.columns[name] for name in (ROWS, "exp_avg", "exp_avg_sq"))
        index, grad = index.to(rows.device), grad.to(rows.device)
        if self._config.weight_decay:
            rows.mul_(1.0 - lr * self._config.weight_decay)
        mean.mul_(beta1)
        square.mul_(beta2)
        mean[index] += (1.0 - beta1) * grad
        square[index] += (1.0 - beta2) * grad * grad
        scale = lr / (1.0 - beta1 ** (step + 1))
        correction = 1.0 - beta2 ** (step + 1)
        # In blocks: the denominators of a whole table would be a fourth copy of it.
        block = max(1, _BLOCK_NUMBERS // rows.shape[1])
        for part, moved, squared in zip(rows.split(block), mean.split(block), square.split(block), strict=True):
            part.addcdiv_(moved, (squared / correction).sqrt_().add_(self._config.epsilon), value=-scale)


class TouchedRows(RowOptimizer):
    """An optimiser that leaves rows without a gradient alone: its step costs the same in a table of any size."""

    def step(self, columns: RowColumns, index: Tensor, grad: Tensor, lr: float, step: int) -> None:
        """See `RowOptimizer.step`."""
        touched = columns.read(index)
        self.update(touched, grad, lr)
        columns.write(index, touched)

    @abstractmethod
    def update(self, touched: dict[str, Tensor], grad: Tensor, lr: float) -> None:
        """Put new values in the place of rows (N, D) and their state, by column, from gradients (N, D)."""


class LazyAdam(TouchedRows):
    """Adam on touched rows only; each row corrects its bias by the number of its own updates."""

    def __init__(self, config: "LazyAdamConfig"):
        self._config = config

    def state_columns(self, width: int, dtype: torch.dtype) -> Mapping[str, tuple[tuple[int, ...], torch.dtype]]:
        """See `RowOptimizer.state_columns`."""
        return {
            "exp_avg": ((width,), dtype),
            "exp_avg_sq": ((width,), dtype),
            "num_updates": ((), torch.int32),
        }

    def update(self, touched: dict[str, Tensor], grad: Tensor, lr: float) -> None:
        """See `TouchedRows.update`."""
        beta1, beta2 = self._config.betas
        mean = touched["exp_avg"].lerp_(grad, 1.0 - beta1)
        square = touched["exp_avg_sq"].mul_(beta2).addcmul_(grad, grad, value=1.0 - beta2)
        updates = touched["num_updates"].add_(1)
        # In float64: 1 - .999 loses four digits in float32.
        count = updates.to(torch.float64).unsqueeze(1)
        denominator = (square / (1.0 - beta2**count).to(grad.dtype)).sqrt_().add_(self._config.epsilon)
        rows = touched[ROWS]
        if self._config.weight_decay:
            rows *= 1.0 - lr * self._config.weight_decay
        rows -= (lr / (1.0 - beta1**count)).to(grad.dtype) * mean / denominator


class RowwiseAdagrad(TouchedRows):
    """One accumulator a row: 4 bytes of state instead of 8 D.

    For tables past some half a million entities, where dense Adam would move every row in every step. It is never
    chosen for a recipe; where a plan finds rows and state too large, it names `table.kind=rowwise_adagrad`.
    """

    def __init__(self, config: "RowwiseAdagradConfig"):
        self._config = config

    def state_columns(self, width: int, dtype: torch.dtype) -> Mapping[str, tuple[tuple[int, ...], torch.dtype]]:
        """See `RowOptimizer.state_columns`."""
        return {"sum_sq": ((), dtype)}

    def update(self, touched: dict[str, Tensor], grad: Tensor, lr: float) -> None:
        """See `TouchedRows.update`."""
        total = touched["sum_sq"].add_(grad.square().mean(dim=1))
        touched[ROWS] -= lr * grad / (total.sqrt() + self._config.epsilon).unsqueeze(1)


Betas = tuple[float, float]


class RowsConfig(Config):
    """What every optimiser of rows has: where they lie."""

    placement: Placement = "device"
    """Where rows and their state lie: `device` (where steps compute), `host`, or `disk` (mapped files); it changes no
    result on CPU."""
    scratch: Path | None = None
    """Folder for the files of placement `disk`, best on a disk of the worker's own; unset takes `scratch` in the run's
    folder. They have no names and need no clearing away."""

    @field_validator("scratch")
    @classmethod
    def _make_absolute(cls, scratch: Path | None) -> Path | None:
        # Workers have another working directory.
        return None if scratch is None else scratch.absolute()


class _MomentsConfig(RowsConfig):
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

    @model_validator(mode="after")
    def _check_placement(self) -> Self:
        if self.placement == "disk":
            raise ValueError(
                "placement 'disk': adam moves every row in every step and would read the whole table from disk each "
                "time; set table.kind to lazy_adam or rowwise_adagrad, or table.placement to host"
            )
        return self

    def build(self) -> RowOptimizer:
        """Build the optimiser."""
        return Adam(self)


class LazyAdamConfig(_MomentsConfig):
    """Adam on touched rows."""

    kind: Literal["lazy_adam"] = "lazy_adam"
    """Tells this optimiser from the others."""

    def build(self) -> RowOptimizer:
        """Build the optimiser."""
        return LazyAdam(self)


class RowwiseAdagradConfig(RowsConfig):
    """Adagrad with one accumulator a row."""

    kind: Literal["rowwise_adagrad"] = "rowwise_adagrad"
    """Tells this optimiser from the others."""
    lr_scale: float = Field(default=10.0, gt=0)
    """Factor on the learning rate of the dense parameters."""
    epsilon: float = 1e-8
    """Added to the denominator."""

    def build(self) -> RowOptimizer:
        """Build the optimiser."""
        return RowwiseAdagrad(self)


TableConfig = Annotated[
    AdamConfig | LazyAdamConfig | RowwiseAdagradConfig, Field(discriminator="kind"), default_kind("adam")
]
