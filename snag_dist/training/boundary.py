"""What workers agree on between two steps: to save, to publish what is written, to stop.

Every worker adds its votes to the numbers of a step, which are summed over the workers anyway. So all of them see the
same sums at the same step, and act alike, at no exchange of their own.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from snag_dist.training.checkpoint import CheckpointConfig
from snag_dist.training.claim import Claim
from snag_dist.training.interruption import Lookout

_SECONDS_BETWEEN_QUESTIONS = 5.0


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Notices:
    """Where a worker hears that it must not go on.

    Attributes:
        stop_requested: whether somebody asks the run to stop; the first worker's answer counts.
        preempted: whether a node will be taken back, for which the cluster starts the workers anew elsewhere; a
            collective, and slow.
        claim: of the driver, which another one may take from it.
    """

    stop_requested: Callable[[], bool] = _never
    preempted: Callable[[], bool] | None = None
    claim: Claim | None = None


class Votes(NamedTuple):
    """A worker's, or the sums over the workers.

    Attributes:
        stop: the run is asked to stop.
        due: a checkpoint is due by the clock.
        ask: it is time to ask whether a node will be taken back.
        writing: a part of the checkpoint on its way is not written yet.
        taken: another driver has begun with the run.
    """

    stop: float
    due: float
    ask: float
    writing: float
    taken: float


@dataclass(frozen=True)
class Decision:
    """What all workers do before the next step.

    Attributes:
        publish: the checkpoint on its way is written everywhere.
        save: take a checkpoint, now.
        urgent: and wait until it is published.
        stop: then end.
    """

    publish: bool
    save: bool
    urgent: bool
    stop: bool


class Boundary:
    """Votes of one worker, and the decisions of all."""

    def __init__(self, config: CheckpointConfig, rank: int, notices: Notices):
        self._config = config
        self._is_first = rank == 0
        self._notices = notices
        claim = notices.claim
        self._is_taken = Lookout(_never if claim is None else lambda: not claim.is_held())
        self._saved_at = time.monotonic()
        self._saved_step = 0
        self._asked_at = 0.0
        self._is_preempted = False

    def saved(self, step: int) -> None:
        """Hear that a checkpoint was taken, or gone on from, after `step` steps."""
        self._saved_at, self._saved_step = time.monotonic(), step

    def votes(self, *, in_flight: bool, is_writing: bool) -> Votes:
        """Give this worker's votes for the end of the step that begins.

        Args:
            in_flight: a checkpoint is on its way; the next is not due by the clock before it is published.
            is_writing: this worker's part of it is not written yet.
        """
        stop = due = ask = taken = False
        if self._is_first:
            now, every = time.monotonic(), self._config.every_seconds
            stop, taken = self._notices.stop_requested(), self._is_taken()
            due = every is not None and not in_flight and now - self._saved_at >= every
            ask = self._notices.preempted is not None and now - self._asked_at >= _SECONDS_BETWEEN_QUESTIONS
            if ask:
                self._asked_at = now
        return Votes(float(stop), float(due), float(ask), float(is_writing), float(taken))

    def decide(self, sums: Sequence[float], step: int, *, ends_epoch: bool) -> Decision:
        """Decide from the sums of the votes; the same on every worker. A collective where a question is due.

        Args:
            sums: of `Votes` over the workers.
            step: steps taken so far.
            ends_epoch: the step was the last of its epoch, after which an evaluation may save anyway.

        Raises:
            TakenOver: another driver has begun with the run; on every worker.
        """
        votes = Votes(*sums)
        if votes.taken > 0 and self._notices.claim is not None:
            raise self._notices.claim.loss()
        stop, urgent = votes.stop > 0, False
        if votes.ask and not self._is_preempted and self._notices.preempted is not None:
            # Once: the cluster starts the workers anew when the node goes, and they go on from this checkpoint.
            urgent = self._is_preempted = self._notices.preempted()
        every = self._config.every_steps
        due = votes.due > 0 or (every is not None and step - self._saved_step >= every)
        return Decision(
            publish=votes.writing == 0,
            save=stop or urgent or (due and not ends_epoch),
            urgent=stop or urgent,
            stop=stop,
        )
