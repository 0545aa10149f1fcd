"""Runs as their folders tell them: the resolved recipe, the reports of the test split, the weights of modalities.

A folder is a run if it holds the recipe, a folder of runs if its children do. Only finished runs count; those that are
not are named, never averaged.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, cast

from snag_dist.errors import DataError
from snag_dist.evaluation.alignment_report import AlignmentReport, AnyReport, read_alignment_report, read_any_report
from snag_dist.evaluation.method_name import Choices, MethodName, choices_of, name_method
from snag_dist.evaluation.modality_weights import WEIGHTS, ModalityWeights, read_weights

_CONFIG = "config.json"
_STATUS = "run.json"
_REPORT = "metrics-test.json"
_PLAIN_REPORT = "metrics-test-plain.json"

Missing = tuple[tuple[str, float], ...]
"""Modalities that were taken from some entities, with the ratio that keeps them, by name."""


@dataclass(frozen=True)
class ScoredRun:
    """One report of one run: an iterative alignment has two, of the stage before mining and of the last one.

    Attributes:
        path: run folder.
        dataset: last part of the path of its store.
        method: as tables name it.
        choices: what was chosen for it besides the seed.
        seed: of the run.
        epochs: training budget in words.
        batch_size: triples, or pairs, in a global batch.
        missing: modalities taken away; a ratio of 1 takes none.
        report: of the test split.
        weights: of the modalities under the scored checkpoint; None where none were written.
    """

    path: Path
    dataset: str
    method: MethodName
    choices: Choices
    seed: int
    epochs: str
    batch_size: int
    missing: Missing
    report: AnyReport
    weights: ModalityWeights | None

    @property
    def stage(self) -> str:
        """ "plain" or "iterative" of an alignment; empty for completion, which has one."""
        return self.report.protocol.stage if isinstance(self.report, AlignmentReport) else ""


@dataclass(frozen=True)
class Unfinished:
    """A run that has no final figures.

    Attributes:
        path: run folder.
        state: how far it is, in a word.
    """

    path: Path
    state: str


def find_runs(paths: Iterable[Path]) -> list[Path]:
    """List run folders: each path is one, or holds some.

    Raises:
        DataError: a path is not there, or neither is a run nor holds any.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if not path.is_dir():
            raise DataError(f"{path}: expected a run folder or a folder of runs, found none; mend the path")
        inside = sorted(child for child in path.iterdir() if (child / _CONFIG).is_file())
        runs = [path] if (path / _CONFIG).is_file() else inside
        if not runs:
            raise DataError(
                f"{path}: expected a run folder or a folder of runs with {_CONFIG}, found none; "
                "pass the folder that jobs/train.py printed"
            )
        found.update(dict.fromkeys(run.resolve() for run in runs))
    return list(found)


def read_run(path: Path) -> Sequence[ScoredRun] | Unfinished:
    """Read a run folder.

    Raises:
        DataError: a file is damaged, or a finished run has no report.
        ConfigError: a file is JSON of something else.
    """
    config = _read_tree(path / _CONFIG, "the resolved recipe of a run")
    status = _read_tree(path / _STATUS, "the status of a run") if (path / _STATUS).is_file() else {}
    if status.get("state") != "finished":
        return Unfinished(path, str(status.get("state", "not begun")))
    if not (path / _REPORT).is_file():
        raise DataError(
            f"{path / _REPORT}: expected the report of a finished run, found none; "
            f"run jobs/evaluate.py --run {path}, or leave the run out"
        )
    weights = read_weights(path / WEIGHTS) if (path / WEIGHTS).is_file() else None
    runs = [_scored(path, config, read_any_report(path / _REPORT), weights)]
    if (path / _PLAIN_REPORT).is_file():
        # The weights are those of the last stage.
        runs.insert(0, _scored(path, config, read_alignment_report(path / _PLAIN_REPORT), None))
    return runs


def _scored(path: Path, config: Mapping[str, Any], report: AnyReport, weights: ModalityWeights | None) -> ScoredRun:
    place = path / _CONFIG
    alignment = isinstance(report, AlignmentReport)
    stage = report.protocol.stage if alignment else ""
    method = _field(config, "method", dict, place)
    _field(config, "method.kind", str, place)
    epochs = str(_field(config, "train.epochs", int, place))
    if stage == "iterative":
        epochs = f"{epochs} + {_field(config, 'iterative.epochs', int, place)}"
    missing = report.protocol.missing if alignment and report.protocol.missing else _missing(config, place)
    return ScoredRun(
        path=path,
        dataset=PurePath(_field(config, "store", str, place)).name,
        method=name_method(method),
        choices=choices_of(config, stage, report.protocol.channels),
        seed=_field(config, "seed", int, place),
        epochs=epochs,
        batch_size=_field(config, "train.batch_size", int, place),
        missing=tuple(sorted((name, ratio) for name, ratio in missing.items() if ratio < 1.0)),
        report=report,
        weights=weights,
    )


def _missing(config: Mapping[str, Any], place: Path) -> dict[str, float]:
    sections = config.get("missing") or {}
    return {
        name: float(
            section if isinstance(section, int | float) else _field(config, f"missing.{name}.ratio", float, place)
        )
        for name, section in sections.items()
    }


def _read_tree(path: Path, what: str) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise DataError(
            f"{path}: expected {what} in JSON, got: {error}; leave the run out, or train it again"
        ) from error
    if not isinstance(tree, dict):
        raise DataError(f"{path}: expected {what}, got {type(tree).__name__}; leave the run out, or train it again")
    return cast("dict[str, Any]", tree)


def _field(tree: Mapping[str, Any], path: str, kind: type, place: Path) -> Any:
    value: Any = tree
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    if not isinstance(value, (int, float) if kind is float else kind):
        raise DataError(
            f"{place}: {path}: expected {kind.__name__} in a resolved recipe, got {value!r}; "
            "leave the run out, or train it again"
        )
    return value
