"""Exact ranks with and without a first pass in a coarser format, on codes that were trained for a while.

RotatE and ComplEx, graph only. The calls of the ways of one scorer alternate, and are timed in CPU seconds, which for
one thread are those of a machine that does nothing else. Beside the times: the share of scores that were near ties and
computed again in double, and the calls that single scores were computed to the bit in, against those of the exact path.
"""

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor
from workbench import group_of_one, make_recipe, make_worker, method_of, ranking_of, set_threads, task_of

from snag_dist.kg.truth import TruthIndex
from snag_dist.model.scorer import Scorer
from snag_dist.random import Moment
from snag_dist.ranking.metrics import RankMetrics
from snag_dist.ranking.ranks import RankTable
from snag_dist.shard.group import Group
from snag_dist.shard.ranking import rank_triples
from snag_dist.task.completion import assemble
from snag_dist.training.batches import MemoryTriples
from snag_dist.training.worker import Worker

BATCH, STEPS, RATE, TRIPLES, CALLS = 1024, 150, 5e-3, 1000, 3
SCORERS = ("rotate", "complex")
# Name: precision, first pass.
WAYS: dict[str, tuple[torch.dtype, torch.dtype | None]] = {
    "float32": (torch.float32, None),
    "float64": (torch.float64, None),
    "float64 after float32": (torch.float64, torch.float32),
    "float32 after bfloat16": (torch.float32, torch.bfloat16),
    "float64 after bfloat16": (torch.float64, torch.bfloat16),
}


def measure(store: Path, seed: int) -> dict[str, Any]:
    """Train a little, then rank test triples in every way the scorer has."""
    set_threads(1)
    figures: dict[str, Any] = {"steps": STEPS, "batch": BATCH, "threads": 1, "test_triples": TRIPLES}
    with TemporaryDirectory() as runs, group_of_one() as group:
        for scorer in SCORERS:
            method = {"scorer": {"kind": scorer}, "negatives": {"num": 256}}
            recipe = make_recipe(store, Path(runs), seed=seed, name=scorer, method=method, modalities=[])
            worker = make_worker(recipe, group, 1)
            _train(worker, group, seed)
            figures[scorer] = _compare(worker, group, seed)
    return figures


def _train(worker: Worker, group: Group, seed: int) -> None:
    triples = worker.store.triples("train")
    truth = TruthIndex.build(triples, worker.store.num_entities, worker.store.num_relations)
    source = MemoryTriples(triples, BATCH, group, seed)
    sampler = method_of(worker.recipe).build_sampler(truth)
    worker.stepper.begin_epoch()
    step, epoch = 0, 0
    while step < STEPS:
        for part in source.epoch(epoch, 0):
            moment = Moment(seed, epoch, step)
            worker.stepper.step(assemble(sampler.draw(part.positives, 0, moment), len(part.positives)), moment, RATE)
            step += 1
        epoch += 1


def _compare(worker: Worker, group: Group, seed: int) -> dict[str, Any]:
    task, opened, ranking = task_of(worker), worker.store, ranking_of(worker, group)
    test = np.random.default_rng(seed).permutation(opened.triples("test"))[:TRIPLES]
    assert task.scorer.rounding is not None
    offered = {None, *task.scorer.rounding.first_passes}
    ways = {name: way for name, way in WAYS.items() if way[1] in offered}

    def rank(dtype: torch.dtype, first_pass: torch.dtype | None) -> RankTable:
        return rank_triples(test, dtype=dtype, first_pass=first_pass, **ranking)

    seconds: dict[str, list[float]] = {name: [] for name in ways}
    tables: dict[str, RankTable] = {}
    counts: dict[str, dict[str, Any]] = {}
    for name, way in ways.items():
        with _Counted(task.scorer) as counted:
            tables[name] = rank(*way)
        counts[name] = counted.describe(way[0], len(tables[name]) * opened.num_entities)
    for _ in range(CALLS):
        for name, way in ways.items():
            start = time.process_time()
            rank(*way)
            seconds[name].append(time.process_time() - start)
    found: dict[str, Any] = {"mrr": round(RankMetrics.of(tables["float64"]).realistic.mrr, 4)}
    for name, (dtype, first_pass) in ways.items():
        middle = float(np.median(seconds[name]))
        found[name] = {"cpu_seconds": round(middle, 2), "all": [round(value, 2) for value in seconds[name]]}
        if first_pass is not None:
            exact = str(dtype).removeprefix("torch.")
            same = [np.array_equal(getattr(tables[name], at), getattr(tables[exact], at)) for at in ("better", "equal")]
            found[name] |= {
                "times_as_fast_as_exact": round(float(np.median(seconds[exact])) / middle, 2),
                "ranks_equal": all(same),
                "share_scored_again": counts[name]["single"],
                "calls_to_the_bit": counts[name]["calls"],
                "calls_of_the_exact_path": counts[exact]["calls"],
            }
    return found


class _Counted:
    """Counts what a scorer is asked for, while it is open."""

    def __init__(self, scorer: Scorer):
        self._scorer = scorer
        self._calls: list[torch.dtype] = []
        self._single = 0

    def __enter__(self) -> "_Counted":
        score: Callable[..., Tensor] = self._scorer.score
        score_own: Callable[..., Tensor] = self._scorer.score_own

        def count(queries: Tensor, candidates: Tensor) -> Tensor:
            self._calls.append(queries.dtype)
            return score(queries, candidates)

        def count_own(queries: Tensor, candidates: Tensor, index: Tensor) -> Tensor:
            self._single += index.numel()
            return score_own(queries, candidates, index)

        self._scorer.score, self._scorer.score_own = count, count_own
        return self

    def __exit__(self, *_: object) -> None:
        del self._scorer.score, self._scorer.score_own

    def describe(self, exact: torch.dtype, num_scores: int) -> dict[str, Any]:
        """Calls in the exact format, and the share of single scores in all."""
        return {"calls": self._calls.count(exact), "single": round(self._single / num_scores, 6)}
