"""The known-true index of a run: in memory, or where triples are streamed, in files that all workers of a host map.

The driver makes the files before workers start, so that no worker waits for them; that of all splits, too, where the
test split will be scored. No worker opens it before that.
"""

from collections.abc import Iterator

import numpy as np

from snag_dist.kg.truth import TruthIndex
from snag_dist.store.holdout import NewEntities
from snag_dist.store.opened import Store, open_store
from snag_dist.store.truth_files import TruthPlace, make_truth, open_truth, truth_of_new, truth_of_splits
from snag_dist.training.recipe import NEW, Recipe


def make_indexes(recipe: Recipe, store: Store, split: str | None, *, score_test: bool) -> None:
    """Make what the workers of a run will map, where triples are streamed and it is not there.

    Args:
        recipe: of the run.
        store: that it is trained on.
        split: None for a training; else the split that alone is scored.
        score_test: whether the test split is scored after training.

    Raises:
        DataError: a file of the store is damaged.
    """
    if not recipe.streams(store.manifest.num_triples["train"]):
        return
    for place in _places(recipe, store, split, score_test=score_test):
        make_truth(place, verify=recipe.train.verify_store)


def _places(recipe: Recipe, store: Store, split: str | None, *, score_test: bool) -> Iterator[TruthPlace]:
    if split is None:
        yield truth_of_splits(store, ("train",))
        yield truth_of_splits(store, ("train", "valid"))
    if split not in (None, NEW) or (split is None and score_test):
        yield truth_of_splits(store, filled_splits(store))
    if split == NEW or (split is None and score_test and recipe.ranks_new):
        assert recipe.holdout is not None
        yield truth_of_new(store, NewEntities.of(open_store(recipe.store), recipe.holdout))


def filled_splits(store: Store) -> tuple[str, ...]:
    """Name the splits that have triples, in the order of the manifest."""
    return tuple(split for split, num in store.manifest.num_triples.items() if num)


def index_splits(recipe: Recipe, store: Store, *splits: str) -> TruthIndex:
    """Return the index of some splits: mapped where triples are streamed, else built here.

    Raises:
        DataError: a file is damaged, or was not made by the driver.
    """
    if recipe.streams(store.manifest.num_triples["train"]):
        return open_truth(truth_of_splits(store, splits))
    triples = np.concatenate([store.triples(split) for split in splits])
    return TruthIndex.build(triples, store.num_entities, store.num_relations)


def index_new(recipe: Recipe, store: Store, new: NewEntities) -> TruthIndex:
    """Return the index of all splits of a whole store, in the ids that known and new entities have together.

    Args:
        recipe: of the run.
        store: without the new entities.
        new: held out of it.

    Raises:
        DataError: see `index_splits`.
    """
    if recipe.streams(store.manifest.num_triples["train"]):
        return open_truth(truth_of_new(store, new))
    return TruthIndex.build(new.triples(*new.splits), new.whole.num_entities, new.whole.num_relations)
