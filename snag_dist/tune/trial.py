"""One training of a sweep: its recipe, its name, and what its run folder tells."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snag_dist.config import set_path, validate
from snag_dist.errors import CheckpointError, ConfigError
from snag_dist.training.recipe import Recipe
from snag_dist.training.run_folder import RunFolder, read_json, write_json

TRIAL_FILE = "trial.json"
"""In the run folder of a trial: fields that differ from the recipe of the sweep, and the seed."""
_LONGEST_NAME = 90

ENDED = ("trained", "finished")
"""States of a run that was trained to its end, without and with the test split scored."""


def base_tree(recipe: Recipe) -> dict[str, Any]:
    """Return what was chosen in a recipe, as a plain tree that changes are laid over; paths are absolute."""
    tree = recipe.model_dump(mode="json", exclude={"variants"}, exclude_unset=True)
    return {**tree, "store": str(recipe.store.absolute()), "runs": str(recipe.runs.absolute())}


@dataclass(frozen=True)
class Trial:
    """A setting and a seed.

    Attributes:
        base: chosen part of the recipe of the sweep.
        runs: folder of the run folders, absolute.
        changes: dotted field to value.
        seed: of training.
        compared: not of the search: the winner without GMNM, trained to compare with.
    """

    base: Mapping[str, Any]
    runs: str
    changes: Mapping[str, Any]
    seed: int
    compared: bool = False

    @property
    def name(self) -> str:
        """Name of the run, from changes and seed alone: readable, and unique by a digest."""
        return name_run(self.changes, self.seed)

    @property
    def folder(self) -> RunFolder:
        """Run folder."""
        return RunFolder(Path(self.runs) / self.name)

    def tree(self) -> dict[str, Any]:
        """Return the recipe as a plain tree.

        Raises:
            ConfigError: the path of a change leads through a value.
        """
        tree: dict[str, Any] = json.loads(json.dumps(self.base))
        tree |= {"name": self.name, "runs": self.runs, "seed": self.seed}
        # Kinds first: a section whose kind changes is begun anew.
        for field in sorted(self.changes, key=lambda field: not field.endswith(".kind")):
            set_path(tree, field, self.changes[field], "tune.space:")
        return tree

    def recipe(self) -> Recipe:
        """Return the recipe.

        Raises:
            ConfigError: a change is of a field that does not exist, or to a wrong value.
        """
        return validate(Recipe, self.tree(), f"trial {self.name}")

    def fail(self, reason: str, *, is_user_error: bool) -> None:
        """Write down why it cannot be trained."""
        self.folder.write_status(state="failed", error=reason, is_user_error=is_user_error)

    def failure(self) -> Exception:
        """Return what `fail` wrote down, as an error to raise."""
        status = self.folder.read_status()
        reason = status.get("error", f"{self.folder.path}: it failed, and nobody wrote down why")
        return (ConfigError if status.get("is_user_error") else RuntimeError)(reason)

    def begin(self) -> None:
        """Write down what the trial is, before it is trained."""
        write_json(
            self.folder.path / TRIAL_FILE, {"changes": dict(self.changes), "seed": self.seed, "compared": self.compared}
        )


def short_names(fields: Iterable[str]) -> dict[str, str]:
    """Name fields by as few last parts as tell them apart: "probability", or "text.probability"."""
    paths = list(fields)
    names: dict[str, str] = {}
    for path in paths:
        parts = path.split(".")
        for num in range(1, len(parts) + 1):
            ending = parts[-num:]
            if num == len(parts) or sum(other.split(".")[-num:] == ending for other in paths) == 1:
                names[path] = ".".join(ending)
                break
    return names


def name_setting(changes: Mapping[str, Any]) -> str:
    """Name a setting: "probability-0.2_ratio-0.7-1f0c2a"; the digest is of all fields and values.

    Args:
        changes: dotted field to value.

    Returns:
        A word that may name a folder, the same for equal changes in any order.
    """
    names = short_names(changes)
    words = "_".join(f"{names[field]}-{_word(changes[field])}" for field in sorted(changes))
    digest = hashlib.sha256(json.dumps(dict(changes), sort_keys=True).encode()).hexdigest()[:6]
    readable = re.sub(r"[^A-Za-z0-9._-]+", "", words)[:_LONGEST_NAME]
    return f"{readable}-{digest}" if readable else f"as-it-is-{digest}"


def name_run(changes: Mapping[str, Any], seed: int) -> str:
    """Name the run of a setting and a seed: "probability-0.2_ratio-0.7-1f0c2a-s0"."""
    return f"{name_setting(changes)}-s{seed}"


def _word(value: Any) -> str:
    if isinstance(value, Mapping):
        return str(value.get("kind", "section"))
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class TrialRecord:
    """What the run folder of a trial tells.

    Attributes:
        name: of the run.
        changes: dotted field to value.
        seed: of training.
        state: of the run: running, stopped (by the scheduler), trained, finished (test scored), failed.
        curve: (epoch, dev MRR) of its evaluations, ascending.
        best: highest dev MRR of its last stage; None before the first evaluation.
        started, ended: seconds since 1970 of its first and last log line; 0 before the first.
        error: why it failed, in one line.
        compared: not of the search (see `Trial`).
    """

    name: str
    changes: Mapping[str, Any]
    seed: int
    state: str
    curve: tuple[tuple[int, float], ...]
    best: float | None
    started: float = 0.0
    ended: float = 0.0
    error: str = ""
    compared: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether it was trained to its end."""
        return self.state in ENDED

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be done for it."""
        return self.is_complete or self.state in ("stopped", "failed")

    @property
    def epochs(self) -> int:
        """Epochs up to its last evaluation."""
        return self.curve[-1][0] if self.curve else 0


def read_trials(runs: Path) -> list[TrialRecord]:
    """Read every trial in a folder of run folders, in the order they began; empty where there is no folder."""
    records = [read_trial(path.parent) for path in runs.glob(f"*/{TRIAL_FILE}")]
    return sorted(records, key=lambda record: (record.started or float("inf"), record.name))


def read_trial(path: Path) -> TrialRecord:
    """Read the run folder of a trial, at any moment of its life.

    Raises:
        CheckpointError: a file of it is damaged.
    """
    folder = RunFolder(path)
    trial = read_json(path / TRIAL_FILE)
    if name_run(trial.get("changes", {}), trial.get("seed", 0)) != path.name:
        raise CheckpointError(
            f"{path / TRIAL_FILE}: expected the setting that {path.name} is named by, found another one; the file is "
            "damaged: remove the run folder, and the same command trains the trial again"
        )
    status = folder.read_status()
    curve: dict[int, float] = {}
    stages: dict[int, str] = {}
    times: list[float] = []
    for line in _whole_lines(folder.log):
        times.append(line["time"])
        if "dev" in line:
            # An epoch trained again after an interruption replaces what it had before.
            curve[line["epoch"]] = line["dev"]["mrr"]
            stages[line["epoch"]] = line["stage"]
    state = status.get("state", "waiting")
    if state in ENDED and not curve:
        raise CheckpointError(
            f"{folder.log}: expected the evaluations of a trial that was trained to its end, found none; the file is "
            "damaged: remove the run folder, and the same command trains the trial again"
        )
    last = stages[max(stages)] if stages else ""
    return TrialRecord(
        name=path.name,
        changes=trial["changes"],
        seed=trial["seed"],
        state=state,
        curve=tuple(sorted(curve.items())),
        best=max((mrr for epoch, mrr in curve.items() if stages[epoch] == last), default=None),
        started=min(times, default=0.0),
        ended=max(times, default=0.0),
        error=status.get("error", ""),
        compared=trial["compared"],
    )


def _whole_lines(log: Path) -> Iterator[dict[str, Any]]:
    if not log.is_file():
        return
    with log.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith("\n"):
                return
            try:
                yield json.loads(line)
            except ValueError as error:
                raise CheckpointError(
                    f"{log} line {number}: expected JSON, got: {error}; the line is damaged: remove the run folder, "
                    "and the same command trains the trial again"
                ) from error
