"""What several benchmarks need: a run's parts on one worker, without Ray, and medians with spread."""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import Tensor

from snag_dist.kg.truth import TruthIndex
from snag_dist.method.choices import CompletionMethod
from snag_dist.shard.group import Group
from snag_dist.task.completion import CompletionTask
from snag_dist.training.completion import DistributedCompletion
from snag_dist.training.completion_scoring import encode_owned
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


def ranking_of(worker: Worker, group: Group) -> dict[str, Any]:
    """Arguments of `rank_triples` for a worker of one: the codes it has now, triples of all splits known."""
    task, opened = task_of(worker), worker.store
    every = np.concatenate([opened.triples(split) for split in opened.manifest.num_triples])
    return {
        "codes": encode_owned(task, worker.stepper.table, worker.features, worker.partition, 0, torch.float32).codes,
        "task": task,
        "truth": TruthIndex.build(every, opened.num_entities, opened.num_relations),
        "partition": worker.partition,
        "group": group,
        "budget_bytes": 256 << 20,
    }


def time_calls(
    call: Callable[[], object], *, warm: int, num: int, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Seconds of each of `num` calls after `warm` unmeasured ones."""
    for _ in range(warm):
        call()
    seconds: list[float] = []
    for _ in range(num):
        start = clock()
        call()
        seconds.append(clock() - start)
    return seconds


def summarise(seconds: list[float], *, digits: int = 2) -> dict[str, float]:
    """Median with the quartiles around it, in milliseconds."""
    quarters = statistics.quantiles(seconds, n=4)
    return {
        "median_ms": round(1e3 * statistics.median(seconds), digits),
        "lower_quartile_ms": round(1e3 * quarters[0], digits),
        "upper_quartile_ms": round(1e3 * quarters[2], digits),
        "calls": len(seconds),
    }


def eager_modulus(queries: Tensor, candidates: Tensor) -> Tensor:
    """Distances (Q, K) by the plain formula, which stores Q x K x D."""
    real, imaginary = (queries[:, None] - candidates).chunk(2, dim=-1)
    return torch.sqrt(real * real + imaginary * imaginary).sum(-1)


def both_ways(
    way: Callable[[Tensor, Tensor], Tensor], queries: Tensor, candidates: Tensor, grad: Tensor
) -> Callable[[], None]:
    """Return a call that takes scores of all pairs and their gradient."""
    left, right = queries.clone().requires_grad_(), candidates.clone().requires_grad_()

    def run() -> None:
        torch.autograd.grad(way(left, right), (left, right), grad)

    return run


def set_threads(threads: int) -> None:
    """Use this many threads from here on."""
    torch.set_num_threads(threads)


def memory_gb() -> dict[str, float]:
    """Gigabytes of this process, by the names of Linux."""
    # Pages that processes share count in each of them, but by their part in Pss.
    lines = [
        line.split()
        for name in ("status", "smaps_rollup")
        for line in Path(f"/proc/self/{name}").read_text().splitlines()
    ]
    wanted = ("VmHWM", "VmRSS", "Pss")
    return {line[0][:-1]: int(line[1]) * 1024 / 1e9 for line in lines if line and line[0][:-1] in wanted}


def run_in_processes(num: int, function: Callable[..., dict[str, Any]], *arguments: Any) -> list[dict[str, Any]]:
    """Call a function on a group of `num` new processes of one thread each; each returns its numbers."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            context.Process(target=_work, args=(function, rank, num, folder, arguments, results)) for rank in range(num)
        ]
        for process in processes:
            process.start()
        found = [results.get(timeout=1800) for _ in processes]
        sys.stderr.write(f"{function.__name__} {arguments}: {found}\n")
        for process in processes:
            process.join()
    return found


def _work(
    function: Callable[..., Any], rank: int, num: int, folder: str, arguments: tuple[Any, ...], results: Any
) -> None:
    os.environ |= {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=num)
    results.put(function(Group(rank, num), *arguments))
    dist.barrier()
    dist.destroy_process_group()
    sys.stdout.flush()
