"""Search around a recipe, GMNM first: python jobs/tune.py --recipe jobs/recipes/world_sweep.toml"""

from snag_dist import api
from snag_dist.console import DryRunOption, RecipeOption, RunOption, SetOption, name_run, run_job, say, show_tree
from snag_dist.tune.config import load_sweep
from snag_dist.tune.rung_table import table_of_rungs
from snag_dist.tune.table import describe_outcome, table_of_settings


def tune(recipe: RecipeOption, set_: SetOption = None, run: RunOption = None, dry_run: DryRunOption = False) -> None:
    """Train the trials of a sweep, select on dev, score the winner and GMNM off on test once, write the report.

    The same command goes on with a sweep that was stopped; more values, draws or seeds add trials to it. With rungs
    (`tune.fidelity`), settings are tried on cores of the store for fewer epochs first.
    """
    sweep = load_sweep(recipe, [*(set_ or ()), *name_run(run)])
    if dry_run:
        config = {**sweep.recipe.to_tree(), "tune": {**sweep.tune.model_dump(mode="json"), "space": {}}}
        config["tune"]["space"] = {field: parameter.model_dump(mode="json") for field, parameter in sweep.space.items()}
        show_tree(config)
        say(api.describe_sweep(sweep))
        return
    outcome = api.search(sweep)
    say(table_of_settings(outcome))
    if outcome.prediction is not None:
        say(table_of_rungs(outcome.prediction))
    say(describe_outcome(outcome))
    say(f"look at {sweep.report / 'index.html'}\ntrain the winner: python jobs/train.py --recipe {sweep.best}")


if __name__ == "__main__":
    run_job(tune)
