"""What the driver sees of the workers while they run: deaths, restarts, and warnings that must not be missed."""

import logging
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from ray.train import UserCallback

from snag_dist.errors import find_user_error
from snag_dist.training.claim import Claim
from snag_dist.training.run_folder import RunFolder

logger = logging.getLogger("snag_dist")

T = TypeVar("T")

_POLL_SECONDS = 0.5


class RestartCounter(UserCallback):
    """Called by Ray Train's controller when workers fail: counts what is started anew, and ends what cannot be cured.

    Ray Train would start workers anew after any error; one that is the user's to mend would only come again.
    """

    def __init__(self, folder: RunFolder, max_failures: int, *, counts: bool, claim: Claim | None = None):
        """Look after a run, as long as the claim is held; `counts` is whether restarts are kept in its status."""
        self._folder = folder
        self._claim = claim
        self._left = max_failures
        self._counts = counts

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """See `UserCallback.after_exception`."""
        if self._claim is not None:
            self._claim.require()
        for error in worker_exceptions.values():
            cause = find_user_error(error)
            if cause is not None:
                raise cause
        taken = any(_was_taken_back(error) for error in worker_exceptions.values())
        if not self._counts or (not taken and not self._left):
            return
        if not taken:
            self._left -= 1
        rank, error = min(worker_exceptions.items())
        words = next(iter(str(error).splitlines()), "")
        self._folder.count_restart(f"worker {rank} failed with {type(error).__name__} ({words})")


def _was_taken_back(error: Exception) -> bool:
    """Whether a worker died with a node that was taken back with a notice, which Ray does not count as a failure."""
    cause = getattr(error, "health_check_failure", error)
    return bool(getattr(cause, "preempted", False))


def wait(work: Callable[[], T], folder: RunFolder) -> T:
    """Call something that takes as long as the run, show the run's warnings when they come, and all of them at the end.

    The work is done in another thread, so that signals to this one are free for the run: Ray Train would answer SIGINT
    by ending the workers at once.

    Raises:
        Exception: whatever the work raises.
    """
    seen = len(folder.read_warnings())
    shown = seen
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again below, in the thread that waits
            errors.append(error)

    thread = threading.Thread(target=run, name="fit", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_POLL_SECONDS)
        for text in folder.read_warnings()[shown:]:
            logger.warning(text)
            shown += 1
    warnings = folder.read_warnings()[seen:]
    if warnings:
        logger.warning("%s: %d warning(s) while it ran, kept in run.json:", folder.path.name, len(warnings))
        for text in warnings:
            logger.warning("  %s", text)
    if errors:
        raise errors[0]
    return results[0]
