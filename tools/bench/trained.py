"""Recipes trained the way jobs/train.py trains them, and what their logs say of the way: curves, pace, what was chosen.

Runs lie in a folder that outlives the benchmark: one that was interrupted goes on from its last checkpoint.
"""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from record_runs import figures_of

from snag_dist.api import is_finished
from snag_dist.evaluation.alignment_report import read_any_report
from snag_dist.training.launch import connect, launch
from snag_dist.training.recipe import Recipe, load_recipe
from snag_dist.training.run_folder import RunFolder

RECIPES = Path(__file__).parents[2] / "jobs" / "recipes"


class Place(NamedTuple):
    """What a benchmark that trains is given.

    Attributes:
        store: made of the recipe.
        runs: folder of its runs.
        seed: of the first run.
        changes: `a.b.c=value` each, laid over the recipe.
    """

    store: Path
    runs: Path
    seed: int
    changes: tuple[str, ...] = ()


def recipe_at(place: Place, name: str, *changes: str) -> Recipe:
    """Load a recipe that comes along, on the store and in the folder of runs of a benchmark."""
    paths = [f"store={json.dumps(str(place.store))}", f"runs={json.dumps(str(place.runs))}"]
    # What was asked for on the command line comes last, so that it counts.
    return load_recipe(RECIPES / name, [*paths, f"seed={place.seed}", *changes, *place.changes])


def train(recipe: Recipe, *, score_test: bool = True) -> None:
    """Train one run to its end, unless it is there already; one whose test split is not read ends as `trained`."""
    connect(recipe.cluster)
    if not is_finished(recipe):
        launch(recipe, score_test=score_test)


def describe(recipe: Recipe) -> dict[str, Any]:
    """Figures of a trained run: its curve by epoch, its pace, the checkpoint that was chosen, test once."""
    folder = RunFolder(recipe.run_path)
    status, lines = folder.read_status(), read_log(folder)
    steps = [line for line in lines if "loss" in line]
    report = folder.metrics("test")
    seconds = sum(line["elapsed_seconds"] for line in steps)
    triples = sum(line["triples_per_second"] * line["elapsed_seconds"] for line in steps)
    best = next((line["epoch"] for line in lines if "dev" in line and line["step"] == status.get("best_step")), None)
    return {
        "curve": curve(lines),
        "epochs": status["epochs"],
        "steps": status["steps"],
        "ended_by": status["ended_by"],
        "chosen_epoch": best,
        "best_dev_mrr": round(max(line["dev"]["mrr"] for line in lines if "dev" in line), 4),
        "triples_per_second": spread([line["triples_per_second"] for line in steps]),
        "triples_per_second_of_all_steps": round(triples / seconds),
        "training_minutes": round(seconds / 60, 2),
        "evaluation_minutes": round(sum(line.get("evaluation_seconds", 0.0) for line in lines) / 60, 2),
        **({"test": figures_of(read_any_report(report))} if report.is_file() else {}),
        "choices": {
            "seed": recipe.seed,
            "modalities": list(recipe.used_modalities),
            "method": recipe.to_tree()["method"],
            "table": recipe.to_tree()["table"],
            "train": {name: recipe.to_tree()["train"][name] for name in TOLD},
            "max_dev_triples": recipe.evaluate.max_dev_triples,
            "num_workers": recipe.cluster.num_workers,
            "threads_per_worker": recipe.cluster.threads_per_worker,
        },
    }


TOLD = ("epochs", "max_minutes", "batch_size", "lr", "schedule", "residency", "evaluate_every", "patience", "engine")
"""Fields of `train` that a record repeats."""


def read_log(folder: RunFolder) -> list[dict[str, Any]]:
    """Lines of a run's log in the order of steps; of those that were taken again, the last time counts.

    After a kill the log interval that the last checkpoint lies in has only its second part.
    """
    found: dict[tuple[int, bool], dict[str, Any]] = {}
    for line in map(json.loads, folder.log.read_text(encoding="utf-8").splitlines()):
        if "loss" in line or "dev" in line:
            found[line["step"], "dev" in line] = line
    return [found[key] for key in sorted(found)]


def curve(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """By epoch, counted from 1: seconds of training until its end, mean train loss, and dev MRR where it was measured.

    A log interval lies within one epoch; an evaluation comes after the epochs that its line counts.
    """
    rows: dict[int, dict[str, Any]] = {}
    sums: dict[int, list[float]] = {}
    seconds = 0.0
    for line in lines:
        if "loss" in line:
            seconds += line["elapsed_seconds"]
            epoch = line["epoch"] + 1
            total, steps = sums.get(epoch, [0.0, 0.0])
            sums[epoch] = [total + line["loss"] * line["steps"], steps + line["steps"]]
            loss = sums[epoch][0] / sums[epoch][1]
            rows[epoch] = {"epoch": epoch, "seconds": round(seconds, 1), "train_loss": round(loss, 5)}
        elif "dev" in line and rows:
            # One that ends in mid-epoch is evaluated there.
            rows[max(rows)]["dev_mrr"] = round(line["dev"]["mrr"], 4)
    return list(rows.values())


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median with the quartiles around it, whole numbers."""
    quarters = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
    return {
        "median": round(statistics.median(values)),
        "lower_quartile": round(quarters[0]),
        "upper_quartile": round(quarters[2]),
        "log_intervals": len(values),
    }
