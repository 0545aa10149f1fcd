"""How a run looks from the driver: a bar with ETA on a terminal, plain lines elsewhere."""

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from snag_dist.training.run_folder import RunFolder

logger = logging.getLogger("snag_dist")

_POLL_SECONDS = 0.5
_RATE = "_per_second"


class ProgressReport:
    """A bar with ETA on a terminal; on anything else a plain line every few seconds."""

    def __init__(self, total: int, label: str, seconds_between_lines: float = 5.0):
        self._total = total
        self._label = label
        self._pause = seconds_between_lines
        self._start = time.monotonic()
        self._last = 0.0
        self._first: int | None = None
        self._bar: Progress | None = None
        if sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[text]}"),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task(label, total=total, text="")
            self._bar.start()

    def advance(self, done: int, text: str) -> None:
        """Say that `done` of the total are done, with a few words."""
        if self._first is None:
            self._first = done
        # A stage that mines links takes more steps than could be told at the start.
        self._total = max(self._total, done)
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=self._total, text=text)
            return
        now = time.monotonic()
        if now - self._last < self._pause and done < self._total:
            return
        self._last = now
        made = done - self._first
        left = (now - self._start) / made * (self._total - done) if made > 0 else float("nan")
        logger.info("%s %d/%d  eta %s  %s", self._label, done, self._total, _clock(left), text)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.stop()


def _clock(seconds: float) -> str:
    if seconds != seconds:
        return "--:--"
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"


@contextmanager
def show_stages() -> Iterator[Callable[[str, int, int], None]]:
    """Show work that comes in stages; the block calls what it is given with (stage, done, total)."""
    reports: dict[str, ProgressReport] = {}

    def advance(stage: str, done: int, total: int) -> None:
        if stage not in reports:
            for earlier in reports.values():
                earlier.close()
            reports[stage] = ProgressReport(total, stage)
        reports[stage].advance(done, "")

    try:
        yield advance
    finally:
        for report in reports.values():
            report.close()


@contextmanager
def follow(log: Path, num_steps: int, label: str) -> Iterator[None]:
    """Show the progress of a run, as told by its log file, while the block runs."""
    report = ProgressReport(num_steps, label)
    last_evaluation = ""

    def show(values: Mapping[str, Any]) -> None:
        nonlocal last_evaluation
        if "dev" in values:
            last_evaluation = f"dev MRR {values['dev']['mrr']:.4f} "
        report.advance(values["step"], last_evaluation + _describe(values))

    try:
        with watch(log, show):
            yield
    finally:
        report.close()


@contextmanager
def watch(log: Path, tell: Callable[[Mapping[str, Any]], None]) -> Iterator[None]:
    """Hand on every line that comes to a log while the block runs, from another thread; the last before it ends.

    Args:
        log: of a run, one JSON tree a line.
        tell: is called with the tree of a line, for one after another.
    """
    done = threading.Event()
    offset = RunFolder(log.parent).whole_log_bytes()
    thread = threading.Thread(target=_watch, args=(log, offset, tell, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _watch(log: Path, offset: int, tell: Callable[[Mapping[str, Any]], None], done: threading.Event) -> None:
    while True:
        finished = done.wait(_POLL_SECONDS)
        if log.is_file():
            with log.open(encoding="utf-8") as file:
                file.seek(offset)
                for line in iter(file.readline, ""):
                    if not line.endswith("\n"):
                        break
                    offset += len(line.encode())
                    tell(json.loads(line))
        if finished:
            return


def _describe(values: Mapping[str, Any]) -> str:
    if "loss" not in values:
        return ""
    unit, rate = next((name, value) for name, value in values.items() if name.endswith(_RATE))
    return f"loss {values['loss']:.4f}  {rate:,.0f} {unit.removesuffix(_RATE)}/s"
