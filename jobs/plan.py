"""Say what a run needs, before anything is allocated: python jobs/plan.py --recipe jobs/recipes/world.toml

Where there is no store yet, counts are given: --set plan.num_entities=5000000 --set plan.num_triples=20000000
"""

from snag_dist import api
from snag_dist.console import DryRunOption, RecipeOption, RunOption, SetOption, resolve, run_job, say, show_tree


def plan(recipe: RecipeOption, set_: SetOption = None, run: RunOption = None, dry_run: DryRunOption = False) -> None:
    """Print bytes, traffic and seconds of a run, and whether it fits; --dry-run leaves the timing out."""
    resolved = resolve(recipe, set_, run)
    if dry_run:
        show_tree(resolved.to_tree())
    planned = api.plan(resolved, timed=not dry_run)
    say("\n".join(planned.lines()))
    planned.verdict.require_fit()


if __name__ == "__main__":
    run_job(plan)
