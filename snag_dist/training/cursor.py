"""How far a run is, and how far it was when a checkpoint was taken."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from snag_dist.training.checkpoint_files import is_name, name_of_step, read_pointer


@dataclass(frozen=True)
class Cursor:
    """How far a run is.

    Attributes:
        epoch: complete epochs.
        step: steps taken over the whole run.
        epoch_step: steps taken in the epoch under way.
        best_mrr: of the dev split so far; -1 before the first evaluation.
        best_step: where that was.
        evaluations_since_best: for early stopping.
        stage: number of the stage under way.
        stage_start: complete epochs when it began.
        seconds: that the run has had so far, by the first worker's clock; two runs that are the same differ in it.
        is_over: the time of the run was over at the last evaluation.
    """

    epoch: int = 0
    step: int = 0
    epoch_step: int = 0
    best_mrr: float = -1.0
    best_step: int = 0
    evaluations_since_best: int = 0
    stage: int = 0
    stage_start: int = 0
    seconds: float = field(default=0.0, compare=False)
    is_over: bool = False

    @property
    def stage_epochs(self) -> int:
        """Complete epochs of the stage under way."""
        return self.epoch - self.stage_start

    def next_stage(self) -> "Cursor":
        """Return the beginning of the next stage, which selects a best checkpoint of its own."""
        return replace(
            self, stage=self.stage + 1, stage_start=self.epoch, best_mrr=-1.0, best_step=0, evaluations_since_best=0
        )


def read_cursor(folder: Path) -> Cursor | None:
    """Cursor of the latest checkpoint in a folder of checkpoints; None before the first."""
    name = read_pointer(folder / "LATEST")
    return None if name is None or not is_name(name) else cursor_of(folder / name)


def cursor_of(folder: Path) -> Cursor:
    """Cursor of a checkpoint."""
    return Cursor(**json.loads((folder / "cursor.json").read_text(encoding="utf-8")))


def best_at(folder: Path) -> str | None:
    """Name of the checkpoint that was the best of its stage when one was taken; None before an evaluation."""
    try:
        cursor = cursor_of(folder)
    except (OSError, ValueError, TypeError):
        # Damaged: found when the version is read, not when it is kept.
        return None
    return name_of_step(cursor.best_step) if cursor.best_mrr >= 0 else None
