"""Score a split with a run's best checkpoint, or lay finished runs out side by side.

python jobs/evaluate.py --run runs/world
python jobs/evaluate.py --table runs --out tables
"""

from pathlib import Path
from typing import Annotated

import typer

from snag_dist import api
from snag_dist.console import DryRunOption, RunOption, SetOption, console, resolve, run_folder, run_job, say, show_tree
from snag_dist.errors import ConfigError
from snag_dist.evaluation.alignment_report import table_of_alignment
from snag_dist.evaluation.comparison import compare_folders
from snag_dist.evaluation.comparison_page import write_comparison
from snag_dist.evaluation.comparison_table import text_tables
from snag_dist.evaluation.report import table_of_slices
from snag_dist.evaluation.scored_runs import find_runs
from snag_dist.training.run_folder import RunFolder


def evaluate(
    recipe: Annotated[Path | None, typer.Option(help="Recipe of the run, in place of --run.")] = None,
    run: RunOption = None,
    split: Annotated[str, typer.Option(help="Split to score: test, valid, or new (entities held out).")] = "test",
    set_: SetOption = None,
    table: Annotated[
        list[Path] | None,
        typer.Option(help="Compare finished runs instead: a run folder or a folder of runs. May be given often."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="With --table: folder that table.csv and table.html are written to.")
    ] = None,
    dry_run: DryRunOption = False,
) -> None:
    """Rank a split exactly and print it by slice; with --table, print methods x datasets x metrics over seeds."""
    if table:
        if recipe is not None or run is not None or set_:
            raise ConfigError(
                "--table: expected no --recipe, --run or --set beside it; scored runs are read as they are"
            )
        _compare(table, out, dry_run)
        return
    if out is not None:
        raise ConfigError(f"--out {out}: expected --table beside it; pass --table RUNS")
    folder = run_folder(run) if recipe is None else resolve(recipe, (), run).run_path
    if dry_run:
        show_tree(RunFolder(folder).read_config())
        return
    report = api.evaluate(folder, split, overrides=set_ or ())
    say(table_of_alignment(report) if report["task"] == "alignment" else table_of_slices(report))


def _compare(paths: list[Path], out: Path | None, dry_run: bool) -> None:
    if dry_run:
        say("\n".join(str(path) for path in find_runs(paths)))
        return
    comparison = compare_folders(paths)
    for part in text_tables(comparison, console.width):
        say(part)
    for path in () if out is None else write_comparison(comparison, out):
        say(f"wrote {path}")


if __name__ == "__main__":
    run_job(evaluate)
