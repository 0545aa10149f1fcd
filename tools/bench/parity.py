"""Loss over 100 steps at 1, 2 and 4 workers, and twice at the same number; ranks of the dev split at each."""

import multiprocessing
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from workbench import make_recipe, make_worker, method_of, task_of

from snag_dist.kg.truth import TruthIndex
from snag_dist.random import Moment
from snag_dist.shard.group import Group
from snag_dist.task.completion import assemble
from snag_dist.training.batches import MemoryTriples
from snag_dist.training.completion import DistributedCompletion
from snag_dist.training.completion_scoring import encode_owned

STEPS, BATCH = 100, 1024
DEV_TRIPLES = 500


def measure(store: Path, seed: int) -> dict[str, Any]:
    """Train the same 100 steps in several ways and compare."""
    runs = {size: _train(size, store, seed, "float32") for size in (1, 2, 4)}
    again = {size: _train(size, store, seed, "float32") for size in (1, 2)}
    double = {size: _train(size, store, seed, "float64") for size in (1, 2, 4)}
    largest = lambda one, two: float(np.max(np.abs(one["losses"] / two["losses"] - 1)))  # noqa: E731
    return {
        "steps": STEPS,
        "batch": BATCH,
        "threads_per_worker": 1,
        "loss_first_and_last": [float(runs[1]["losses"][0]), float(runs[1]["losses"][-1])],
        "largest_relative_loss_difference_float32": {
            f"W={size} to W=1": largest(runs[size], runs[1]) for size in (2, 4)
        },
        "largest_relative_loss_difference_float64": {
            f"W={size} to W=1": largest(double[size], double[1]) for size in (2, 4)
        },
        "bit_equal_at_the_same_workers": {
            f"W={size}": bool(
                np.array_equal(runs[size]["losses"], again[size]["losses"])
                and np.array_equal(runs[size]["codes"], again[size]["codes"])
            )
            for size in (1, 2)
        },
        "ranks_equal_of_the_same_codes": {
            f"W={size}": bool(np.array_equal(runs[size]["ranks"], runs[1]["ranks"])) for size in (2, 4)
        },
    }


def _train(size: int, store: Path, seed: int, precision: str) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    with TemporaryDirectory() as folder:
        arguments = (size, store, seed, precision, Path(folder), results)
        processes = [context.Process(target=_work, args=(rank, *arguments)) for rank in range(size)]
        for process in processes:
            process.start()
        value = results.get()
        for process in processes:
            process.join()
    return value


def _work(rank: int, size: int, store: Path, seed: int, precision: str, folder: Path, results: Any) -> None:
    os.environ |= {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "LOCAL_RANK": str(rank)}
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=size)
    group = Group(rank, size)
    recipe = make_recipe(store, folder, seed=seed, train={"engine": {"precision": precision}})
    worker = make_worker(recipe, group, 1)
    triples = worker.store.triples("train")
    truth = TruthIndex.build(triples, worker.store.num_entities, worker.store.num_relations)
    sampler, source = method_of(recipe).build_sampler(truth), MemoryTriples(triples, BATCH, group, seed)
    losses: list[float] = []
    epoch = 0
    while len(losses) < STEPS:
        worker.stepper.begin_epoch()
        for part in source.epoch(epoch, 0):
            if len(losses) == STEPS:
                break
            moment = Moment(seed, epoch, len(losses))
            batch = assemble(sampler.draw(part.positives, part.first, moment), part.global_triples)
            losses.append(worker.stepper.step(batch, moment, 1e-3).loss)
        epoch += 1
    dtype = torch.float64 if precision == "float64" else torch.float32
    codes = encode_owned(task_of(worker), worker.stepper.table, worker.features, worker.partition, rank, dtype).codes
    ranks = _rank_initial_codes(worker, rank, group)
    gathered = group.gather_objects(codes.numpy())
    if rank == 0:
        results.put({"losses": np.array(losses), "codes": np.concatenate(gathered), "ranks": ranks})
    dist.barrier()
    dist.destroy_process_group()


def _rank_initial_codes(worker: Any, rank: int, group: Group) -> Any:
    """Ranks under codes that are the same at any number of workers: those before training."""
    from snag_dist.shard.ranking import rank_triples

    recipe, store = worker.recipe, worker.store
    begun = make_worker(recipe, group, 1).assignment
    assert isinstance(begun.module, DistributedCompletion)
    task = begun.module.task
    codes = encode_owned(task, begun.table, worker.features, worker.partition, rank, torch.float32).codes
    dev = store.triples("valid")[:DEV_TRIPLES]
    truth = TruthIndex.build(store.triples("train"), store.num_entities, store.num_relations)
    ranks = rank_triples(
        dev, codes=codes, task=task, truth=truth, partition=worker.partition, group=group, budget_bytes=64 << 20
    )
    return ranks.realistic
