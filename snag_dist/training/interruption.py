"""How a run is asked to stop: by SIGTERM or SIGINT to its driver, or by a file in its folder.

Workers may be on other machines, and train in a thread where Python delivers no signal. So the driver turns a signal
into the file `stop` of the run's folder, which the first worker looks for between two steps.
"""

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

logger = logging.getLogger("snag_dist")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# A look at a shared file system may cost a round trip.
_SECONDS_BETWEEN_LOOKS = 0.2


class Lookout:
    """Looks now and then for something that other processes do in the folder of a run."""

    def __init__(self, look: Callable[[], bool]):
        self._look = look
        self._next_look = 0.0

    def __call__(self) -> bool:
        """Whether it was seen; no between two looks."""
        now = time.monotonic()
        if now < self._next_look:
            return False
        self._next_look = now + _SECONDS_BETWEEN_LOOKS
        return self._look()


@contextmanager
def stop_on_signals(path: Path, is_ours: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Make the first SIGTERM or SIGINT in the block write a stop file, and the second end the block at once.

    Only the main thread can take signals; elsewhere the block hears of none. A file from before is removed, and so
    is this one, unless the block was ended at once: workers that still live then stop too.

    Args:
        path: of the stop file.
        is_ours: whether the folder is still this driver's. Another one's is left alone, and the first signal ends the
            block at once.

    Raises:
        KeyboardInterrupt: a signal came for the second time, or for the first and the folder is another driver's.
    """

    def remove() -> None:
        if is_ours():
            path.unlink(missing_ok=True)

    remove()
    if threading.current_thread() is not threading.main_thread():
        yield
        remove()
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    heard: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        # Not the file: a person may have made it.
        if heard or not is_ours():
            raise KeyboardInterrupt
        heard.append(number)
        path.write_text(f"{signal.Signals(number).name}\n", encoding="utf-8")
        logger.warning(
            "%s: a checkpoint at the next step, then the run ends; a second signal ends it at once, and loses what "
            "came after the last checkpoint",
            signal.Signals(number).name,
        )

    for number in _SIGNALS:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    remove()
