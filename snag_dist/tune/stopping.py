"""How trials of a sweep are ended: one that falls behind by the scheduler, all of them by a signal.

Ray Tune ends a trial by killing its driver. What Ray Train had placed for the workers is then freed by a helper that
asks Ray's dashboard whether the driver lives, and stays placed for ever where it gets no answer. So no trial is killed:
it is asked to stop, as a run is by a signal, writes a checkpoint at its next step, and frees its workers itself.
"""

import logging
import time
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ray import tune
from ray.tune.experiment import Trial as RayTrial
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from snag_dist.errors import Interrupted
from snag_dist.training.claim import Claim
from snag_dist.training.run_folder import RunFolder
from snag_dist.tune.trial import TrialRecord, name_run

logger = logging.getLogger("snag_dist")

_HALTED_FILE = "halted"
_STOP_FILE = "stop"
_POLL_SECONDS = 0.5
# Workers whose sweep is another command's end at their next step, and Ray Train frees what was placed for them.
_SECONDS_TO_LEAVE = 15.0


def stop_file(sweep: Path) -> Path:
    """Return the file that asks the sweep of a folder to stop, by being there."""
    return sweep / _STOP_FILE


def halt(folder: RunFolder) -> None:
    """Ask a trial to stop for good, if it is not over yet: unlike one that is interrupted, it is not gone on with."""
    if _is_running(folder):
        (folder.path / _HALTED_FILE).touch()
        folder.stop.touch()


def _is_running(folder: RunFolder) -> bool:
    return folder.read_status().get("state") == "running"


def is_halted(folder: RunFolder) -> bool:
    """Whether the scheduler has ended a trial."""
    return (folder.path / _HALTED_FILE).is_file()


def wait_for_driver_end(sweep: Path) -> None:
    """Stay until the driver of the sweep ends, if it is asked to; this process goes with it.

    A trial that ended now, in whatever way, would make Tune begin the next one, and tell the search of a failure.
    """
    while stop_file(sweep).exists():
        time.sleep(_POLL_SECONDS)


class Halving(ASHAScheduler):
    """ASHA, which asks the trials that fall behind to stop instead of having them killed."""

    def __init__(self, trials: Path, **choices: Any):
        """Halve trials whose run folders lie in a folder; the choices are those of `ASHAScheduler`."""
        super().__init__(**choices)
        self._trials = trials

    def recall(self, records: Iterable[TrialRecord]) -> None:
        """Take up what trials of earlier rounds reached at every rung, as if they had been of this one."""
        [bracket] = self._brackets
        for record in records:
            best = 0.0
            for epoch, mrr in record.curve:
                best = max(best, mrr)
                known: Any = SimpleNamespace(trial_id=record.name)
                bracket.on_result(known, epoch, best)

    def on_trial_result(self, tune_controller: Any, trial: RayTrial, result: dict[str, Any]) -> str:
        """Say that every trial goes on; see `TrialScheduler.on_trial_result`."""
        decision = super().on_trial_result(tune_controller, trial, result)
        if decision == TrialScheduler.STOP:
            halt(folder_of(self._trials, trial))
        return TrialScheduler.CONTINUE if decision == TrialScheduler.STOP else decision


class Stopper(tune.Callback):
    """Ends a round once the sweep is asked to stop and each of its trials has written a checkpoint.

    Also one whose sweep another command has taken over: its workers leave by themselves, and get the time to.
    """

    def __init__(self, sweep: Path, trials: Path, claim: Claim):
        """Watch for the stop file of a sweep whose run folders lie in `trials`, and for the loss of its claim."""
        self._claim = claim
        self._file = stop_file(sweep)
        self._trials = trials
        self._lost_at: float | None = None
        self._next_look = 0.0

    def on_step_end(self, iteration: int, trials: list[RayTrial], **info: Any) -> None:
        """Pass the wish on to the trials, and raise when they have followed it.

        Raises:
            Interrupted: no trial is training any more.
            TakenOver: the sweep is another command's now.
        """
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + _POLL_SECONDS
        if not self._claim.is_held():
            self._leave()
            return
        if not self._file.exists():
            return
        folders = [folder_of(self._trials, trial) for trial in trials if trial.status == RayTrial.RUNNING]
        busy = [folder for folder in folders if _is_running(folder)]
        for folder in busy:
            # Again and again: a trial that is just starting takes away what it finds there.
            folder.stop.touch()
        if not busy:
            raise Interrupted(
                f"{self._file.parent}: stopped as asked, {_count_interrupted(folders)} trials with a checkpoint; the "
                "same command goes on from there"
            )

    def _leave(self) -> None:
        now = time.monotonic()
        self._lost_at = self._lost_at or now
        if now - self._lost_at >= _SECONDS_TO_LEAVE:
            self._claim.require()


def _count_interrupted(folders: list[RunFolder]) -> int:
    # Others had not begun, or had just ended.
    return sum((folder.checkpoints / "LATEST").is_file() for folder in folders)


def folder_of(trials: Path, trial: RayTrial) -> RunFolder:
    """Return the run folder of a trial of Tune's."""
    asked = trial.config["trial"]
    return RunFolder(trials / name_run(asked["changes"], asked["seed"]))
