"""Gauges of a run on the cluster: every node of Ray serves them to Prometheus, with the prefix `ray_`.

The board in `cluster/monitoring` shows them; a test compares its expressions with `GAUGES`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ray.util.metrics import Gauge

from snag_dist.training.recorder import Recorder
from snag_dist.training.run_folder import RunFolder

PREFIX = "ray_"
"""Ray puts it before every name."""

_RATE = "_per_second"
_EXAMPLES = ("triples", "pairs")


@dataclass(frozen=True)
class GaugeSpec:
    """A gauge.

    Attributes:
        description: with the unit.
        tags: beside `run`.
        everywhere: whether every worker has its own; else rank 0 speaks for all.
    """

    description: str
    tags: tuple[str, ...] = ()
    everywhere: bool = False


GAUGES: Mapping[str, GaugeSpec] = {
    "snag_dist_step": GaugeSpec("Steps taken."),
    "snag_dist_epoch": GaugeSpec("Complete epochs."),
    "snag_dist_loss": GaugeSpec("Mean loss of the last log interval."),
    "snag_dist_loss_term": GaugeSpec("Mean of a term of the loss over the last log interval.", ("term",)),
    "snag_dist_gradient_norm": GaugeSpec("Mean norm of the gradient before clipping, rows included."),
    "snag_dist_learning_rate": GaugeSpec("Of the dense parameters."),
    "snag_dist_examples_per_second": GaugeSpec("Triples or pairs of the global batch a second.", ("unit",)),
    "snag_dist_candidates_per_second": GaugeSpec("Candidates scored a second, over all workers; completion only."),
    "snag_dist_phase_seconds": GaugeSpec("Seconds of a step in one of its phases.", ("phase", "rank"), True),
    "snag_dist_exchange_bytes": GaugeSpec("Bytes a step that a worker sends to others.", ("rank",), True),
    "snag_dist_rows_touched": GaugeSpec("Distinct learned rows a step reads and updates, summed over owners."),
    "snag_dist_dev_mrr": GaugeSpec("MRR of the dev split at the last evaluation."),
    "snag_dist_best_dev_mrr": GaugeSpec("Best MRR of the dev split in this stage."),
    "snag_dist_evaluation_seconds": GaugeSpec("Of the last evaluation and its checkpoint."),
    "snag_dist_checkpoint_time": GaugeSpec(
        "When the latest checkpoint was written, Unix seconds; time() less it: age."
    ),
    "snag_dist_restarts": GaugeSpec("Times that dead workers of the run were started anew."),
}
"""Every gauge of ours, by name; all carry the tag `run`."""

_DIRECT = {
    "loss": "snag_dist_loss",
    "gradient_norm": "snag_dist_gradient_norm",
    "lr": "snag_dist_learning_rate",
    "candidates_per_second": "snag_dist_candidates_per_second",
    "rows_encoded": "snag_dist_rows_touched",
    "best_dev_mrr": "snag_dist_best_dev_mrr",
    "evaluation_seconds": "snag_dist_evaluation_seconds",
}
"""Names in the log to gauges."""


@dataclass(frozen=True)
class Reading:
    """A value of a gauge, with its tags beside `run`."""

    name: str
    value: float
    tags: Mapping[str, str] = field(default_factory=dict)


def read_gauges(step: int, epoch: int, values: Mapping[str, Any], rank: int) -> list[Reading]:
    """Turn a line of the log into readings.

    Args:
        step, epoch: of the line.
        values: as `Recorder.record` takes them.
        rank: of this worker; ranks other than 0 give only what is their own.
    """
    readings = [Reading("snag_dist_step", step), Reading("snag_dist_epoch", epoch)]
    readings += [Reading(gauge, values[name]) for name, gauge in _DIRECT.items() if name in values]
    readings += [
        Reading("snag_dist_loss_term", value, {"term": term}) for term, value in values.get("terms", {}).items()
    ]
    readings += [
        Reading("snag_dist_examples_per_second", values[unit + _RATE], {"unit": unit})
        for unit in _EXAMPLES
        if unit + _RATE in values
    ]
    if "dev" in values:
        readings.append(Reading("snag_dist_dev_mrr", values["dev"]["mrr"]))
    if "steps" in values:
        own, steps = {"rank": str(rank)}, values["steps"]
        readings += [
            Reading("snag_dist_phase_seconds", seconds / steps, {"phase": phase, **own})
            for phase, seconds in values["seconds"].items()
        ]
        readings.append(Reading("snag_dist_exchange_bytes", values["exchange_bytes"] / steps, own))
    return [reading for reading in readings if rank == 0 or GAUGES[reading.name].everywhere]


class Gauges(Recorder):
    """The gauges of one worker of a run."""

    def __init__(self, folder: RunFolder, rank: int):
        """Declare the gauges; this process is a worker of Ray."""
        self._folder = folder
        self._rank = rank
        self._gauges = {
            name: Gauge(name, spec.description, ("run", *spec.tags)).set_default_tags({"run": folder.path.name})
            for name, spec in GAUGES.items()
            if rank == 0 or spec.everywhere
        }

    def record(self, step: int, epoch: int, values: Mapping[str, Any]) -> None:
        """See `Recorder.record`."""
        for reading in read_gauges(step, epoch, values, self._rank):
            self._set(reading)
        if self._rank == 0:
            latest = self._folder.checkpoints / "LATEST"
            if latest.is_file():
                self._set(Reading("snag_dist_checkpoint_time", latest.stat().st_mtime))
            self._set(Reading("snag_dist_restarts", self._folder.read_status().get("restarts", 0)))

    def _set(self, reading: Reading) -> None:
        # Tags that are given are laid over the default ones.
        self._gauges[reading.name].set(float(reading.value), dict(reading.tags))
