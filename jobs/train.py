"""Train a recipe and its variants to test ranks: python jobs/train.py --recipe jobs/recipes/world.toml"""

from snag_dist import api
from snag_dist.console import DryRunOption, RecipeOption, RunOption, SetOption, resolve, run_job, say, show_tree
from snag_dist.evaluation.alignment_report import table_of_alignment_runs
from snag_dist.evaluation.report import table_of_runs


def train(recipe: RecipeOption, set_: SetOption = None, run: RunOption = None, dry_run: DryRunOption = False) -> None:
    """Ingest what is missing, train, select on dev, score the test split once."""
    resolved = resolve(recipe, set_, run)
    if dry_run:
        show_tree(resolved.to_tree())
        say(api.describe_plan(resolved))
        return
    lay_out = table_of_alignment_runs if resolved.task == "alignment" else table_of_runs
    say(lay_out(api.train(resolved)))
    say(f"run folder: {resolved.run_path}")


if __name__ == "__main__":
    run_job(train)
