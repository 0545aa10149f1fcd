"""What several benchmarks need: a run's parts on one worker, without Ray, and medians with spread."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from snag_dist.method.choices import CompletionMethod
from snag_dist.shard.group import Group
from snag_dist.task.completion import CompletionTask
from snag_dist.training.completion import DistributedCompletion
from snag_dist.training.recipe import Recipe
from snag_dist.training.worker import Worker, WorkerContext


@contextmanager
def group_of_one() -> Iterator[Group]:
    """A process group of one worker."""
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=0, world_size=1)
        yield Group()
        dist.destroy_process_group()


def make_recipe(store: Path, runs: Path, **changes: Any) -> Recipe:
    """A recipe on an existing store, with all its modalities and the default method."""
    features = [path.name for path in sorted((store / "features").iterdir()) if path.is_dir()]
    tree: dict[str, Any] = {
        "name": "bench",
        "store": str(store),
        "runs": str(runs),
        "ingest": {"source": {"kind": "world"}},
        "modalities": features,
        **changes,
    }
    return Recipe.model_validate(tree)


def make_worker(recipe: Recipe, group: Group, threads: int) -> Worker:
    """A worker that reports to nobody."""
    return Worker(recipe, WorkerContext(group=group, report=lambda _metrics: None, threads=threads))


def task_of(worker: Worker) -> CompletionTask:
    """The network of a worker of completion."""
    module = worker.stepper.module
    assert isinstance(module, DistributedCompletion)
    return module.task


def method_of(recipe: Recipe) -> CompletionMethod:
    """The method of a recipe of completion."""
    assert isinstance(recipe.method, CompletionMethod)
    return recipe.method


def time_calls(call: Callable[[], object], *, warm: int, num: int) -> list[float]:
    """Seconds of each of `num` calls after `warm` unmeasured ones."""
    for _ in range(warm):
        call()
    seconds: list[float] = []
    for _ in range(num):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds


def summarise(seconds: list[float]) -> dict[str, float]:
    """Median with the quartiles around it, in milliseconds."""
    quarters = statistics.quantiles(seconds, n=4)
    return {
        "median_ms": round(1e3 * statistics.median(seconds), 2),
        "lower_quartile_ms": round(1e3 * quarters[0], 2),
        "upper_quartile_ms": round(1e3 * quarters[2], 2),
        "calls": len(seconds),
    }


def set_threads(threads: int) -> None:
    """Use this many threads from here on."""
    torch.set_num_threads(threads)
