"""What checkpoints cost a step, and what a run that goes on at other numbers of workers gives."""

import json
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from workbench import make_recipe, run_in_processes

from snag_dist.shard.group import Group
from snag_dist.store.opened import open_store
from snag_dist.training.boundary import Notices
from snag_dist.training.recipe import Recipe
from snag_dist.training.run_folder import RunFolder
from snag_dist.training.worker import Worker, WorkerContext

BATCH, EPOCHS, WORKERS = 1024, 2, 2
# Workers of each part of the run that is stopped, and steps after which it is.
PARTS = ((2, 35), (1, 35), (4, 35), (2, None))
EVERY_SECONDS, WINDOW_SECONDS, ROUNDS = 30.0, 100.0, 2
WARM_STEPS = 8


def measure(store: Path, seed: int) -> dict[str, Any]:
    """Train with and without checkpoints in turn; then a run at 2, 1, 4 and 2 workers beside one at 2."""
    with TemporaryDirectory() as runs:
        return {"batch": BATCH, "threads_per_worker": 1, "overhead": _overhead(store, Path(runs), seed)} | {
            "resume": _resume(store, Path(runs), seed)
        }


def _overhead(store: Path, runs: Path, seed: int) -> dict[str, Any]:
    """What checkpoints cost, in two ways.

    Windows with and without in turn, the other kind first in every second round, compare whole runs, which differ by
    more than checkpoints cost. Within a window, steps that a checkpoint was copied or written beside stand against the
    median of the others: the same run, machine and minute.
    """
    seconds: dict[str, list[float]] = {"without": [], "with": []}
    within: list[dict[str, float]] = []
    for number in range(ROUNDS):
        kinds = (("without", None), ("with", EVERY_SECONDS))
        for kind, every in kinds if number % 2 == 0 else reversed(kinds):
            recipe = _recipe(store, runs, f"{kind}-{number}", seed, epochs=10_000, every=every)
            run_in_processes(WORKERS, _train, recipe.to_tree(), None, WINDOW_SECONDS)
            # The first steps warm caches.
            folder = RunFolder(recipe.run_path)
            lines = _losses(folder)[WARM_STEPS:]
            seconds[kind].append(statistics.fmean(line["elapsed_seconds"] for line in lines))
            if every is not None:
                within.append(_excess(folder, lines))
    ratios = [slow / fast - 1 for fast, slow in zip(seconds["without"], seconds["with"], strict=True)]
    return {
        "workers": WORKERS,
        "every_seconds": EVERY_SECONDS,
        "window_seconds": WINDOW_SECONDS,
        "seconds_a_step": {kind: [round(value, 5) for value in values] for kind, values in seconds.items()},
        "between_windows": [round(ratio, 4) for ratio in ratios],
        "within_windows": within,
        "overhead": round(statistics.fmean(window["overhead"] for window in within), 4),
    }


def _excess(folder: RunFolder, lines: list[dict[str, Any]]) -> dict[str, float]:
    """Time of the steps beside checkpoints over the median of the others, as a share of all time at one every 30 s."""
    spans: list[tuple[float, float]] = []
    ends = {line["step"]: line["time"] for line in lines}
    for checkpoint in sorted(folder.checkpoints.glob("step-*/manifest.json")):
        step = int(checkpoint.parent.name.removeprefix("step-"))
        if step in ends and step + 1 in ends:
            # From the copy after this step until the manifest, which is written last.
            spans.append((ends[step], checkpoint.stat().st_mtime))
    beside = [line for line in lines if any(_overlaps(line, span) for span in spans)]
    others = [line["elapsed_seconds"] for line in lines if line not in beside]
    plain = statistics.median(others)
    excess = sum(line["elapsed_seconds"] - plain for line in beside) / len(spans)
    return {
        "checkpoints": len(spans),
        "steps_beside_each": round(len(beside) / len(spans), 1),
        "step_ms": round(1e3 * plain, 2),
        "milliseconds_lost_by_each": round(1e3 * excess, 1),
        "overhead": round(excess / (EVERY_SECONDS - excess), 4),
    }


def _overlaps(line: dict[str, Any], span: tuple[float, float]) -> bool:
    start, end = line["time"] - line["elapsed_seconds"], line["time"]
    return start < span[1] and end > span[0]


def _resume(store: Path, runs: Path, seed: int) -> dict[str, Any]:
    whole = _recipe(store, runs, "whole", seed, epochs=EPOCHS)
    run_in_processes(WORKERS, _train, whole.to_tree(), None, None)
    parts = _recipe(store, runs, "parts", seed, epochs=EPOCHS)
    for workers, steps in PARTS:
        run_in_processes(workers, _train, parts.to_tree(), steps, None)
    folders = [RunFolder(recipe.run_path) for recipe in (whole, parts)]
    left, right = ({line["step"]: line["loss"] for line in _losses(folder)} for folder in folders)
    assert left.keys() == right.keys()
    difference = np.array([abs(right[step] / left[step] - 1) for step in sorted(left)])
    ranks = [
        pq.read_table(folder.ranks("test")).sort_by([(name, "ascending") for name in ("direction", "head", "tail")])
        for folder in folders
    ]
    one, other = (table["rank_realistic"].to_numpy() for table in ranks)
    mrr = [float(np.mean(1 / ranks)) for ranks in (one, other)]
    return {
        "workers": [workers for workers, _ in PARTS],
        "steps": len(left),
        "largest_relative_loss_difference": float(difference.max()),
        "largest_in_first_100_steps": float(difference[:100].max()),
        "test_mrr": mrr,
        "test_mrr_difference": mrr[1] - mrr[0],
        "queries": len(one),
        "queries_of_another_rank": int((one != other).sum()),
    }


def _recipe(store: Path, runs: Path, name: str, seed: int, *, epochs: int, every: float | None = None) -> Recipe:
    # All stay: their steps and times are read afterwards.
    checkpoint = {"every_seconds": every, "keep": 100}
    train = {"epochs": epochs, "batch_size": BATCH, "log_every": 1, "evaluate_every": epochs, "checkpoint": checkpoint}
    evaluate = {"max_dev_triples": 200}
    return make_recipe(store, runs, name=name, seed=seed, train=train, evaluate=evaluate)


def _train(group: Group, tree: dict[str, Any], steps: int | None, seconds: float | None) -> dict[str, float]:
    """Train until the end, or until a number of steps or seconds has passed."""
    recipe, asked, start = Recipe.model_validate(tree), iter(range(1, 1 << 30)), time.monotonic()

    def stop() -> bool:
        number, passed = next(asked), time.monotonic() - start
        return (steps is not None and number >= steps) or (seconds is not None and passed >= seconds)

    triples = open_store(recipe.store).triples("train")
    worker = Worker(recipe, WorkerContext(group, lambda _metrics: None, triples, notices=Notices(stop)))
    report = worker.train()
    return {"finished": float(report is not None)}


def _losses(folder: RunFolder) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in folder.log.read_text().splitlines()]
    return [line for line in lines if "loss" in line]
