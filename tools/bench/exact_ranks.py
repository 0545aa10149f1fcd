"""Exact ranks of the test split against a plain numpy ranking of the same codes, and their speed, alone and all in.

All in is what an evaluation does from the folder of a store to ranks: open and check the store, build the network,
encode all entities, index what is known of all splits, rank both directions. Imports of Python are not in it.
"""

import multiprocessing
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from workbench import group_of_one, make_recipe, make_worker, ranking_of, summarise, task_of, time_calls

from snag_dist.ranking.metrics import RankMetrics
from snag_dist.shard.group import Group
from snag_dist.shard.ranking import rank_triples
from snag_dist.training.recipe import Recipe

THREADS, CALLS = 2, 3


def measure(store: Path, seed: int) -> dict[str, Any]:
    """Rank the test split by both, with the codes of an untrained encoder, whose scores lie close together."""
    with TemporaryDirectory() as runs, group_of_one() as group:
        recipe = make_recipe(store, Path(runs), seed=seed)
        all_in = [_evaluate(recipe, group) for _ in range(CALLS)]
        worker = make_worker(recipe, group, THREADS)
        task, opened = task_of(worker), worker.store
        ranking = ranking_of(worker, group)
        test = opened.triples("test")
        every = np.concatenate([opened.triples(split) for split in opened.manifest.num_triples])
        tables = {dtype: rank_triples(test, dtype=dtype, **ranking) for dtype in (torch.float32, torch.float64)}
        seconds = {
            str(dtype): time_calls(lambda dtype=dtype: rank_triples(test, dtype=dtype, **ranking), warm=0, num=CALLS)
            for dtype in tables
        }
        relations = task.relations.detach().numpy().astype(np.float64)
        radians = np.pi / task.scorer.relation_bound
        plain = _rank_by_numpy(test, every, ranking["codes"].numpy().astype(np.float64), relations * radians)
    exact, fast = (RankMetrics.of(tables[dtype]).realistic for dtype in (torch.float64, torch.float32))
    scores = len(tables[torch.float32]) * opened.num_entities
    return {
        "queries": len(tables[torch.float32]),
        "candidates": opened.num_entities,
        "threads": THREADS,
        "mrr_numpy_float64": float(np.mean(1 / plain)),
        "mrr_float64": exact.mrr,
        "mrr_float32": fast.mrr,
        "mrr_difference_float64": abs(exact.mrr - float(np.mean(1 / plain))),
        "ranks_that_differ_float64": int((np.sort(tables[torch.float64].realistic) != np.sort(plain)).sum()),
        "ranking": {name: summarise(found) for name, found in seconds.items()},
        "scores_per_second_float32": round(scores / median(seconds["torch.float32"])),
        "all_in_float32": {
            **summarise([sum(found.values()) for found in all_in]),
            "first_call_s": round(sum(all_in[0].values()), 2),
            "median_s_by_part": {name: round(median(found[name] for found in all_in), 2) for name in all_in[0]},
        },
    }


def _evaluate(recipe: Recipe, group: Group) -> dict[str, float]:
    """Seconds of each part of an evaluation of the test split, beginning with nothing."""
    marks = [time.perf_counter()]
    worker = make_worker(recipe, group, THREADS)
    marks.append(time.perf_counter())
    ranking = ranking_of(worker, group)
    marks.append(time.perf_counter())
    rank_triples(worker.store.triples("test"), **ranking)
    marks.append(time.perf_counter())
    names = ("open the store and build the network", "encode all entities and index what is known", "rank")
    return {name: end - start for name, (start, end) in zip(names, pairwise(marks), strict=True)}


def _rank_by_numpy(test: Any, every: Any, codes: Any, phases: Any) -> Any:
    """Filtered realistic ranks, one query after another: tails and heads of every test triple, half a process each."""
    parts = np.array_split(test, THREADS)
    context = multiprocessing.get_context("spawn")
    with context.Pool(THREADS) as pool:
        ranks = pool.starmap(_rank_part, [(part, every, codes, phases) for part in parts])
    return np.concatenate(ranks)


def _rank_part(test: Any, every: Any, codes: Any, phases: Any) -> Any:
    known_tails: dict[tuple[int, int], list[int]] = {}
    known_heads: dict[tuple[int, int], list[int]] = {}
    for head, relation, tail in every.tolist():
        known_tails.setdefault((head, relation), []).append(tail)
        known_heads.setdefault((relation, tail), []).append(head)
    half = codes.shape[1] // 2
    points = codes[:, :half] + 1j * codes[:, half:]
    ranks: list[float] = []
    for head, relation, tail in test.tolist():
        turn = np.exp(1j * phases[relation])
        for query, answer, known in (
            (points[head] * turn, tail, known_tails[head, relation]),
            (points[tail] * turn.conj(), head, known_heads[relation, tail]),
        ):
            difference = query - points
            distance = np.sqrt(difference.real**2 + difference.imag**2).sum(axis=1)
            target = distance[answer]
            distance[known] = np.inf
            ranks.append((distance < target).sum() + 0.5 * (distance == target).sum() + 1.0)
    return np.array(ranks)
