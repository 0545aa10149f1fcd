"""What a run records while it runs: JSON lines and TensorBoard scalars, written by rank 0."""

import json
import time
from collections.abc import Mapping
from typing import Any

from tensorboardX import SummaryWriter

from snag_dist.training.run_folder import RunFolder


class Telemetry:
    """Rank 0's record of a run. The driver follows `log.jsonl` to show progress."""

    def __init__(self, folder: RunFolder, rank: int):
        """Open the record; ranks other than 0 keep none."""
        self._open = rank == 0
        if self._open:
            folder.log.parent.mkdir(parents=True, exist_ok=True)
            self._file = folder.log.open("a", encoding="utf-8")
            self._events = SummaryWriter(str(folder.tensorboard))

    def log(self, step: int, epoch: int, values: Mapping[str, Any]) -> None:
        """Record the numbers of a log interval or of an evaluation, nested by name."""
        if not self._open:
            return
        self._file.write(json.dumps({"step": step, "epoch": epoch, "time": time.time(), **values}) + "\n")
        self._file.flush()
        for name, value in _flatten(values):
            self._events.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and release."""
        if self._open:
            self._events.close()
            self._file.close()


def _flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    flat: list[tuple[str, float]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat += _flatten(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            flat.append((prefix + name, float(value)))
    return flat
