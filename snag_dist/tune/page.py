"""The report of a sweep: CSV, pictures, and one HTML page that needs nothing else."""

import json
import re
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from snag_dist.evaluation.page import embed_picture, lay_out_page
from snag_dist.tune.outcome import Outcome
from snag_dist.tune.plots import draw_plots
from snag_dist.tune.prediction import Prediction
from snag_dist.tune.rank_plot import draw_ranks
from snag_dist.tune.rung_table import HEADINGS, rung_rows
from snag_dist.tune.table import (
    describe_outcome,
    figure_cells,
    name_fields,
    settings_to_csv,
    trials_to_csv,
    write_value,
)

PAGE = "index.html"
_NOTE = (
    "Dev MRR: the highest of a trial, mean ± standard error over seeds. Trials that the scheduler stopped have figures "
    "of a smaller budget, and are never chosen while a setting was trained to its end. Test triples were read for the "
    "settings that show a test MRR, and for no other."
)


def write_report(outcome: Outcome, folder: Path) -> list[Path]:
    """Write `index.html`, `settings.csv`, `trials.csv`, with rungs `rungs.json`, and every picture into a folder.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    prediction = outcome.prediction
    plots = draw_plots(outcome) | ({} if prediction is None else draw_ranks(prediction))
    files: dict[str, bytes] = {
        PAGE: to_html(outcome, plots).encode(),
        "settings.csv": settings_to_csv(outcome).encode(),
        "trials.csv": trials_to_csv(outcome).encode(),
        **{f"{_file_name(title)}.png": png for title, png in plots.items()},
    }
    if prediction is not None:
        files["rungs.json"] = (json.dumps(prediction.model_dump(mode="json"), indent=1) + "\n").encode()
    written: list[Path] = []
    for name, content in files.items():
        partial = folder / f"{name}.partial"
        partial.write_bytes(content)
        written.append(partial.replace(folder / name))
    return written


def _file_name(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", title.partition(":")[0].lower()).strip("_")


def to_html(outcome: Outcome, plots: dict[str, bytes]) -> str:
    """Lay out what the sweep found, the table of settings, the pictures, and the trials that failed.

    Args:
        outcome: of a sweep.
        plots: PNG by title.
    """
    found = "".join(f"<li>{escape(line)}</li>" for line in describe_outcome(outcome).splitlines())
    body = [f"<ul>{found}</ul>", *(embed_picture(title, png) for title, png in plots.items())]
    if outcome.prediction is not None:
        body += _rungs(outcome.prediction)
    body += [*_table(outcome), *_failures(outcome)]
    return lay_out_page(f"Sweep {outcome.name}", _NOTE, body)


def _table(outcome: Outcome) -> Iterator[str]:
    names = name_fields(outcome)
    headings = [*names.values(), "dev MRR", "seeds", "epochs", "state", "test MRR"]
    yield f"<h2>Settings ({len(outcome.settings)}, best on dev first)</h2>"
    yield _head(headings)
    for setting in outcome.settings:
        cells = [*(write_value(setting.changes.get(field)) for field in names), *figure_cells(outcome, setting)]
        is_winner = outcome.winner is not None and setting.name == outcome.winner.name
        yield f"<tr>{_cells(cells, 'td', bold=is_winner)}</tr>"
    yield "</tbody></table></div>"


def _rungs(prediction: Prediction) -> Iterator[str]:
    yield f"<h2>Rungs ({len(prediction.rungs)}, cheapest first; tau-b over the n settings on both)</h2>"
    yield _head(HEADINGS)
    for row in rung_rows(prediction):
        yield f"<tr>{_cells(row, 'td')}</tr>"
    yield "</tbody></table></div>"


def _head(headings: Sequence[str]) -> str:
    return f'<div class="wide"><table><thead><tr>{_cells(headings, "th")}</tr></thead><tbody>'


def _cells(texts: Sequence[str], tag: str, *, bold: bool = False) -> str:
    opening, closing = ("<b>", "</b>") if bold else ("", "")
    return "".join(f"<{tag}>{opening}{escape(text)}{closing}</{tag}>" for text in texts)


def _failures(outcome: Outcome) -> Iterator[str]:
    failed = [trial for trial in outcome.trials if trial.state == "failed"]
    if failed:
        yield f"<h2>Trials that failed ({len(failed)})</h2>"
        yield "<ul>" + "".join(f"<li>{escape(it.name)}: {escape(it.error)}</li>" for it in failed) + "</ul>"
