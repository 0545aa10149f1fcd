"""Seconds of a step, from a few real ones on made-up rows: one worker's share of the work, on this machine."""

import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from snag_dist.method.choices import AlignmentMethod, CompletionMethod
from snag_dist.objective.all_entities import AllEntitiesConfig
from snag_dist.task.alignment import AlignmentTask, assemble_pairs
from snag_dist.training.engine import DTYPES
from snag_dist.training.plan.activations import packed_width
from snag_dist.training.plan.load import StepLoad, global_batch
from snag_dist.training.plan.memory import build_task
from snag_dist.training.plan.sizes import GraphSizes
from snag_dist.training.plan.traffic import Traffic
from snag_dist.training.plan.trial import Trial
from snag_dist.training.recipe import Recipe
from snag_dist.training.worker import share_threads

# Rows and triples of the trial, at most: beyond them only the passes over the whole table take longer.
_ROWS, _TRIPLES = 200_000, 1_000_000
_WARM = 2


@dataclass(frozen=True)
class Calibration:
    """What a few steps took.

    Attributes:
        compute_seconds: of a step of one worker, without network.
        network_seconds: of a step, by the bytes that travel.
        steps: in an epoch.
        threads: of a worker's arithmetic.
    """

    compute_seconds: float
    network_seconds: float
    steps: int
    threads: int

    @property
    def step_seconds(self) -> float:
        """Of a whole step; nothing is taken to overlap."""
        return self.compute_seconds + self.network_seconds

    @property
    def epoch_seconds(self) -> float:
        """Of an epoch's steps, evaluation apart."""
        return self.steps * self.step_seconds


def calibrate(recipe: Recipe, sizes: GraphSizes, num_hosts: int) -> Calibration:
    """Take a few steps on made-up rows in a process of this machine."""
    task = build_task(recipe, sizes)
    load = StepLoad.of(recipe, sizes, task)
    workers = recipe.cluster.fewest_workers
    threads = share_threads(recipe.cluster.threads_per_worker, -(-workers // num_hosts))
    own_rows = sizes.most_rows(workers)
    trial_sizes = replace(
        sizes, num_entities=min(own_rows, _ROWS), num_triples=_trial_triples(recipe, sizes, min(own_rows, _ROWS))
    )
    batch, _ = global_batch(recipe, sizes)
    # In a process of its own: DeepSpeed keeps hold of the first process group it meets, and memory is given back.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        measured = process.submit(_measure, recipe, trial_sizes, batch, threads, own_rows)
        seconds = measured.result()
    network = Traffic.of(recipe, sizes, load, task).seconds(recipe.plan.network_bytes_per_second, num_hosts)
    return Calibration(seconds, network, load.steps, threads)


def trial_batch(recipe: Recipe, batch: int, num_entities: int) -> int:
    """Examples of the batch of a trial alone that give it a worker's share of the work.

    Args:
        recipe: of the run.
        batch: examples of a step, over all workers.
        num_entities: of the trial.
    """
    if load_grows_with_rows(recipe):
        # Every owner scores the queries of all workers.
        return batch
    own = max(1, batch // recipe.cluster.fewest_workers)
    # Both ends of a link are entities of the trial.
    return min(own, max(1, num_entities // 2)) if isinstance(recipe.method, AlignmentMethod) else own


def _measure(recipe: Recipe, sizes: GraphSizes, batch: int, threads: int, own_rows: int) -> float:
    """Seconds of a step on made-up rows, and of what `own_rows` and the pairs of other workers add to them."""
    batch_size = trial_batch(recipe, batch, sizes.num_entities)
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=0, world_size=1)
        trial = Trial.build(recipe, sizes, batch_size=batch_size, scratch=Path(folder))
        trial.stepper.begin_epoch()
        seconds = _median_seconds(trial.step, recipe.plan.calibration_steps)
        if load_grows_with_rows(recipe):
            seconds *= own_rows / sizes.num_entities
        else:
            seconds += _idle_rows_seconds(trial, own_rows - sizes.num_entities)
        seconds += _other_pairs_seconds(recipe, trial, batch_size, batch)
        dist.destroy_process_group()
    return seconds


def load_grows_with_rows(recipe: Recipe) -> bool:
    """Whether a step looks at all entities."""
    return isinstance(recipe.method, CompletionMethod) and isinstance(recipe.method.loss, AllEntitiesConfig)


def _trial_triples(recipe: Recipe, sizes: GraphSizes, rows: int) -> int:
    if isinstance(recipe.method, AlignmentMethod):
        # As many edges a row as in the graph.
        return max(1, round(sizes.num_triples * rows / sizes.num_entities))
    return min(sizes.num_triples, _TRIPLES)


def _idle_rows_seconds(trial: Trial, num_rows: int) -> float:
    """What rows that the trial leaves out add to a step: nothing, unless the optimiser moves untouched ones too."""
    table = trial.stepper.table
    if not table.optimizer.moves_untouched or num_rows <= 0:
        return 0.0
    nothing = torch.zeros(0, dtype=torch.int64)
    grad = table.rows.new_zeros(0, table.rows.shape[1])
    seconds = _median_seconds(lambda: table.step(nothing, grad, 0.0, 0), 3)
    return seconds * num_rows / len(table.rows)


def _other_pairs_seconds(recipe: Recipe, trial: Trial, own: int, batch: int) -> float:
    """What the pairs of other workers, which meet this one's in the contrasts of alignment, add to a step."""
    task = trial.task
    if not isinstance(task, AlignmentTask) or batch <= own:
        return 0.0

    def seconds(num: int) -> float:
        pairs = np.stack([np.arange(num), num + np.arange(num)], axis=1)
        batch = assemble_pairs(pairs, 0, own).to(trial.group.device)
        dtype = DTYPES[recipe.train.engine.precision]
        packed = torch.rand(2 * num, packed_width(task), dtype=dtype, device=trial.group.device, requires_grad=True)
        # No gradients of parameters: those are the engine's, whose hooks expect whole steps.
        return _median_seconds(
            lambda: torch.autograd.grad(task.loss(packed, batch).loss, packed), recipe.plan.calibration_steps
        )

    return max(0.0, seconds(batch) - seconds(own))


def _median_seconds(call: Callable[[], object], num: int) -> float:
    for _ in range(_WARM):
        call()
    seconds: list[float] = []
    for _ in range(num):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)
