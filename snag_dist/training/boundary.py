"""What workers agree on between two steps: to save, to publish what is written, to stop, that the time is over.

Every worker adds its votes to the numbers of a step, which are summed over the workers anyway. So all of them see the
same sums at the same step, and act alike, at no exchange of their own.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from snag_dist.shard.group import Group
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
        over: the time of the run is over.
    """

    stop: float
    due: float
    ask: float
    writing: float
    taken: float
    over: float


@dataclass(frozen=True)
class Decision:
    """What all workers do before the next step.

    Attributes:
        publish: the checkpoint on its way is written everywhere.
        save: take a checkpoint, now.
        urgent: and wait until it is published.
        stop: then end.
        over: then take no more steps; evaluate, and end as after the last epoch.
    """

    publish: bool
    save: bool
    urgent: bool
    stop: bool
    over: bool


class Boundary:
    """Votes of one worker, and the decisions of all."""

    def __init__(self, config: CheckpointConfig, group: Group, notices: Notices, *, max_seconds: float | None = None):
        """Begin to count: of `max_seconds`, time before the run was interrupted is told by `saved`."""
        self._config = config
        self._group = group
        self._is_first = group.rank == 0
        self._notices = notices
        self._max_seconds = max_seconds
        self._began_at = time.monotonic()
        self._seconds_before = 0.0
        claim = notices.claim
        self._is_taken = Lookout(_never if claim is None else lambda: not claim.is_held())
        self._saved_at = time.monotonic()
        self._saved_step = 0
        self._asked_at = 0.0
        self._is_preempted = False

    def saved(self, step: int) -> None:
        """Hear that a checkpoint was taken, or gone on from, after `step` steps."""
        self._saved_at, self._saved_step = time.monotonic(), step

    def go_on_from(self, step: int, seconds: float) -> None:
        """Hear where the run goes on, and how many seconds it has had before."""
        self.saved(step)
        self._began_at, self._seconds_before = time.monotonic(), seconds

    def seconds(self) -> float:
        """Seconds the run has had, of steps and of evaluations, by this worker's clock."""
        return self._seconds_before + time.monotonic() - self._began_at

    def is_over(self) -> bool:
        """Whether the time of the run is over, by the first worker's clock. A collective."""
        return bool(self._max_seconds is not None and self._group.broadcast_object(self._is_late()))

    def _is_late(self) -> bool:
        return self._max_seconds is not None and self.seconds() >= self._max_seconds

    def votes(self, *, in_flight: bool, is_writing: bool) -> Votes:
        """Give this worker's votes for the end of the step that begins.

        Args:
            in_flight: a checkpoint is on its way; the next is not due by the clock before it is published.
            is_writing: this worker's part of it is not written yet.
        """
        stop = due = ask = taken = over = False
        if self._is_first:
            now, every = time.monotonic(), self._config.every_seconds
            stop, taken, over = self._notices.stop_requested(), self._is_taken(), self._is_late()
            due = every is not None and not in_flight and now - self._saved_at >= every
            ask = self._notices.preempted is not None and now - self._asked_at >= _SECONDS_BETWEEN_QUESTIONS
            if ask:
                self._asked_at = now
        return Votes(float(stop), float(due), float(ask), float(is_writing), float(taken), float(over))

    def decide(self, sums: Sequence[float], step: int, *, ends_epoch: bool) -> Decision:
        """Decide from the sums of the votes; the same on every worker. A collective where a question is due.

        Args:
            sums: of `Votes` over the workers.
            step: steps taken so far.
            ends_epoch: the step was the last of its epoch, after which an evaluation may save anyway; as one does where
                the time is over.

        Raises:
            TakenOver: another driver has begun with the run; on every worker.
        """
        votes = Votes(*sums)
        if votes.taken > 0 and self._notices.claim is not None:
            raise self._notices.claim.loss()
        stop, over, urgent = votes.stop > 0, votes.over > 0, False
        if votes.ask and not self._is_preempted and self._notices.preempted is not None:
            # Once: the cluster starts the workers anew when the node goes, and they go on from this checkpoint.
            urgent = self._is_preempted = self._notices.preempted()
        every = self._config.every_steps
        due = votes.due > 0 or (every is not None and step - self._saved_step >= every)
        return Decision(
            publish=votes.writing == 0,
            save=stop or urgent or (due and not ends_epoch and not over),
            urgent=stop or urgent,
            stop=stop,
            over=over,
        )
