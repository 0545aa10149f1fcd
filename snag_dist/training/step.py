"""One optimisation step over entities that live on many workers.

ids -> owners -> rows and features -> noise -> encode -> codes travel -> score, loss -> backward -> both optimisers
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from snag_dist.model.features import ColumnStatistics
from snag_dist.objective.losses import LossReport
from snag_dist.random import Moment
from snag_dist.shard.exchange import Consultation, Meetings
from snag_dist.shard.group import Group
from snag_dist.shard.table import EntityTable
from snag_dist.store.gather import FeatureRows
from snag_dist.training.allocator import StepMemory
from snag_dist.training.engine import DTYPES, Engine, EngineConfig
from snag_dist.training.feature_reading import FeatureReader, read_features

PHASES: tuple[str, ...] = ("data", "exchange", "encode", "score", "backward", "step")
"""Parts of a step whose time is logged."""

# Of a gradient whose squares are summed: a copy of so many rows in float64 fits a cache.
_ROWS_SUMMED = 1024


class Stopwatch:
    """Seconds spent in each phase since the last reading."""

    def __init__(self, device: torch.device):
        self._cuda = device.type == "cuda"
        self.seconds: dict[str, float] = dict.fromkeys(PHASES, 0.0)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time of the block to a phase."""
        start = self._now()
        yield
        self.seconds[name] += self._now() - start

    def read(self) -> dict[str, float]:
        """Return the seconds by phase and start anew."""
        seconds, self.seconds = self.seconds, dict.fromkeys(PHASES, 0.0)
        return seconds

    def _now(self) -> float:
        # Kernels run behind the host's back: without waiting, their time would land in a later phase.
        if self._cuda:
            torch.cuda.synchronize()
        return time.perf_counter()


@dataclass(frozen=True)
class StepPlan:
    """Which entities a step needs of this worker. Tasks add what else their way through the network needs.

    Attributes:
        rows: (N_rows,) row ids whose learned rows are read and updated, distinct and ascending.
        encode: (N,) row ids whose raw features are read, distinct and ascending.
    """

    rows: Tensor
    encode: Tensor


@dataclass(frozen=True)
class StepInputs:
    """What the owner reads for a step.

    Attributes:
        rows: (N_rows, D) learned rows of `StepPlan.rows`, in the number format of the step.
        features, present: raw vectors of `StepPlan.encode` by modality, as in `EntityInputs`.
        row_statistics: of the whole table of rows, for noise on them.
    """

    rows: Tensor
    features: Mapping[str, Tensor]
    present: Mapping[str, Tensor]
    row_statistics: ColumnStatistics | None


class DistributedTask(nn.Module, ABC):
    """A task with the network of workers in its middle: what DeepSpeed wraps.

    Attributes:
        stopwatch: told about the phases it knows.
    """

    def __init__(self, stopwatch: Stopwatch):
        super().__init__()
        self.stopwatch = stopwatch
        self._coming: Consultation[StepPlan] | None = None

    @abstractmethod
    def meet(self, batch: Any, moment: Moment) -> Meetings[StepPlan]:
        """Tell the owners what this worker needs, and learn what others need of it. A collective."""

    def plan_ahead(self, batch: Any, moment: Moment) -> None:
        """Begin the plan of the step after the next `forward`, which holds one of its meetings. A collective."""
        self._coming = Consultation(self.meet(batch, moment))

    def go_on(self) -> None:
        """Hold a meeting of what `plan_ahead` began, if any is left: for `forward`, where it is to wait anyway."""
        if self._coming is not None:
            self._coming.go_on()

    def end_plan(self) -> StepPlan:
        """Return the plan that `plan_ahead` began. A collective."""
        coming, self._coming = self._coming, None
        assert coming is not None
        return coming.conclude()

    @abstractmethod
    def forward(self, plan: Any, inputs: StepInputs, batch: Any, moment: Moment) -> LossReport:
        """Encode at the owners, bring codes to the batch, and take this worker's part of the loss. A collective."""

    def before_backward(self) -> None:
        """Take gradients that do not belong to the loss, while what they need is still held. A collective."""

    def after_step(self) -> None:
        """Update what is no parameter of the engine; not called where a step was not finite."""

    def lr_scale(self, name: str) -> float:
        """Factor on the learning rate of a dense parameter, by its name."""
        return 1.0


class Batch(Protocol):
    """This worker's slice of a global batch."""

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device."""
        ...


@dataclass(frozen=True)
class StepResult:
    """What a step cost, over all workers.

    Attributes:
        loss: mean over the global batch.
        terms: of the loss, likewise.
        gradient_norm: over dense parameters and rows, before clipping.
        num_rows: distinct rows read, summed over owners.
        votes: what workers said beside the step, summed over them.
    """

    loss: float
    terms: Mapping[str, float]
    gradient_norm: float
    num_rows: int
    votes: tuple[float, ...] = ()


class Stepper:
    """Owns what a step needs: engine, table, features.

    Attributes:
        module: the task as the engine trains it.
        engine: of the dense parameters.
        table: of the learned rows.
        stopwatch: of the phases of a step.
    """

    def __init__(
        self,
        module: DistributedTask,
        table: EntityTable,
        features: Mapping[str, FeatureRows],
        group: Group,
        config: EngineConfig,
        *,
        clip_norm: float,
        micro_batch: int,
    ):
        self.table = table
        self.stopwatch = module.stopwatch
        self._features = FeatureReader(features, group.device)
        self._group = group
        self._clip_norm = clip_norm
        self._dtype = DTYPES[config.precision]
        if self._dtype == torch.float64:
            module = module.double()
        self.module = module.to(group.device)
        self.engine = Engine(self.module, config, group, micro_batch, lr_scale=module.lr_scale)
        self._memory = StepMemory(reuse=config.host_memory == "reuse")
        self._row_statistics: ColumnStatistics | None = None
        self._planned: tuple[Moment, StepPlan] | None = None

    def begin_epoch(self) -> None:
        """Refresh what holds for an epoch: the statistics of the rows, for the noise on them. A collective."""
        self._row_statistics = self.table.column_statistics()

    def epoch_state(self) -> dict[str, Tensor]:
        """What `begin_epoch` measured, for a checkpoint in the middle of an epoch; equal on every worker."""
        known = self._row_statistics
        return {} if known is None else {"rows/mean": known.mean, "rows/std": known.std}

    def load_epoch_state(self, state: Mapping[str, Tensor]) -> None:
        """Take up what `epoch_state` gave, in the place of `begin_epoch`."""
        device = self.table.device
        self._row_statistics = ColumnStatistics(state["rows/mean"].to(device), state["rows/std"].to(device))

    def step(
        self,
        batch: Batch,
        moment: Moment,
        lr: float,
        votes: Sequence[float] = (),
        *,
        following: tuple[Batch, Moment] | None = None,
    ) -> StepResult:
        """Take one step. A collective.

        Args:
            batch: this worker's slice.
            moment: of training.
            lr: learning rate of dense parameters; rows use it times their own scale.
            votes: what this worker says beside the step, as many numbers on every worker; added up over them.
            following: the next step's slice and moment, the same on every worker whether there is one: who needs what
                of whom is found out while this step computes; then its features are read, and its rows where they lie
                on disk.
        """
        with self._memory:
            return self._take_step(batch, moment, lr, votes, following)

    def release_memory(self) -> None:
        """Give back what steps keep of the host's memory, before an evaluation needs it."""
        self._memory.release()

    def _take_step(
        self,
        batch: Batch,
        moment: Moment,
        lr: float,
        votes: Sequence[float],
        following: tuple[Batch, Moment] | None,
    ) -> StepResult:
        with self.stopwatch.phase("exchange"):
            plan = self._plan(batch, moment)
        with self.stopwatch.phase("data"):
            rows = self.table.lookup(plan.rows)
            features, present = self._features.read(plan.encode)
            inputs = StepInputs(rows.to(self._dtype), features, present, self._row_statistics)
        if following is not None:
            with self.stopwatch.phase("exchange"):
                self.module.plan_ahead(*following)
        report: LossReport = self.engine(plan, inputs, batch.to(self._group.device), moment)
        if following is not None:
            self._read_ahead(following[1])
        with self.stopwatch.phase("backward"):
            self.module.before_backward()
            # The engine averages gradients over workers, while the slices' losses add up to the batch mean.
            self.engine.backward(report.loss * self._group.size)
            # Its graph still holds what the loss keeps outside of autograd's hands.
            report = report.detach()
        with self.stopwatch.phase("step"):
            grad = torch.zeros_like(rows) if rows.grad is None else rows.grad.div_(self._group.size)
            totals = self._total(report, grad, len(plan.rows), votes)
            norm = float((totals[0] + self.engine.squared_norm()).sqrt())
            loss = float(totals[1])
            if np.isfinite(loss) and np.isfinite(norm):
                factor = min(1.0, self._clip_norm / (norm + 1e-12)) if self._clip_norm > 0 else 1.0
                self.table.step(plan.rows, grad * factor if factor < 1.0 else grad, lr, moment.step)
                self.engine.step(lr, factor)
                self.module.after_step()
        rest: list[float] = totals[3:].tolist()
        terms = dict(zip(report.terms, rest, strict=False))
        return StepResult(loss, terms, norm, int(totals[2]), tuple(rest[len(terms) :]))

    def _plan(self, batch: Batch, moment: Moment) -> StepPlan:
        planned, self._planned = self._planned, None
        if planned is not None and planned[0] == moment:
            return planned[1]
        return Consultation(self.module.meet(batch, moment)).conclude()

    def _read_ahead(self, moment: Moment) -> None:
        with self.stopwatch.phase("exchange"):
            plan = self.module.end_plan()
        self._planned = moment, plan
        if self.table.reads_ahead:
            self.table.prefetch(plan.rows)
        self._features.announce(plan.encode)

    def _total(self, report: LossReport, grad: Tensor, num_rows: int, votes: Sequence[float]) -> Tensor:
        # One small all-reduce for everything a step reports: row norm, loss, rows, terms, votes.
        values = [sum_of_squares(grad), report.loss.to(torch.float64)]
        values.append(torch.tensor(float(num_rows), dtype=torch.float64, device=grad.device))
        values += [term.to(torch.float64) for term in report.terms.values()]
        values += torch.tensor(votes, dtype=torch.float64, device=grad.device).unbind()
        return self._group.sum(torch.stack(values))


def sum_of_squares(values: Tensor) -> Tensor:
    """Sum the squares of `values` (N, D) in float64, a scalar, without a copy of all of them in it."""
    return torch.stack([part.to(torch.float64).square().sum() for part in values.split(_ROWS_SUMMED)]).sum()


def gather_features(
    ids: Tensor, features: Mapping[str, FeatureRows], device: torch.device
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Read the raw vectors of distinct, ascending `ids` (N,) this worker owns, and which of them exist, by modality."""
    return read_features(ids, features).to(device)
