"""Make the feature tables of a recipe: python jobs/extract.py --recipe my.toml --set features.vision.encoder.side=24"""

from pathlib import Path
from typing import Annotated

import typer

from snag_dist import api
from snag_dist.console import DryRunOption, RecipeOption, RunOption, SetOption, resolve, run_job, say, show_tree
from snag_dist.store.extract import ExtractOptions

StrictOption = Annotated[bool, typer.Option("--strict", help="Stop at the first item that cannot be used.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace tables that were made in another way.")]
ReuseOption = Annotated[
    Path | None,
    typer.Option("--reuse", help="Store (this one, or an earlier one) whose vectors are kept: encode only new keys."),
]


def extract(
    recipe: RecipeOption,
    set_: SetOption = None,
    run: RunOption = None,
    dry_run: DryRunOption = False,
    strict: StrictOption = False,
    overwrite: OverwriteOption = False,
    reuse: ReuseOption = None,
) -> None:
    """Turn texts, pictures and arrays into feature tables; go on where an extraction was stopped."""
    resolved = resolve(recipe, set_, run)
    if dry_run:
        show_tree(resolved.to_tree())
        return
    store = api.extract(resolved, ExtractOptions(overwrite, strict, reuse))
    say(api.describe_store(store))


if __name__ == "__main__":
    run_job(extract)
