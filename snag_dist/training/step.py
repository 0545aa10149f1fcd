"""One optimisation step over entities that live on many workers.

ids -> owners -> rows and features -> noise -> encode -> codes travel -> score, loss -> backward -> both optimisers
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from snag_dist.model.features import ColumnStatistics, EntityInputs
from snag_dist.objective.losses import LossReport
from snag_dist.random import Moment
from snag_dist.shard.exchange import Exchange, Route
from snag_dist.shard.group import Group
from snag_dist.shard.table import EntityTable
from snag_dist.store.gather import FeatureRows
from snag_dist.task.completion import CompletionBatch, CompletionTask
from snag_dist.training.engine import DTYPES, Engine, EngineConfig

PHASES: tuple[str, ...] = ("data", "exchange", "encode", "score", "backward", "step")
"""Parts of a step whose time is logged."""


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


class DistributedTask(nn.Module):
    """The task with the network in its middle: what DeepSpeed wraps."""

    def __init__(self, task: CompletionTask, exchange: Exchange, stopwatch: Stopwatch, dtype: torch.dtype):
        super().__init__()
        self.task = task
        self._exchange = exchange
        self._stopwatch = stopwatch
        self._dtype = dtype

    def forward(self, inputs: EntityInputs, route: Route, batch: CompletionBatch, moment: Moment) -> LossReport:
        """Encode at the owner, bring codes to the triples, score."""
        with self._stopwatch.phase("encode"):
            codes = self.task.encode(cast_inputs(inputs, self._dtype), moment).codes
        with self._stopwatch.phase("exchange"):
            arrived = self._exchange.fetch(codes, route)
        with self._stopwatch.phase("score"):
            return self.task.loss(arrived, batch)


@dataclass(frozen=True)
class StepResult:
    """What a step cost, over all workers.

    Attributes:
        loss: mean over the global batch.
        terms: of the loss, likewise.
        gradient_norm: over dense parameters and rows, before clipping.
        num_rows: distinct entities encoded, summed over owners.
    """

    loss: float
    terms: Mapping[str, float]
    gradient_norm: float
    num_rows: int


class Stepper:
    """Owns what a step needs: engine, table, features, exchange."""

    def __init__(
        self,
        task: CompletionTask,
        table: EntityTable,
        features: Mapping[str, FeatureRows],
        exchange: Exchange,
        group: Group,
        config: EngineConfig,
        *,
        clip_norm: float,
        micro_batch: int,
    ):
        self.table = table
        self.stopwatch = Stopwatch(group.device)
        self._features = features
        self._exchange = exchange
        self._group = group
        self._clip_norm = clip_norm
        dtype = DTYPES[config.precision]
        if dtype == torch.float64:
            task = task.double()
        module = DistributedTask(task.to(group.device), exchange, self.stopwatch, dtype)
        self.engine = Engine(module, config, group, micro_batch)
        self.task = task
        self._row_statistics: ColumnStatistics | None = None

    def begin_epoch(self) -> None:
        """Refresh what holds for an epoch: the statistics of the rows, for the noise on them. A collective."""
        self._row_statistics = self.table.column_statistics()

    def step(self, batch: CompletionBatch, moment: Moment, lr: float) -> StepResult:
        """Take one step. A collective.

        Args:
            batch: this worker's slice.
            moment: of training.
            lr: learning rate of dense parameters; rows use it times their own scale.
        """
        with self.stopwatch.phase("exchange"):
            route = self._exchange.route(batch.entities)
        with self.stopwatch.phase("data"):
            rows = self.table.lookup(route.encode)
            inputs = gather_inputs(route.encode, rows, self._features, self._row_statistics)
        report: LossReport = self.engine(inputs, route, batch.to(self._group.device), moment)
        with self.stopwatch.phase("backward"):
            # The engine averages gradients over workers, while the slices' losses add up to the batch mean.
            self.engine.backward(report.loss * self._group.size)
        with self.stopwatch.phase("step"):
            grad = torch.zeros_like(rows) if rows.grad is None else rows.grad / self._group.size
            totals = self._total(report, grad, len(route.encode))
            norm = float((totals[0] + self.engine.squared_norm()).sqrt())
            loss = float(totals[1])
            if np.isfinite(loss) and np.isfinite(norm):
                factor = min(1.0, self._clip_norm / (norm + 1e-12)) if self._clip_norm > 0 else 1.0
                self.table.step(route.encode, grad * factor if factor < 1.0 else grad, lr, moment.step)
                self.engine.step(lr, factor)
        terms = {name: float(value) for name, value in zip(report.terms, totals[3:], strict=True)}
        return StepResult(loss, terms, norm, int(totals[2]))

    def _total(self, report: LossReport, grad: Tensor, num_rows: int) -> Tensor:
        # One small all-reduce for everything a step reports: row norm, loss, rows, terms.
        values = [grad.to(torch.float64).square().sum(), report.loss.detach().to(torch.float64)]
        values.append(torch.tensor(float(num_rows), dtype=torch.float64, device=grad.device))
        values += [term.to(torch.float64) for term in report.terms.values()]
        return self._group.sum(torch.stack(values))


def gather_inputs(
    ids: Tensor, rows: Tensor, features: Mapping[str, FeatureRows], row_statistics: ColumnStatistics | None
) -> EntityInputs:
    """Read the frozen features of distinct, ascending `ids` (N,) this worker owns; (N, D) rows come along."""
    vectors: dict[str, Tensor] = {}
    present: dict[str, Tensor] = {}
    for name, source in features.items():
        values, known = source.gather(ids.numpy())
        vectors[name] = torch.from_numpy(values).to(rows.device, non_blocking=True)
        present[name] = torch.from_numpy(known).to(rows.device, non_blocking=True)
    return EntityInputs(ids.to(rows.device), rows, vectors, present, row_statistics)


def cast_inputs(inputs: EntityInputs, dtype: torch.dtype) -> EntityInputs:
    """Bring the rows to the number format of the step; the encoder casts everything else to theirs."""
    return EntityInputs(inputs.ids, inputs.rows.to(dtype), inputs.features, inputs.present, inputs.row_statistics)
