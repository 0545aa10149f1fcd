"""What twenty minutes on two cores make of DBpedia-665k: graph channel, 665,155 entities, two workers of a thread.

A real run through Ray Train of dbpedia_665k.toml, ended by `train.max_minutes`, which counts steps and evaluations.
Dev is ranked exactly, among all entities, by the same 2,500 triples both ways: 5,000 queries. Test is not read.
"""

from typing import Any

from trained import Place, describe, recipe_at, train

RECIPE, MINUTES = "dbpedia_665k.toml", 20
CHANGES = (
    f"train.max_minutes={MINUTES}",
    # An evaluation takes about a minute.
    "train.evaluate_every=4",
    "evaluate.max_dev_triples=2500",
    "cluster.threads_per_worker=1",
)


def measure(place: Place) -> dict[str, Any]:
    """Train until the time is over, and say how far it came."""
    recipe = recipe_at(place, RECIPE, *CHANGES)
    train(recipe, score_test=False)
    return {
        "max_minutes": recipe.train.max_minutes,
        "dev_queries": 2 * recipe.evaluate.max_dev_triples,
        **describe(recipe),
    }
