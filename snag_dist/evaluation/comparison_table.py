"""A comparison as the papers print it: methods down, datasets and their metrics across, settings below; and as CSV.

Every figure is a mean over seeds with the sample standard deviation beside it; the number of seeds stands in the table,
channels, epochs, batch size and the split that selected stand in numbered settings below it.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from snag_dist.evaluation.comparison import (
    COMPLETION,
    METRICS,
    PUBLISHED,
    REAL,
    Cell,
    Column,
    Comparison,
    Mean,
    Row,
    Setting,
    Way,
)

SHOWN: Mapping[str, tuple[str, ...]] = {
    "completion": ("mrr", "hits@1", "hits@3", "hits@10"),
    "alignment": ("hits@1", "hits@10", "mrr"),
}
"""Metrics by task, as the papers have them; CSV has all."""
HEADERS = {"mrr": "MRR", "hits@1": "H@1", "hits@3": "H@3", "hits@10": "H@10", "mean_rank": "MR"}
"""Metrics as tables name them."""
TASKS = tuple(SHOWN)

_CSV_COLUMNS = (
    *("task", "dataset", "method", "gmnm", "stage", "missing", "candidates", "similarity", "direction", "metric"),
    *("mean", "std", "num_seeds", "seeds", "channels", "epochs", "batch_size", "selection", "split"),
)
# Characters of a metric and of the two columns after the metrics in a terminal, borders included.
_METRIC_WIDTH, _AFTER_WIDTH, _BEFORE_WIDTH = 14, 18, 40


@dataclass(frozen=True)
class Grid:
    """The cells of one task under one way of asking.

    Attributes:
        task, way: what was asked.
        metrics: shown, best known first.
        rows, columns: in the order they are shown.
        cells: by row and column; a method need not have been run on every dataset.
        settings: what cells were made with, numbered from 1.
    """

    task: str
    way: Way
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    cells: Mapping[tuple[Row, Column], Cell]
    settings: Mapping[Setting, int]

    @property
    def title(self) -> str:
        """The question in words."""
        if self.task == "completion":
            return "Completion: all entities, both sides, known-true triples removed"
        asked = f"{self.way.candidates}, {self.way.similarity}, {self.way.direction.replace('_', ' ')}"
        note = {PUBLISHED: " (published protocol)", REAL: " (all entities of the other graph)"}.get(self.way, "")
        return f"Alignment: {asked}{note}"

    def mean(self, row: Row, column: Column, metric: str) -> Mean | None:
        """Return a figure, or None where the method was not run on the dataset."""
        cell = self.cells.get((row, column))
        return None if cell is None or self.way not in cell.figures else cell.figures[self.way][metric]

    def is_best(self, row: Row, column: Column, metric: str) -> bool:
        """Return whether no other method has a higher mean there, of at least two that were run."""
        found = [mean.mean for other in self.rows if (mean := self.mean(other, column, metric)) is not None]
        own = self.mean(row, column, metric)
        return own is not None and len(found) > 1 and own.mean == max(found)


def grids(comparison: Comparison) -> list[Grid]:
    """Lay out a comparison: completion, then alignment under its published question, the real one, and the others."""
    found: list[Grid] = []
    for task in TASKS:
        cells = comparison.of_task(task)
        ways = dict.fromkeys(way for cell in cells for way in cell.figures)
        settings = dict.fromkeys(cell.setting for cell in sorted(cells, key=lambda cell: cell.column.order()))
        first = [way for way in (COMPLETION, PUBLISHED, REAL) if way in ways]
        for way in dict.fromkeys([*first, *ways]):
            found.append(
                Grid(
                    task=task,
                    way=way,
                    metrics=SHOWN[task],
                    rows=tuple(dict.fromkeys(cell.row for cell in cells)),
                    columns=tuple(sorted({cell.column for cell in cells}, key=Column.order)),
                    cells={(cell.row, cell.column): cell for cell in cells},
                    settings={setting: number for number, setting in enumerate(settings, start=1)},
                )
            )
    return found


def main_grids(comparison: Comparison) -> list[Grid]:
    """Return the grids that people look at first; the others answer the same question in other ways."""
    return [grid for grid in grids(comparison) if grid.way in (COMPLETION, PUBLISHED, REAL)]


def text_tables(comparison: Comparison, width: int) -> Iterator[Table | Text]:
    """Lay the main grids out for a terminal, datasets side by side as far as they fit, unfinished runs at the end.

    Args:
        width: of the terminal in characters.
    """
    for grid in main_grids(comparison):
        each = len(grid.metrics) * _METRIC_WIDTH + _AFTER_WIDTH
        num = max(1, (width - _BEFORE_WIDTH) // each)
        for start in range(0, len(grid.columns), num):
            yield _text_table(grid, grid.columns[start : start + num])
        yield Text("\n".join(setting_lines(grid)))
    for line in unfinished_lines(comparison):
        yield Text(line)


def _text_table(grid: Grid, columns: Sequence[Column]) -> Table:
    table = Table(title=Text(grid.title), title_justify="left")
    table.add_column("method")
    table.add_column("GMNM")
    for column in columns:
        for place, metric in enumerate(grid.metrics):
            header = f"{column.name if place == 0 else ''}\n{HEADERS[metric]}"
            table.add_column(Text(header), justify="right", no_wrap=True)
        table.add_column("\nseeds", justify="right")
        table.add_column("\nsetting", justify="right")
    rows = [row for row in grid.rows if any((row, column) in grid.cells for column in columns)]
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        words = [Text(name_row(row)), "on" if row.gmnm else "off"]
        for column in columns:
            words += [
                Text(write_mean(grid.mean(row, column, it)), style="bold" if grid.is_best(row, column, it) else "")
                for it in grid.metrics
            ]
            words += cell_notes(grid, row, column)
        table.add_row(*words, end_section=following is not None and following.stage != row.stage)
    return table


def name_row(row: Row) -> str:
    """Name a method, and the stage where a figure is not of completion: "SNAG, non-iterative"."""
    stages = {"plain": ", non-iterative", "iterative": ", iterative"}
    return f"{row.label}{stages.get(row.stage, '')}"


def cell_notes(grid: Grid, row: Row, column: Column) -> list[str]:
    """Write the number of seeds and of the setting of a cell; empty where it was not run."""
    cell = grid.cells.get((row, column))
    return ["", ""] if cell is None else [str(len(cell.seeds)), str(grid.settings[cell.setting])]


def write_mean(mean: Mean | None) -> str:
    """Write a share as the papers do: ".357 ±.003"; without the deviation for one seed; empty for no figure."""
    if mean is None:
        return ""
    return _share(mean.mean) if mean.std is None else f"{_share(mean.mean)} ±{_share(mean.std)}"


def _share(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def setting_lines(grid: Grid) -> list[str]:
    """Say what every setting of a grid is, one line each."""
    return [f"setting {number}: {describe_setting(setting)}" for setting, number in grid.settings.items()]


def describe_setting(setting: Setting) -> str:
    """Say channels, budget, selection and split of a setting."""
    channels = "; ".join(["graph", *(f"{name} = {text}" for name, text in setting.channels)])
    return (
        f"channels: {channels} | {setting.epochs} epochs, batch {setting.batch_size} | "
        f"selected by {setting.selection} | scored on {setting.split}"
    )


def unfinished_lines(comparison: Comparison) -> list[str]:
    """Name the runs that are not in any figure."""
    return [f"not finished, in no figure: {run.path} ({run.state})" for run in comparison.unfinished]


def to_csv(comparison: Comparison) -> str:
    """Write one line a (dataset, method, gmnm, stage, missing, way of asking, metric), full precision."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS)
    for grid in grids(comparison):
        for (row, column), cell in grid.cells.items():
            setting, way = cell.setting, grid.way
            for metric in METRICS:
                mean = grid.mean(row, column, metric)
                if mean is None:
                    continue
                writer.writerow(
                    [
                        *(row.task, column.dataset, row.label, "on" if row.gmnm else "off", row.stage),
                        ";".join(f"{name}={ratio:g}" for name, ratio in column.missing),
                        *(way.candidates, way.similarity, way.direction, metric),
                        *(repr(mean.mean), "" if mean.std is None else repr(mean.std)),
                        *(len(cell.seeds), " ".join(map(str, cell.seeds))),
                        "; ".join(["graph", *(f"{name} = {text}" for name, text in setting.channels)]),
                        *(setting.epochs, setting.batch_size, setting.selection, setting.split),
                    ]
                )
    return file.getvalue()
