"""Make the feature store of a recipe: python jobs/ingest.py --recipe jobs/recipes/world.toml"""

from snag_dist import api
from snag_dist.console import DryRunOption, RecipeOption, RunOption, SetOption, resolve, run_job, say, show_tree


def ingest(recipe: RecipeOption, set_: SetOption = None, run: RunOption = None, dry_run: DryRunOption = False) -> None:
    """Read a graph and its features into a store."""
    resolved = resolve(recipe, set_, run)
    if dry_run:
        show_tree(resolved.to_tree())
        return
    store = api.ingest(resolved)
    say(api.describe_store(store))


if __name__ == "__main__":
    run_job(ingest)
