"""The loop of a run: step, log, evaluate, checkpoint, stop."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from snag_dist.errors import NumericError
from snag_dist.random import Moment
from snag_dist.training.assignment import Assignment, Drawn, Stage
from snag_dist.training.boundary import Boundary
from snag_dist.training.checkpoint import Checkpoints
from snag_dist.training.cursor import Cursor
from snag_dist.training.prefetch import prefetch
from snag_dist.training.recipe import TrainConfig
from snag_dist.training.schedule import learning_rate
from snag_dist.training.step import Stepper, StepResult
from snag_dist.training.telemetry import Telemetry


@dataclass
class Loop:
    """Everything the loop turns on.

    Attributes:
        boundary: what the workers agree on between two steps.
        report: tells the cluster's controller, a barrier; once per evaluation.
        interrupted: whether the run was asked to stop, and did, before its end.
        is_over: whether the time of the run is over (`max_minutes`); the same on all workers.
    """

    config: TrainConfig
    assignment: Assignment
    stepper: Stepper
    checkpoints: Checkpoints
    telemetry: Telemetry
    boundary: Boundary
    report: Callable[[dict[str, Any]], None]
    interrupted: bool = field(default=False, init=False)
    is_over: bool = field(default=False, init=False)

    def run(self) -> Cursor:
        """Train to the end, or on from the latest checkpoint; return where the run ended or stopped. A collective."""
        cursor = self.checkpoints.load("LATEST", self.stepper, self.assignment) or Cursor()
        self.boundary.go_on_from(cursor.step, cursor.seconds)
        while True:
            stage = self.assignment.stages[cursor.stage]
            cursor = self._run_stage(stage, cursor)
            if self.interrupted or cursor.stage + 1 == len(self.assignment.stages):
                self.checkpoints.settle()
                return cursor
            self.checkpoints.keep_best(stage.name)
            cursor = cursor.next_stage()

    def _run_stage(self, stage: Stage, cursor: Cursor) -> Cursor:
        while why_ended(cursor, stage.epochs, self.config) is None:
            cursor = self._run_epoch(stage, cursor)
            if self.interrupted:
                break
            is_last = self.is_over or cursor.stage_epochs == stage.epochs
            if is_last or cursor.stage_epochs % self.config.evaluate_every == 0:
                cursor = self._select(stage, cursor)
        return cursor

    def _run_epoch(self, stage: Stage, cursor: Cursor) -> Cursor:
        if not cursor.epoch_step:
            self.stepper.begin_epoch()
        prepared = self.assignment.begin_epoch(cursor)
        if prepared:
            self.telemetry.log(cursor.step, cursor.epoch, prepared)
        interval = _Interval()
        batches = prefetch(self.assignment.batches(cursor))
        lr = 0.0
        following = self._draw(batches)
        while following is not None and not self.interrupted and not self.is_over:
            drawn, moment = following
            following = self._draw(batches)
            lr = self._learning_rate(stage, cursor)
            ahead = None if following is None else (following[0].batch, following[1])
            result = self.stepper.step(drawn.batch, moment, lr, self._votes(), following=ahead)
            _require_finite(result, cursor)
            interval.add(drawn, result)
            cursor = replace(cursor, step=cursor.step + 1, epoch_step=cursor.epoch_step + 1)
            if cursor.step % self.config.log_every == 0:
                self._log(cursor, interval, lr)
                interval = _Interval()
            self._pause(cursor, result)
        if interval.results:
            self._log(cursor, interval, lr)
        if self.interrupted or following is not None:
            return cursor
        return replace(cursor, epoch=cursor.epoch + 1, epoch_step=0)

    def _votes(self) -> Sequence[float]:
        return self.boundary.votes(in_flight=self.checkpoints.in_flight, is_writing=self.checkpoints.is_writing)

    def _pause(self, cursor: Cursor, result: StepResult) -> None:
        """Do between two steps what the workers have agreed on. A collective."""
        ends_epoch = cursor.epoch_step == self.assignment.steps_in_epoch()
        decision = self.boundary.decide(result.votes, cursor.step, ends_epoch=ends_epoch)
        if decision.publish:
            self.checkpoints.settle()
        if decision.save:
            self._save(cursor, best=False)
        if decision.urgent:
            self.checkpoints.settle()
        self.interrupted, self.is_over = decision.stop, decision.over

    def _save(self, cursor: Cursor, *, best: bool) -> None:
        cursor = replace(cursor, seconds=self.boundary.seconds())
        self.checkpoints.save(cursor, self.stepper, self.assignment, best=best)
        self.boundary.saved(cursor.step)
        self.assignment.after_save()

    def _draw(self, batches: Iterator[tuple[Drawn, Moment]]) -> tuple[Drawn, Moment] | None:
        with self.stepper.stopwatch.phase("data"):
            return next(batches, None)

    def _learning_rate(self, stage: Stage, cursor: Cursor) -> float:
        # By epoch and the part of it that is done: an epoch may grow while a stage goes on.
        num_steps = self.assignment.steps_in_epoch()
        step = cursor.stage_epochs * num_steps + cursor.epoch_step
        peak = self.config.lr * stage.lr_factor
        return learning_rate(self.config.schedule, peak, step, stage.epochs * num_steps)

    def _log(self, cursor: Cursor, interval: "_Interval", lr: float) -> None:
        phases = self.stepper.stopwatch.read()
        self.telemetry.log(
            cursor.step, cursor.epoch, {**interval.summary(self.assignment.unit), "lr": lr, "seconds": phases}
        )

    def _select(self, stage: Stage, cursor: Cursor) -> Cursor:
        start = time.perf_counter()
        self.stepper.release_memory()
        dev = self.assignment.dev_metrics()
        mrr = dev["mrr"]
        if mrr > cursor.best_mrr:
            cursor = replace(cursor, best_mrr=mrr, best_step=cursor.step, evaluations_since_best=0)
        else:
            cursor = replace(cursor, evaluations_since_best=cursor.evaluations_since_best + 1)
        # An evaluation may take long: the time may be over after it.
        cursor = replace(cursor, is_over=self.is_over or self.boundary.is_over())
        is_best = cursor.best_step == cursor.step
        self._save(cursor, best=is_best)
        record = {
            "stage": stage.name,
            "dev": dev,
            "best_dev_mrr": cursor.best_mrr,
            "evaluation_seconds": time.perf_counter() - start,
        }
        self.telemetry.log(cursor.step, cursor.epoch, record)
        self.report({"epoch": cursor.epoch, "step": cursor.step, "dev_mrr": mrr, "best_dev_mrr": cursor.best_mrr})
        return cursor


def why_ended(cursor: Cursor, epochs: int, config: TrainConfig) -> Literal["epochs", "patience", "max_minutes"] | None:
    """The field of `train` that ends a stage of so many epochs at a cursor; None where it goes on."""
    if cursor.stage_epochs >= epochs:
        return "epochs"
    if cursor.evaluations_since_best >= config.patience:
        return "patience"
    return "max_minutes" if cursor.is_over else None


class _Interval:
    """Sums over the steps of a log interval."""

    def __init__(self) -> None:
        self.results: list[StepResult] = []
        self._examples = 0
        self._start = time.perf_counter()

    def add(self, drawn: Drawn, result: StepResult) -> None:
        self.results.append(result)
        self._examples += drawn.size

    def summary(self, unit: str) -> dict[str, Any]:
        elapsed = time.perf_counter() - self._start
        mean = lambda values: float(np.mean(list(values)))  # noqa: E731
        return {
            "loss": mean(result.loss for result in self.results),
            "terms": {name: mean(r.terms[name] for r in self.results) for name in self.results[0].terms},
            "gradient_norm": mean(result.gradient_norm for result in self.results),
            "rows_encoded": mean(result.num_rows for result in self.results),
            f"{unit}_per_second": self._examples / elapsed,
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
