"""Ray Train, DeepSpeed and the exchange at one worker, against a bare torch loop on the same maths."""

import json
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from workbench import group_of_one, make_recipe, make_worker, method_of, summarise, task_of, time_calls

from snag_dist.kg.truth import TruthIndex
from snag_dist.model.features import EntityInputs
from snag_dist.random import Moment
from snag_dist.shard.group import Group
from snag_dist.task.completion import assemble
from snag_dist.training.batches import MemoryTriples
from snag_dist.training.launch import connect, launch
from snag_dist.training.run_folder import RunFolder
from snag_dist.training.step import gather_features

BATCH, THREADS, STEPS = 1024, 2, 60


def measure(store: Path, seed: int) -> dict[str, Any]:
    """Seconds of a step, both ways, in one run: bare, whole, bare again."""
    # One process group for both: DeepSpeed keeps hold of the first it meets.
    with group_of_one() as group:
        first = _bare(store, seed, group)
        whole = _whole(store, seed)
        second = _bare(store, seed, group)
    bare_s, whole_s = statistics.median(first + second), statistics.median(whole)
    return {
        "batch": BATCH,
        "threads": THREADS,
        "bare_torch_loop": summarise(first + second),
        "ray_train_deepspeed_exchange": summarise(whole),
        "bare_over_whole": round(bare_s / whole_s, 3),
        "note": "whole: mean of each log interval of 5 steps; bare: each step",
    }


def _whole(store: Path, seed: int) -> list[float]:
    """Step times of a real run, from its log, the first intervals left out."""
    with TemporaryDirectory() as runs:
        num_triples = json.loads((store / "manifest.json").read_text())["num_triples"]["train"]
        epochs = -(-STEPS * BATCH // num_triples)
        recipe = make_recipe(
            store,
            Path(runs),
            seed=seed,
            train={"epochs": epochs, "batch_size": BATCH, "log_every": 5, "evaluate_every": epochs},
            evaluate={"max_dev_triples": 50},
            cluster={"threads_per_worker": THREADS},
        )
        connect(recipe.cluster)
        launch(recipe)
        lines = [json.loads(line) for line in RunFolder(recipe.run_path).log.read_text().splitlines()]
    full = [line for line in lines if line.get("steps") == 5][2:]
    return [line["elapsed_seconds"] / line["steps"] for line in full]


def _bare(store: Path, seed: int, group: Group) -> list[float]:
    """The same network, batches and negatives, with an embedding, one Adam and nothing else around them."""
    with TemporaryDirectory() as runs:
        recipe = make_recipe(store, Path(runs), seed=seed)
        worker = make_worker(recipe, group, THREADS)
        task, features = task_of(worker), worker.features
        rows = torch.nn.Parameter(worker.stepper.table.rows.clone())
        optimizer = torch.optim.Adam([rows, *task.parameters()], lr=1e-3)
        triples = worker.store.triples("train")
        truth = TruthIndex.build(triples, worker.store.num_entities, worker.store.num_relations)
        sampler = method_of(recipe).build_sampler(truth)
        parts = list(MemoryTriples(triples, BATCH, group, seed).epoch(0, 0))
        statistics_of_rows = worker.stepper.table.column_statistics()
        steps = iter(range(1 << 30))

        def step() -> None:
            number = next(steps)
            part, moment = parts[number % (len(parts) - 1)], Moment(seed, 0, number)
            batch = assemble(sampler.draw(part.positives, part.first, moment), part.global_triples)
            leaf = rows.index_select(0, batch.entities)
            vectors, present = gather_features(batch.entities, features, leaf.device)
            inputs = EntityInputs(batch.entities, leaf, vectors, present, statistics_of_rows)
            optimizer.zero_grad()
            task.loss(task.encode(inputs, moment).codes, batch).loss.backward()
            optimizer.step()

        return time_calls(step, warm=8, num=20)
