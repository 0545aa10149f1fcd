"""Where a run keeps its files; the folder alone is enough to continue or to evaluate it.

config.json           the resolved recipe
run.json              what the run belongs to (store fingerprint, versions), how far it is, restarts and warnings
driver.json           the command that trains it; an earlier one ends (see snag_dist.training.claim)
stop                  while it is there, the run is asked to stop at the next step
log.jsonl             one line per log interval
tensorboard/          the same as scalars
checkpoints/          step-00000123/, LATEST, BEST (see snag_dist.training.checkpoint)
ranks/<split>/        per-query ranks, Parquet
metrics-<split>.json  evaluation report: metrics, slices, protocol; metrics-<split>-plain.json that of the first of two
                      stages
weights.json          what each modality weighs in the codes, by which modalities an entity has
scratch/              mapped rows of placement `disk`: files without a name while a run goes on, then nothing
ray/                  what Ray Train keeps of its own
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from snag_dist.errors import CheckpointError
from snag_dist.store.manifest import replacing

_RESTORE = "the file is damaged: restore it from a copy, or remove the folder and begin anew"


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run, absolute."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved recipe."""
        return self.path / "config.json"

    @property
    def status(self) -> Path:
        """Provenance and progress."""
        return self.path / "run.json"

    @property
    def log(self) -> Path:
        """One JSON line per log interval."""
        return self.path / "log.jsonl"

    @property
    def tensorboard(self) -> Path:
        """Event files."""
        return self.path / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        """All checkpoints."""
        return self.path / "checkpoints"

    @property
    def scratch(self) -> Path:
        """Where workers map the rows that memory does not hold."""
        return self.path / "scratch"

    @property
    def weights(self) -> Path:
        """Weights of the modalities under the best checkpoint."""
        return self.path / "weights.json"

    @property
    def stop(self) -> Path:
        """Asks the run to stop, by being there."""
        return self.path / "stop"

    def metrics(self, split: str) -> Path:
        """Evaluation report of a split."""
        return self.path / f"metrics-{split}.json"

    def ranks(self, split: str) -> Path:
        """Per-query ranks of a split."""
        return self.path / "ranks" / split

    def whole_log_bytes(self) -> int:
        """Bytes of the log up to the end of its last whole line; 0 where there is no log."""
        return self.log.read_bytes().rfind(b"\n") + 1 if self.log.is_file() else 0

    def read_config(self) -> dict[str, Any]:
        """Read the recipe of the run.

        Raises:
            CheckpointError: this is no run folder, or the file is damaged.
        """
        if not self.config.is_file():
            raise CheckpointError(
                f"{self.path}: expected a run folder with {self.config.name}, found none; "
                "pass the folder that jobs/train.py printed"
            )
        return read_json(self.config)

    def read_status(self) -> dict[str, Any]:
        """Read provenance and progress; empty before the run has begun.

        Raises:
            CheckpointError: the file is damaged.
        """
        return read_json(self.status) if self.status.is_file() else {}

    def write_status(self, **changes: Any) -> None:
        """Change some fields of the status, in one replacement of the file."""
        write_json(self.status, {**self.read_status(), **changes})

    def add_warning(self, text: str) -> None:
        """Keep a warning with the run, for everyone who looks at it."""
        self.write_status(warnings=[*self.read_warnings(), text])

    def count_restart(self, why: str) -> None:
        """Count a restart of all workers, and warn of it; whatever notice there was of it is over."""
        number = self.read_status().get("restarts", 0) + 1
        self.write_status(restarts=number, notice=False)
        self.add_warning(f"restart {number}: {why}; all workers are started anew and go on from the last checkpoint")

    def read_warnings(self) -> list[str]:
        """Read the warnings of the run so far, the oldest first."""
        return self.read_status().get("warnings", [])


def write_json(path: Path, tree: Any) -> None:
    """Write JSON beside its place and rename, so that a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.write_text(json.dumps(tree, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read a tree that `write_json` wrote.

    Raises:
        CheckpointError: the file holds something else.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path}: expected JSON, got: {error}; {_RESTORE}") from error
    if not isinstance(tree, dict):
        raise CheckpointError(f"{path}: expected a tree of fields, got {type(tree).__name__}; {_RESTORE}")
    return cast("dict[str, Any]", tree)
