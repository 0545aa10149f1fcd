"""Ray Train, DeepSpeed and the exchange at one worker, against a bare torch loop on the same maths, and in between."""

import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from workbench import group_of_one, make_recipe, make_worker, method_of, summarise, task_of, time_calls

from snag_dist.kg.truth import TruthIndex
from snag_dist.model.features import EntityInputs
from snag_dist.random import Moment
from snag_dist.shard.group import Group
from snag_dist.task.completion import CompletionBatch, assemble
from snag_dist.training.batches import MemoryTriples
from snag_dist.training.launch import connect, launch
from snag_dist.training.run_folder import RunFolder
from snag_dist.training.step import gather_features
from snag_dist.training.worker import Worker

BATCH, STEPS, WARM, CALLS = 1024, 60, 8, 20
ROUNDS = 2
"""Each way is measured as often, in turn: what else the machine does comes and goes."""


def measure(store: Path, seed: int) -> dict[str, Any]:
    """Seconds of a step in three ways, at one thread, which leaves a core to Ray, and at two."""
    # One process group for both: DeepSpeed keeps hold of the first it meets.
    with group_of_one() as group:
        return {"batch": BATCH} | {f"threads_{threads}": _compare(store, seed, threads, group) for threads in (1, 2)}


def _compare(store: Path, seed: int, threads: int, group: Group) -> dict[str, Any]:
    bare: list[float] = []
    stepped: list[float] = []
    whole: list[float] = []
    returning: list[float] = []
    phases: list[dict[str, float]] = []
    for _ in range(ROUNDS):
        bare += _bare(store, seed, threads, group)
        seconds, parts = _stepped(store, seed, threads, group)
        stepped += seconds
        phases.append(parts)
        whole += whole_step_seconds(store, seed, workers=1, threads=threads)
        returning += whole_step_seconds(store, seed, workers=1, threads=threads, host_memory="return")
    bare_s, stepped_s, whole_s = map(statistics.median, (bare, stepped, whole))
    return {
        "bare_torch_loop": summarise(bare),
        "deepspeed_and_exchange": summarise(stepped),
        "its_phases_ms": {name: round(1e3 * statistics.median(each[name] for each in phases), 2) for name in phases[0]},
        "ray_train_deepspeed_exchange": summarise(whole),
        "the_same_where_memory_is_returned": summarise(returning),
        "bare_over_stepped": round(bare_s / stepped_s, 3),
        "bare_over_whole": round(bare_s / whole_s, 3),
        "bare_over_whole_where_memory_is_returned": round(bare_s / statistics.median(returning), 3),
        "note": "whole: mean of each log interval of 5 steps; the others: each step",
    }


def whole_step_seconds(
    store: Path, seed: int, *, workers: int, threads: int, host_memory: str = "reuse"
) -> list[float]:
    """Step times of a real run, from its log, the first intervals left out."""
    with TemporaryDirectory() as runs:
        num_triples = json.loads((store / "manifest.json").read_text())["num_triples"]["train"]
        epochs = -(-STEPS * BATCH // num_triples)
        recipe = make_recipe(
            store,
            Path(runs),
            seed=seed,
            train={
                "epochs": epochs,
                "batch_size": BATCH,
                "log_every": 5,
                "evaluate_every": epochs,
                "engine": {"host_memory": host_memory},
            },
            evaluate={"max_dev_triples": 50},
            cluster={"threads_per_worker": threads, "num_workers": workers},
        )
        connect(recipe.cluster)
        launch(recipe, score_test=False)
        lines = [json.loads(line) for line in RunFolder(recipe.run_path).log.read_text().splitlines()]
    full = [line for line in lines if line.get("steps") == 5][2:]
    return [line["elapsed_seconds"] / line["steps"] for line in full]


def _stepped(store: Path, seed: int, threads: int, group: Group) -> tuple[list[float], dict[str, float]]:
    """The step of a worker, without Ray around it; seconds of each, and of its phases in the mean."""
    with TemporaryDirectory() as runs:
        recipe = make_recipe(store, Path(runs), seed=seed)
        worker = make_worker(recipe, group, threads)
        worker.stepper.begin_epoch()
        batches = batches_of(worker, seed, group)

        def step() -> None:
            batch, moment = next(batches)
            worker.stepper.step(batch, moment, 1e-3)

        time_calls(step, warm=WARM, num=1)
        worker.stepper.stopwatch.read()
        seconds = time_calls(step, warm=0, num=CALLS)
        return seconds, {name: each / CALLS for name, each in worker.stepper.stopwatch.read().items()}


def _bare(store: Path, seed: int, threads: int, group: Group) -> list[float]:
    """The same network, batches and negatives, with an embedding, one Adam and nothing else around them."""
    with TemporaryDirectory() as runs:
        recipe = make_recipe(store, Path(runs), seed=seed)
        worker = make_worker(recipe, group, threads)
        task, features = task_of(worker), worker.features
        rows = torch.nn.Parameter(worker.stepper.table.rows.clone())
        optimizer = torch.optim.Adam([rows, *task.parameters()], lr=1e-3)
        statistics_of_rows = worker.stepper.table.column_statistics()
        batches = batches_of(worker, seed, group)

        def step() -> None:
            batch, moment = next(batches)
            leaf = rows.index_select(0, batch.entities)
            vectors, present = gather_features(batch.entities, features, leaf.device)
            inputs = EntityInputs(batch.entities, leaf, vectors, present, statistics_of_rows)
            optimizer.zero_grad()
            task.loss(task.encode(inputs, moment).codes, batch).loss.backward()
            optimizer.step()

        return time_calls(step, warm=WARM, num=CALLS)


def batches_of(worker: Worker, seed: int, group: Group) -> Iterator[tuple[CompletionBatch, Moment]]:
    """Batches with their negatives, drawn when they are asked for, and the moments of their steps."""
    triples = worker.store.triples("train")
    truth = TruthIndex.build(triples, worker.store.num_entities, worker.store.num_relations)
    sampler = method_of(worker.recipe).build_sampler(truth)
    parts = list(MemoryTriples(triples, BATCH, group, seed).epoch(0, 0))
    for number in range(1 << 30):
        part, moment = parts[number % (len(parts) - 1)], Moment(seed, 0, number)
        yield assemble(sampler.draw(part.positives, part.first, moment), part.global_triples), moment
