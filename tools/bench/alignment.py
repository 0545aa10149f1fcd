"""Memory and seconds an epoch of alignment, method by method, beside what attention over dense matrices would hold.

Each method trains in a process of its own, so that its peak is its own: at the published batch and at the CPU-sized
one. Needs a store of a pair of graphs, e.g. of zh_en.toml.
"""

import itertools
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from workbench import make_recipe, make_worker, memory_gb, run_in_processes

from snag_dist.shard.group import Group
from snag_dist.store.opened import open_store
from snag_dist.training.cursor import Cursor
from snag_dist.training.worker import Worker

METHODS = ("snag_alignment", "meaformer", "mclea", "eva")
BATCHES = (3500, 512)
"""The published size, and that of the recipe."""
EPOCHS = 2
"""The first is not timed: memory grows over it."""
MODALITIES = ("attribute", "relation")
HEADS, LAYERS, FLOAT32_BYTES = 2, 2, 4


def measure(store: Path, seed: int) -> dict[str, Any]:
    """Take a few steps of each method; count the dense way."""
    num = open_store(store).num_entities
    found = {
        method: {
            f"batch_{batch}, {memory}": run_in_processes(1, _train, store, method, batch, memory, seed)[0]
            for batch, memory in itertools.product(BATCHES, ("reuse", "return"))
        }
        for method in METHODS
    }
    return {
        "threads": 1,
        "channels": ["graph", *MODALITIES],
        "links": "30 % of them train, a tenth of those are dev",
        "entities": num,
        "dense_way_counted": {
            "one_matrix_gb": round(num * num * FLOAT32_BYTES / 1e9, 2),
            "matrices": f"one for each of {HEADS} heads in each of {LAYERS} layers, float32, in the backward pass",
        },
        **found,
    }


def _train(group: Group, store: Path, method: str, batch: int, memory: str, seed: int) -> dict[str, float]:
    """Seconds of an epoch, wall and processor, and the peak of this process."""
    with TemporaryDirectory() as runs:
        recipe = make_recipe(
            store,
            Path(runs),
            seed=seed,
            modalities=list(MODALITIES),
            method={"kind": method, "encoder": {"width": 300}},
            links={"train_share": 0.3, "dev_share": 0.1},
            train={"batch_size": batch, "engine": {"host_memory": memory}},
        )
        worker = make_worker(recipe, group, threads=1)
        before = memory_gb()["VmRSS"]
        wall, processor = [_epoch(worker, epoch) for epoch in range(EPOCHS)][-1]
        steps = worker.assignment.steps_in_epoch()
    return {
        "steps_an_epoch": steps,
        "wall_s_an_epoch": round(wall, 1),
        "processor_s_an_epoch": round(processor, 1),
        "before_gb": round(before, 2),
        "peak_gb": round(memory_gb()["VmHWM"], 2),
    }


def _epoch(worker: Worker, epoch: int) -> tuple[float, float]:
    """Seconds of one epoch, wall and processor."""
    start = time.perf_counter(), time.process_time()
    worker.stepper.begin_epoch()
    for drawn, moment in worker.assignment.batches(Cursor(epoch=epoch)):
        worker.stepper.step(drawn.batch, moment, 1e-3)
    return time.perf_counter() - start[0], time.process_time() - start[1]
