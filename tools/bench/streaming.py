"""Do triples that are streamed teach what triples in memory teach? FB15k-237, three seeds each, epoch by epoch.

Real runs through Ray Train: the recipe fb15k_237.toml and its variant `stream`, whose windows hold a quarter of the
triples. The noise is what seeds do to a run; the difference of the means is told with Student's interval for it. A
stream is cut into even blocks, so an epoch of it lacks up to one step in a hundred.
"""

import math
import statistics
from collections.abc import Sequence
from typing import Any

from scipy.stats import t as student
from trained import Place, describe, recipe_at, train

RECIPE, SEEDS = "fb15k_237.toml", 3
MEASURES = ("train_loss", "dev_mrr")
SURE = 0.95
"""One epoch in twenty lies outside its interval where there is no difference."""


def measure(place: Place) -> dict[str, Any]:
    """Train both ways in turn, seed after seed, and compare their curves."""
    runs: dict[str, list[dict[str, Any]]] = {"memory": [], "stream": []}
    for seed in range(place.seed, place.seed + SEEDS):
        recipe = recipe_at(place, RECIPE, f"seed={seed}", f'name="fb15k_237-s{seed}"')
        for way, run in zip(runs, recipe.with_variants(), strict=True):
            assert run.train.residency.kind == way
            train(run)
            runs[way].append(describe(run))
    curves = {way: [run["curve"] for run in found] for way, found in runs.items()}
    return {
        "seeds": list(range(place.seed, place.seed + SEEDS)),
        "epochs": {way: [run["epochs"] for run in found] for way, found in runs.items()},
        "steps": {way: [run["steps"] for run in found] for way, found in runs.items()},
        **{name: compare(curves["memory"], curves["stream"], name) for name in MEASURES},
        "test_mrr": {way: [run["test"]["mrr"] for run in found] for way, found in runs.items()},
        "triples_per_second": {way: [run["triples_per_second"] for run in found] for way, found in runs.items()},
        "training_minutes": {way: [run["training_minutes"] for run in found] for way, found in runs.items()},
        "choices": {way: found[0]["choices"] for way, found in runs.items()},
    }


def compare(
    memory: Sequence[Sequence[dict[str, Any]]], stream: Sequence[Sequence[dict[str, Any]]], name: str
) -> dict[str, Any]:
    """One measure of both, epoch by epoch: mean and standard deviation over seeds, and the difference of the means.

    Args:
        memory, stream: a curve a seed, as `trained.curve` makes them.
        name: of the measure.
    """
    epochs: list[dict[str, Any]] = []
    for ours, theirs in zip(zip(*memory, strict=True), zip(*stream, strict=True), strict=True):
        one, other = [row[name] for row in ours], [row[name] for row in theirs]
        deviation = [statistics.stdev(one), statistics.stdev(other)]
        difference = statistics.fmean(other) - statistics.fmean(one)
        # As many of each: the pooled error of a difference of two means.
        error = math.sqrt((deviation[0] ** 2 + deviation[1] ** 2) / len(one))
        reach = error * float(student.ppf(0.5 + SURE / 2, 2 * len(one) - 2))
        epochs.append(
            {
                "epoch": ours[0]["epoch"],
                "memory": {"mean": round(statistics.fmean(one), 5), "deviation": round(deviation[0], 5)},
                "stream": {"mean": round(statistics.fmean(other), 5), "deviation": round(deviation[1], 5)},
                "difference": round(difference, 5),
                "interval": [round(difference - reach, 5), round(difference + reach, 5)],
                "is_within_noise": abs(difference) <= reach,
            }
        )
    outside = sum(not epoch["is_within_noise"] for epoch in epochs)
    largest = max(epochs, key=lambda epoch: abs(epoch["difference"]))
    return {
        "epochs_within_noise": f"{len(epochs) - outside} of {len(epochs)}",
        "largest_difference": {name: largest[name] for name in ("epoch", "difference", "interval")},
        "by_epoch": epochs,
    }
