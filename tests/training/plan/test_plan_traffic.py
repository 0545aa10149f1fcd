"""The plan's traffic against the bytes that workers really send one another."""

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from distributed import run_distributed

from snag_dist.shard.group import Group
from snag_dist.training.plan.load import StepLoad
from snag_dist.training.plan.memory import build_task
from snag_dist.training.plan.sizes import GraphSizes, ModalitySize
from snag_dist.training.plan.traffic import Traffic
from snag_dist.training.plan.trial import Trial
from snag_dist.training.recipe import Recipe

SIZES = GraphSizes(
    num_entities=4000,
    num_relations=4,
    num_triples=3000,
    num_ranked=20,
    num_filtered=3000,
    num_links=1000,
    virtual_shards=16,
    modalities={"text": ModalitySize(5, 2)},
)
WIDTH, BATCH, STEPS = 32, 200, 4
METHODS: dict[str, dict[str, Any]] = {
    "negatives": {},
    "own negatives": {"negatives": {"kind": "per_triple", "num": 4, "sides": "both"}},
    "all entities": {"loss": {"kind": "all_entities"}},
    "all entities, one side, cached": {
        "loss": {"kind": "all_entities", "sides": "bernoulli", "candidates": "cached"},
    },
    "adversary": {"kind": "adamf", "adversary": {}},
    "alignment": {"kind": "snag_alignment"},
}


def make(method: dict[str, Any], num_workers: int) -> Recipe:
    tree = {
        "name": "planned",
        "store": "nowhere",
        "ingest": {"source": {"kind": "world"}},
        "modalities": ["text"],
        "method": {"encoder": {"width": WIDTH}, **method},
        # Pairs of alignment: all that links of 1000 leave for training.
        "links": {"train_share": 0.5, "dev_share": 0.6},
        "train": {"batch_size": BATCH},
        "cluster": {"num_workers": num_workers},
    }
    return Recipe.model_validate(tree)


def send(group: Group, methods: str) -> dict[str, float]:
    """Bytes that this worker sends in a step, by method."""
    found: dict[str, float] = {}
    for name, method in json.loads(methods).items():
        with tempfile.TemporaryDirectory() as scratch:
            recipe = make(method, group.size)
            trial = Trial.build(recipe, SIZES, batch_size=BATCH, scratch=Path(scratch), group=group)
            trial.stepper.begin_epoch()
            # The first step routes its own ids and those of the next; every later one only the next one's.
            trial.step()
            before = group.bytes_sent
            for _ in range(STEPS):
                trial.step()
            found[name] = (group.bytes_sent - before) / STEPS
    return found


@cache
def sent(num_workers: int) -> dict[str, float]:
    """Mean over the workers, by method."""
    workers = run_distributed(send, num_workers, json.dumps(METHODS))
    return {name: sum(worker[name] for worker in workers) / num_workers for name in METHODS}


@pytest.mark.distributed
@pytest.mark.parametrize("num_workers", [2, 4])
@pytest.mark.parametrize("method", METHODS)
def test_planned_bytes_are_those_that_are_sent(method: str, num_workers: int) -> None:
    recipe = make(METHODS[method], num_workers)
    task = build_task(recipe, SIZES)
    planned = Traffic.of(recipe, SIZES, StepLoad.of(recipe, SIZES, task), task)
    assert planned.exchanged == pytest.approx(sent(num_workers)[method], rel=0.02)


def test_queries_of_a_loss_over_all_entities_by_hand() -> None:
    recipe = make(METHODS["all entities"], 4)
    task = build_task(recipe, SIZES)
    planned = Traffic.of(recipe, SIZES, StepLoad.of(recipe, SIZES, task), task)
    # Two queries a triple; a worker sends its quarter of them to three others, each with two numbers of 8 bytes.
    queries = 2 * BATCH
    assert planned.queries == 3 * queries // 4 * (WIDTH * 4 + 16)
    # Three slopes go to the others; gradients of their three quarters go back to them.
    assert planned.query_gradients == 3 * queries // 4 * (WIDTH * 4 + 3 * 4)
    # A ring sends everything there and back but for the own part.
    assert planned.statistics == 2 * 3 * queries * 4 * 4 // 4
    assert planned.total == planned.exchanged + planned.statistics + planned.dense
