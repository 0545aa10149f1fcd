"""A step against all entities, B=1024 with both sides asked, next to the plain way; one thread, one worker.

The plain way: every step encodes all entities at once, keeps the graph, takes the full logits and torch's own
cross-entropy, and steps one Adam over everything. Same network, same data, same questions; both codes that the paper
uses, the graph token (on DB15K) and the mean of the tokens (on MKG-W). The calls of all ways alternate, and are timed
in CPU seconds, which for one thread are those of a machine that does nothing else. Cached codes are made anew every 20
steps: a twentieth of that is added to their step.
"""

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from workbench import group_of_one, make_recipe, make_worker, method_of, set_threads, summarise

from snag_dist.kg.truth import TruthIndex
from snag_dist.model.features import EntityInputs
from snag_dist.random import Moment
from snag_dist.shard.group import Group
from snag_dist.task.completion import CompletionBatch, assemble
from snag_dist.training.all_entities import DistributedAllEntities
from snag_dist.training.assignment import Workplace
from snag_dist.training.batches import MemoryTriples
from snag_dist.training.run_folder import RunFolder
from snag_dist.training.step import gather_features
from snag_dist.training.worker import Worker

BATCH, THREADS, CALLS, REFRESH_EVERY = 1024, 1, 7, 20
METHOD = {"scorer": {"kind": "complex"}, "reciprocal": True}
WAYS: dict[str, dict[str, Any]] = {
    "fresh": {},
    "fresh, nothing kept for the way back": {"kept_rows": 0, "kept_scores": 0},
    "cached": {"candidates": "cached", "refresh_every": REFRESH_EVERY},
}

Step = Callable[[CompletionBatch, Moment], object]


def measure(store: Path, seed: int) -> dict[str, Any]:
    """Time all ways on a store, with either code."""
    set_threads(THREADS)
    figures: dict[str, Any] = {"batch": BATCH, "queries": 2 * BATCH, "threads": THREADS}
    with TemporaryDirectory() as runs, group_of_one() as group:
        for code in ("graph", "mean"):
            figures[f"code {code}"] = _measure_code(store, Path(runs), code, group, seed)
    return figures


def _measure_code(store: Path, runs: Path, code: str, group: Group, seed: int) -> dict[str, Any]:
    workers: dict[str, Worker] = {}
    for name, settings in WAYS.items():
        method = {
            **METHOD,
            "encoder": {"fusion": {"kind": "attention", "code": code}},
            "loss": {"kind": "all_entities", "block": 512, **settings},
        }
        workers[name] = make_worker(make_recipe(store, runs, seed=seed, method=method), group, THREADS)
        workers[name].stepper.begin_epoch()
    steps: dict[str, Step] = {name: _product_step(worker) for name, worker in workers.items()}
    worker = workers["fresh"]
    steps["plain"] = _PlainStep(worker, seed)
    seconds = _time_in_turn(steps, worker, group, seed)
    phases = worker.stepper.stopwatch.read()
    refresh = _refresh_seconds(workers["cached"], seed)
    seconds["cached"] = [value + refresh / REFRESH_EVERY for value in seconds["cached"]]
    middle = {name: float(np.median(values)) for name, values in seconds.items()}
    return {
        "entities": worker.store.num_entities,
        **{
            name: {
                **summarise(values),
                "triples_per_second": round(BATCH / middle[name]),
                "times_plain": round(middle["plain"] / middle[name], 2),
            }
            for name, values in seconds.items()
        },
        "refresh_of_cached_codes_ms": round(1e3 * refresh, 1),
        "phases_of_fresh_ms": {name: round(1e3 * value / (CALLS + 1), 1) for name, value in phases.items()},
    }


def _module_of(worker: Worker) -> DistributedAllEntities:
    module = worker.stepper.module
    assert isinstance(module, DistributedAllEntities)
    return module


def _product_step(worker: Worker) -> Step:
    return lambda batch, moment: worker.stepper.step(batch, moment, 1e-3)


def _time_in_turn(steps: dict[str, Step], worker: Worker, group: Group, seed: int) -> dict[str, list[float]]:
    triples = worker.store.triples("train")
    sampler = method_of(worker.recipe).build_sampler(
        TruthIndex.build(triples, worker.store.num_entities, worker.store.num_relations)
    )
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number, part in zip(range(CALLS + 1), MemoryTriples(triples, BATCH, group, seed).epoch(0, 0), strict=False):
        moment = Moment(seed, 0, number)
        batch = assemble(sampler.draw(part.positives, part.first, moment), part.global_triples)
        for name, step in steps.items():
            start = time.process_time()
            step(batch, moment)
            # The first turn warms up, and makes the cached codes; their part of later steps is counted by itself.
            if number:
                seconds[name].append(time.process_time() - start)
    return seconds


def _refresh_seconds(worker: Worker, seed: int) -> float:
    statistics = worker.stepper.table.column_statistics()
    with torch.no_grad():
        start = time.process_time()
        _module_of(worker).own.make(worker.stepper.table.rows, statistics, Moment(seed, 0, 1))
        return time.process_time() - start


class _PlainStep:
    """Everything encoded at once, full logits, one Adam."""

    def __init__(self, worker: Worker, seed: int):
        method = method_of(worker.recipe)
        facts = Workplace(
            worker.recipe,
            worker.store,
            RunFolder(worker.recipe.run_path),
            worker.partition,
            Group(),
            worker.features,
        ).facts
        self._task = method.build_completion(facts, seed)
        self._rows = torch.nn.Parameter(worker.stepper.table.rows.clone())
        self._optimizer = torch.optim.Adam([self._rows, *self._task.parameters()], lr=1e-3)
        self._ids = torch.arange(worker.store.num_entities)
        self._inputs = gather_features(self._ids, worker.features, self._rows.device)
        self._statistics = worker.stepper.table.column_statistics()

    def __call__(self, batch: CompletionBatch, moment: Moment) -> None:
        entities = EntityInputs(self._ids, self._rows, *self._inputs, self._statistics)
        codes = self._task.encode(entities, moment).codes
        known = codes.index_select(0, batch.entities[batch.known])
        logits = self._task.scorer.score(self._task.queries(known, batch.relations, batch.find_tail), codes)
        loss = functional.cross_entropy(logits, batch.entities[batch.answer])
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
