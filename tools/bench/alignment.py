"""Memory and seconds an epoch of alignment, method by method, beside what attention over dense matrices would hold.

Each method trains in a process of its own, so that its peak is its own: at the published batch and at the CPU-sized
one. Needs a store of a pair of graphs, e.g. of zh_en.toml.
"""

import itertools
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from workbench import make_recipe, make_worker, memory_gb, run_in_processes

from snag_dist.shard.group import Group
from snag_dist.store.opened import open_store
from snag_dist.training.cursor import Cursor

METHODS = ("snag_alignment", "meaformer", "mclea", "eva")
NUM_STEPS = {3500: 2, 512: 8}
"""By size of a batch, the published one and that of the recipe; the first step is not timed."""
MODALITIES = ("attribute", "relation")
HEADS, LAYERS, FLOAT32_BYTES = 2, 2, 4


def measure(store: Path, seed: int) -> dict[str, Any]:
    """Take a few steps of each method; count the dense way."""
    num = open_store(store).num_entities
    found = {
        method: {
            f"batch_{batch}": run_in_processes(1, _take_steps, store, method, batch, seed)[0] for batch in NUM_STEPS
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


def _take_steps(group: Group, store: Path, method: str, batch: int, seed: int) -> dict[str, float]:
    """Seconds of a step and of an epoch, wall and processor, and the peak of this process."""
    with TemporaryDirectory() as runs:
        recipe = make_recipe(
            store,
            Path(runs),
            seed=seed,
            modalities=list(MODALITIES),
            method={"kind": method, "encoder": {"width": 300}},
            links={"train_share": 0.3, "dev_share": 0.1},
            train={"batch_size": batch},
        )
        worker = make_worker(recipe, group, threads=1)
        before = memory_gb()["VmRSS"]
        worker.stepper.begin_epoch()
        epochs = (worker.assignment.batches(Cursor(epoch=epoch)) for epoch in itertools.count())
        wall: list[float] = []
        processor: list[float] = []
        for drawn, moment in itertools.islice(itertools.chain.from_iterable(epochs), NUM_STEPS[batch]):
            start = time.perf_counter(), time.process_time()
            worker.stepper.step(drawn.batch, moment, 1e-3)
            wall.append(time.perf_counter() - start[0])
            processor.append(time.process_time() - start[1])
        steps = worker.assignment.steps_in_epoch()
    median = statistics.median(processor[1:])
    return {
        "steps_an_epoch": steps,
        "wall_s_a_step": round(statistics.median(wall[1:]), 2),
        "processor_s_a_step": round(median, 2),
        "processor_s_an_epoch": round(median * steps, 1),
        "before_gb": round(before, 2),
        "peak_gb": round(memory_gb()["VmHWM"], 2),
    }
