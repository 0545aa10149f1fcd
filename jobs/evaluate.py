"""Score a split with a run's best checkpoint: python jobs/evaluate.py --run runs/world"""

from pathlib import Path
from typing import Annotated

import typer

from snag_dist import api
from snag_dist.console import DryRunOption, RunOption, SetOption, console, resolve, run_folder, run_job, say
from snag_dist.evaluation.report import table_of_slices
from snag_dist.training.run_folder import RunFolder


def evaluate(
    recipe: Annotated[Path | None, typer.Option(help="Recipe of the run, in place of --run.")] = None,
    run: RunOption = None,
    split: Annotated[str, typer.Option(help="Split to score: test or valid.")] = "test",
    set_: SetOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Rank a split exactly and print it by slice."""
    folder = run_folder(run) if recipe is None else resolve(recipe, (), run).run_path
    if dry_run:
        console.print_json(data=RunFolder(folder).read_config())
        return
    say(table_of_slices(api.evaluate(folder, split, overrides=set_ or ())))


if __name__ == "__main__":
    run_job(evaluate)
