"""A comparison as one HTML page that needs nothing else: tables, settings, plots inside it."""

from collections.abc import Iterator
from html import escape
from pathlib import Path

from snag_dist.errors import ConfigError
from snag_dist.evaluation.comparison import COMPLETION, PUBLISHED, REAL, Column, Comparison, Row
from snag_dist.evaluation.comparison_plots import draw_plots
from snag_dist.evaluation.comparison_table import (
    HEADERS,
    Grid,
    cell_notes,
    describe_setting,
    grids,
    name_row,
    to_csv,
    unfinished_lines,
    write_mean,
)
from snag_dist.evaluation.page import embed_picture, lay_out_page

TABLE_CSV = "table.csv"
TABLE_HTML = "table.html"


def write_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """Write `table.csv` and `table.html` into a folder, which is made where it is not there.

    Returns:
        Both files.

    Raises:
        ConfigError: there is a file in place of the folder.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--out {folder}: expected a folder, found a file; name another one")
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for name, text in ((TABLE_CSV, to_csv(comparison)), (TABLE_HTML, to_html(comparison))):
        partial = folder / f"{name}.partial"
        partial.write_text(text, encoding="utf-8")
        written.append(partial.replace(folder / name))
    return written


def to_html(comparison: Comparison) -> str:
    """Lay out a comparison as a page: the main tables, the other ways of asking folded away, plots, unfinished runs."""
    laid_out = grids(comparison)
    main = [grid for grid in laid_out if grid.way in (COMPLETION, PUBLISHED, REAL)]
    others = [grid for grid in laid_out if grid not in main]
    body = [part for grid in main for part in _section(grid)]
    if others:
        inside = "\n".join(part for grid in others for part in _section(grid))
        body.append(f"<details><summary>Other ways of asking ({len(others)})</summary>\n{inside}\n</details>")
    for title, png in draw_plots(comparison).items():
        body.append(embed_picture(title, png))
    body += [f'<p class="note">{escape(line)}</p>' for line in unfinished_lines(comparison)]
    note = (
        "Realistic ranks; mean ± sample standard deviation over seeds (none for one seed); bold: the highest mean of a "
        "column."
    )
    return lay_out_page("Comparison of runs", note, body)


def _section(grid: Grid) -> Iterator[str]:
    yield f"<h2>{escape(grid.title)}</h2>"
    yield '<div class="wide"><table><thead>'
    span = len(grid.metrics) + 2
    groups = "".join(f'<th class="group" colspan="{span}">{escape(column.name)}</th>' for column in grid.columns)
    yield f'<tr><th class="name" rowspan="2">method</th><th class="name" rowspan="2">GMNM</th>{groups}</tr>'
    metrics = "".join(f"<th>{HEADERS[metric]}</th>" for metric in grid.metrics)
    notes = '<th class="note">seeds</th><th class="note">setting</th>'
    yield f"<tr>{(metrics + notes) * len(grid.columns)}</tr></thead><tbody>"
    previous = None
    for row in grid.rows:
        starts = previous is not None and previous != row.stage
        previous = row.stage
        name = f'<td class="name">{escape(name_row(row))}</td><td class="name">{"on" if row.gmnm else "off"}</td>'
        cells = "".join(_cells(grid, row, column) for column in grid.columns)
        opening = '<tr class="stage">' if starts else "<tr>"
        yield f"{opening}{name}{cells}</tr>"
    yield "</tbody></table></div>"
    yield "<ol>" + "".join(f"<li>{escape(describe_setting(setting))}</li>" for setting in grid.settings) + "</ol>"


def _cells(grid: Grid, row: Row, column: Column) -> str:
    figures = ""
    for metric in grid.metrics:
        words = write_mean(grid.mean(row, column, metric))
        figures += f"<td><b>{words}</b></td>" if grid.is_best(row, column, metric) else f"<td>{words}</td>"
    return figures + "".join(f'<td class="note">{words}</td>' for words in cell_notes(grid, row, column))
