"""The loop of a run: step, log, evaluate, checkpoint, stop."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from snag_dist.errors import NumericError
from snag_dist.random import Moment
from snag_dist.sampling.negatives import NegativeSampler
from snag_dist.task.completion import assemble
from snag_dist.training.batches import Slice, TripleSource
from snag_dist.training.checkpoint import Checkpoints, Cursor
from snag_dist.training.recipe import TrainConfig
from snag_dist.training.schedule import learning_rate
from snag_dist.training.step import Stepper, StepResult
from snag_dist.training.telemetry import Telemetry


@dataclass
class Loop:
    """Everything the loop turns on.

    Attributes:
        evaluate: scores the dev split, a collective; returns its metrics, `mrr` among them.
        report: tells the cluster's controller, a barrier; once per evaluation.
    """

    config: TrainConfig
    seed: int
    source: TripleSource
    sampler: NegativeSampler
    stepper: Stepper
    checkpoints: Checkpoints
    telemetry: Telemetry
    evaluate: Callable[[], dict[str, float]]
    report: Callable[[dict[str, Any]], None]

    def run(self) -> Cursor:
        """Train to the end, or on from the latest checkpoint; return where the run ended. A collective."""
        cursor = self.checkpoints.load("LATEST", self.stepper.engine, self.stepper.table) or Cursor()
        while cursor.epoch < self.config.epochs and cursor.evaluations_since_best < self.config.patience:
            cursor = self._run_epoch(cursor)
            if cursor.epoch % self.config.evaluate_every == 0 or cursor.epoch == self.config.epochs:
                cursor = self._select(cursor)
        return cursor

    def _run_epoch(self, cursor: Cursor) -> Cursor:
        self.stepper.begin_epoch()
        interval = _Interval()
        num_steps = self.config.epochs * self.source.steps_per_epoch
        slices = iter(self.source.epoch(cursor.epoch, cursor.epoch_step))
        while True:
            moment = Moment(self.seed, cursor.epoch, cursor.step)
            with self.stepper.stopwatch.phase("data"):
                part = next(slices, None)
                if part is None:
                    break
                corrupted = self.sampler.draw(part.positives, part.first, moment)
                batch = assemble(corrupted, part.global_triples)
            lr = learning_rate(self.config.schedule, self.config.lr, cursor.step, num_steps)
            result = self.stepper.step(batch, moment, lr)
            _require_finite(result, cursor)
            interval.add(part, result)
            cursor = replace(cursor, step=cursor.step + 1, epoch_step=cursor.epoch_step + 1)
            if cursor.step % self.config.log_every == 0:
                self._log(cursor, interval, lr)
                interval = _Interval()
        if interval.results:
            self._log(cursor, interval, lr)  # pyright: ignore[reportPossiblyUnboundVariable]
        return replace(cursor, epoch=cursor.epoch + 1, epoch_step=0)

    def _log(self, cursor: Cursor, interval: "_Interval", lr: float) -> None:
        phases = self.stepper.stopwatch.read()
        self.telemetry.log(cursor.step, cursor.epoch, {**interval.summary(), "lr": lr, "seconds": phases})

    def _select(self, cursor: Cursor) -> Cursor:
        start = time.perf_counter()
        dev = self.evaluate()
        mrr = dev["mrr"]
        if mrr > cursor.best_mrr:
            cursor = replace(cursor, best_mrr=mrr, best_step=cursor.step, evaluations_since_best=0)
        else:
            cursor = replace(cursor, evaluations_since_best=cursor.evaluations_since_best + 1)
        is_best = cursor.best_step == cursor.step
        self.checkpoints.save(cursor, self.stepper.engine, self.stepper.table, best=is_best)
        record = {"dev": dev, "best_dev_mrr": cursor.best_mrr, "evaluation_seconds": time.perf_counter() - start}
        self.telemetry.log(cursor.step, cursor.epoch, record)
        self.report({"epoch": cursor.epoch, "step": cursor.step, "dev_mrr": mrr, "best_dev_mrr": cursor.best_mrr})
        return cursor


class _Interval:
    """Sums over the steps of a log interval."""

    def __init__(self) -> None:
        self.results: list[StepResult] = []
        self._triples = 0
        self._start = time.perf_counter()

    def add(self, part: Slice, result: StepResult) -> None:
        self.results.append(result)
        self._triples += part.global_triples

    def summary(self) -> dict[str, Any]:
        elapsed = time.perf_counter() - self._start
        mean = lambda values: float(np.mean(list(values)))  # noqa: E731
        return {
            "loss": mean(result.loss for result in self.results),
            "terms": {name: mean(r.terms[name] for r in self.results) for name in self.results[0].terms},
            "gradient_norm": mean(result.gradient_norm for result in self.results),
            "rows_encoded": mean(result.num_rows for result in self.results),
            "triples_per_second": self._triples / elapsed,
            "steps": len(self.results),
            "elapsed_seconds": elapsed,
        }


def _require_finite(result: StepResult, cursor: Cursor) -> None:
    if not (np.isfinite(result.loss) and np.isfinite(result.gradient_norm)):
        raise NumericError(
            f"epoch {cursor.epoch} step {cursor.step}: expected a finite loss and gradient, got loss {result.loss} and "
            f"gradient norm {result.gradient_norm}; lower train.lr, set train.clip_norm, or check the features; "
            "nothing of this step was applied"
        )
