"""What a run records while it runs: JSON lines and TensorBoard by rank 0, gauges by every worker, trackers if asked."""

import json
import time
from collections.abc import Mapping
from typing import Any

import ray
from tensorboardX import SummaryWriter

from snag_dist.shard.group import Group
from snag_dist.training.gauges import Gauges
from snag_dist.training.recipe import Recipe
from snag_dist.training.recorder import Recorder, flatten
from snag_dist.training.run_folder import RunFolder
from snag_dist.training.trackers import open_trackers


class Telemetry:
    """A worker's record of a run. The driver follows rank 0's `log.jsonl` to show progress."""

    def __init__(self, folder: RunFolder, group: Group, recipe: Recipe, num_candidates: int = 0):
        """Open the record.

        Args:
            folder: of the run.
            group: the workers.
            recipe: of the run.
            num_candidates: that an example of a batch is scored against; 0 where that is not fixed.

        Raises:
            ConfigError: see `open_trackers`.
        """
        self._group = group
        self._num_candidates = num_candidates
        self._bytes_sent = group.bytes_sent
        self._recorders: list[Recorder] = []
        if group.rank == 0:
            self._recorders.append(LogFile(folder))
            self._recorders += open_trackers(recipe.telemetry, folder, recipe.to_tree())
        # A test or a benchmark may run a worker without Ray.
        if ray.is_initialized():
            self._recorders.append(Gauges(folder, group.rank))

    def log(self, step: int, epoch: int, values: Mapping[str, Any]) -> None:
        """Record the numbers of a log interval or of an evaluation, nested by name.

        Those of an interval, which have `steps`, are joined by the bytes this worker sent in it, and by the candidates
        scored a second over all workers.
        """
        record = {**values, "time": time.time()}
        if "steps" in values:
            sent = self._group.bytes_sent
            record["exchange_bytes"] = sent - self._bytes_sent
            self._bytes_sent = sent
            rate = next((value for name, value in values.items() if name.endswith("_per_second")), None)
            if rate is not None and self._num_candidates:
                record["candidates_per_second"] = rate * self._num_candidates
        for recorder in self._recorders:
            recorder.record(step, epoch, record)

    def close(self) -> None:
        """Flush and release."""
        for recorder in self._recorders:
            recorder.close()


class LogFile(Recorder):
    """`log.jsonl` and the event files of a run."""

    def __init__(self, folder: RunFolder):
        folder.log.parent.mkdir(parents=True, exist_ok=True)
        self._file = folder.log.open("a", encoding="utf-8")
        # A process that was killed while it wrote left half a line, whose step is taken again.
        self._file.truncate(folder.whole_log_bytes())
        self._folder = folder
        # Opened with the first number: a run that cannot go on leaves no empty file of events.
        self._events: SummaryWriter | None = None

    def record(self, step: int, epoch: int, values: Mapping[str, Any]) -> None:
        """See `Recorder.record`."""
        self._file.write(json.dumps({"step": step, "epoch": epoch, **values}) + "\n")
        self._file.flush()
        if self._events is None:
            self._events = SummaryWriter(str(self._folder.tensorboard))
        for name, value in flatten(values).items():
            if name != "time":
                self._events.add_scalar(name, value, step)

    def close(self) -> None:
        """See `Recorder.close`."""
        if self._events is not None:
            self._events.close()
        self._file.close()
