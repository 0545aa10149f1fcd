"""Runs side by side: methods x datasets x metrics, mean and standard deviation over seeds.

What is averaged differs in nothing but the seed. Runs that share a name but not all choices (epochs, learning rate, an
ablation) become rows of their own, named by what differs. What no name can mend is refused: figures of one dataset that
were measured on other candidates, other links or another store, since a column of them would compare what cannot be
compared, and one seed twice with two results, since then something outside the recipe has changed.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from snag_dist.errors import DataError
from snag_dist.evaluation.alignment_report import AlignmentReport, AnyReport
from snag_dist.evaluation.method_name import tell_apart
from snag_dist.evaluation.modality_weights import ModalityWeights
from snag_dist.evaluation.report import RankRecord
from snag_dist.evaluation.scored_runs import Missing, ScoredRun, Unfinished, find_runs, read_run
from snag_dist.ranking.metrics import HITS_AT

METRICS = ("mrr", *(f"hits@{k}" for k in HITS_AT), "mean_rank")
"""Of the realistic rank, by the name they have in tables on disk."""


@dataclass(frozen=True)
class Way:
    """How candidates were asked for; words, as reports have them."""

    candidates: str
    similarity: str
    direction: str


COMPLETION = Way("all", "score", "both")
"""Every entity is a candidate, both sides are asked for."""
PUBLISHED = Way("counterparts", "csls", "left_to_right")
"""The headline of alignment."""
REAL = Way("all", "csls", "left_to_right")
"""Alignment as it is met outside a benchmark."""


@dataclass(frozen=True)
class Row:
    """A method in one table: its name, whether GMNM is on, and the stage of an alignment (empty for completion)."""

    task: str
    label: str
    gmnm: bool
    stage: str


@dataclass(frozen=True)
class Column:
    """What was measured on: a dataset, and the modalities taken away from it."""

    dataset: str
    missing: Missing

    @property
    def name(self) -> str:
        """In words: "emoji, vision .4"."""
        return ", ".join([self.dataset, *(f"{name} {ratio:g}".replace(" 0.", " .") for name, ratio in self.missing)])

    def order(self) -> tuple[str, int, list[tuple[str, float]]]:
        """Return what columns are sorted by: the dataset as it came before ever lower ratios."""
        return self.dataset, len(self.missing), [(name, -ratio) for name, ratio in self.missing]


@dataclass(frozen=True)
class Setting:
    """What a table states of a cell besides its figures.

    Attributes:
        channels: by modality, what the encoder saw besides the graph.
        epochs, batch_size: training budget.
        selection: how checkpoints were chosen, and on what.
        split: that was scored.
    """

    channels: tuple[tuple[str, str], ...]
    epochs: str
    batch_size: int
    selection: str
    split: str


@dataclass(frozen=True)
class Mean:
    """A metric over seeds: its values, in the order of the seeds."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return fmean(self.values)

    @property
    def std(self) -> float | None:
        """Sample standard deviation (ddof 1); None for one seed."""
        return stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Cell:
    """One method on one dataset.

    Attributes:
        seeds: ascending.
        figures: by way of asking and metric.
        weights: of the modalities, averaged over the seeds that have them.
    """

    row: Row
    column: Column
    setting: Setting
    seeds: tuple[int, ...]
    figures: Mapping[Way, Mapping[str, Mean]]
    weights: ModalityWeights | None


@dataclass(frozen=True)
class Comparison:
    """Cells in the order of their names, and the runs that are not finished."""

    cells: tuple[Cell, ...]
    unfinished: tuple[Unfinished, ...]

    def of_task(self, task: str) -> list[Cell]:
        """Return the cells of "completion" or "alignment"."""
        return [cell for cell in self.cells if cell.row.task == task]


def compare_folders(paths: Iterable[Path]) -> Comparison:
    """Compare the runs in some folders; each path is a run folder or a folder of runs.

    Raises:
        DataError: a path holds no run, a file is damaged, no run is finished, or see `compare`.
        ConfigError: a file is JSON of something else.
    """
    read = [read_run(path) for path in find_runs(paths)]
    unfinished = tuple(run for run in read if isinstance(run, Unfinished))
    scored = [run for runs in read if not isinstance(runs, Unfinished) for run in runs]
    if not scored:
        raise DataError(
            f"{unfinished[0].path}: expected a finished run, got {len(unfinished)} unfinished ones; "
            "finish their training with jobs/train.py"
        )
    return replace(compare(scored), unfinished=unfinished)


def compare(runs: Sequence[ScoredRun]) -> Comparison:
    """Group runs by what they measure and average each group over its seeds.

    Raises:
        DataError: two runs of a dataset were measured under different protocols, or a seed of a group has two results.
    """
    named: dict[tuple[Row, Column], list[ScoredRun]] = {}
    first: dict[Column, ScoredRun] = {}
    for run in runs:
        column = Column(run.dataset, run.missing)
        _check_protocol(first.setdefault(column, run), run)
        row = Row(run.report.task, run.method.label, run.method.gmnm, run.stage)
        named.setdefault((row, column), []).append(run)
    cells: list[Cell] = []
    for (row, column), sharing in named.items():
        groups: list[list[ScoredRun]] = []
        for run in sharing:
            group = next((group for group in groups if group[0].choices == run.choices), None)
            groups.append([run]) if group is None else group.append(run)
        for group, difference in zip(groups, tell_apart([group[0].choices for group in groups]), strict=True):
            label = f"{row.label}, {difference}" if difference else row.label
            cells.append(_average(replace(row, label=label), column, group))
    cells.sort(key=lambda cell: (_row_order(cell.row), cell.column.order()))
    return Comparison(tuple(cells), ())


def _row_order(row: Row) -> tuple[str, bool, str, bool]:
    return row.task, row.stage == "iterative", row.label, row.gmnm


def _average(row: Row, column: Column, runs: Sequence[ScoredRun]) -> Cell:
    by_seed: dict[int, ScoredRun] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        other = by_seed.setdefault(run.seed, run)
        if _records(other.report) != _records(run.report):
            raise DataError(
                f"{run.path}: expected the figures of {other.path}, which has the same recipe and seed {run.seed}, got "
                "others; leave one of the two out"
            )
    kept = list(by_seed.values())
    records = [_records(run.report) for run in kept]
    weights = [run.weights for run in kept if run.weights is not None]
    first = kept[0]
    return Cell(
        row=row,
        column=column,
        setting=Setting(
            channels=tuple(sorted(first.report.protocol.channels.items())),
            epochs=first.epochs,
            batch_size=first.batch_size,
            # The value on dev differs from seed to seed.
            selection=re.sub(r" \([0-9.]+\)", "", first.report.protocol.selection),
            split=first.report.protocol.split,
        ),
        seeds=tuple(by_seed),
        figures={
            way: {metric: Mean(tuple(_value(record[way], metric) for record in records)) for metric in METRICS}
            for way in records[0]
        },
        weights=ModalityWeights.average(weights) if weights else None,
    )


def _records(report: AnyReport) -> dict[Way, RankRecord]:
    if isinstance(report, AlignmentReport):
        return {Way(it.candidates, it.similarity, it.direction): it.metrics for it in report.results}
    return {COMPLETION: report.metrics}


def _value(record: RankRecord, metric: str) -> float:
    means = record.realistic
    name, _, k = metric.partition("@")
    return means.hits[int(k)] if name == "hits" else getattr(means, name)


def _check_protocol(first: ScoredRun, run: ScoredRun) -> None:
    expected, found = _protocol(first.report), _protocol(run.report)
    for name in expected:
        if expected[name] != found.get(name):
            raise DataError(
                f"{run.path}: {name}: expected {expected[name]!r} as in {first.path}, which has the same dataset "
                f"{run.dataset!r}, got {found.get(name)!r}; one table has one protocol: pass them apart"
            )


def _protocol(report: AnyReport) -> dict[str, Any]:
    """Return what two figures of a dataset must share to stand in one column, by name."""
    kept = report.protocol.model_dump()
    for name in ("checkpoint", "selection", "seed", "channels", "stage", "missing", "score_dtype"):
        kept.pop(name, None)
    if isinstance(report, AlignmentReport):
        kept["results"] = [
            f"{it.candidates} ({it.num_candidates}), {it.similarity}, {it.direction}" for it in report.results
        ]
    return {"task": report.task, **kept}
