"""The graph a run is trained on: the store of its recipe, or what is left of it without entities held out."""

from snag_dist.store.holdout import without_held
from snag_dist.store.missing import make_overlays
from snag_dist.store.opened import Store, open_store
from snag_dist.training.recipe import Recipe


def open_graph(recipe: Recipe, *, make: bool = True) -> Store:
    """Open the store that a run is trained on.

    Args:
        recipe: of the run.
        make: what is left of a holdout, where it is not there: what a driver does, and a worker must not.

    Raises:
        DataError: the store of the recipe is not there, or damaged; see `without_held`.
    """
    store = open_store(recipe.store)
    if recipe.holdout is None:
        return store
    known = without_held(store, recipe.holdout, make=make)
    if make:
        make_overlays(known, recipe.missing)
    return known
