"""One piece of work at a time beside the training: what writes a checkpoint while the next steps are taken."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from snag_dist.errors import SnagError

T = TypeVar("T")


class Background(Generic[T]):
    """A call in a thread of its own; its result, or the user's error it met, is asked for later."""

    def __init__(self, work: Callable[[], T]):
        """Begin."""
        self._work = work
        self._outcome: T | SnagError | None = None
        self._bug: BaseException | None = None
        # A process that must end does not wait for it: what it leaves is removed when the run goes on.
        self._thread = threading.Thread(target=self._run, name="checkpoint", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._outcome = self._work()
        except SnagError as error:
            self._outcome = error
        except BaseException as error:  # noqa: BLE001 - raised again where the outcome is asked for
            self._bug = error

    @property
    def is_running(self) -> bool:
        """Whether the call has not come to its end."""
        return self._thread.is_alive()

    def outcome(self) -> T | SnagError:
        """Wait for the end, and return the result or the user's error; anything else is raised here."""
        self._thread.join()
        if self._bug is not None:
            raise self._bug
        assert self._outcome is not None
        return self._outcome
