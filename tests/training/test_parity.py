"""The promise of the design: the same training at any number of workers, and bit for bit at the same number."""

from typing import Any

import numpy as np
import pytest
import torch
from distributed import run_distributed

from snag_dist.kg.truth import TruthIndex
from snag_dist.method.facts import GraphFacts
from snag_dist.method.snag import SnagConfig
from snag_dist.model.encoder import EncoderConfig, ModalityFacts
from snag_dist.model.features import ColumnStatistics
from snag_dist.objective.all_entities import AllEntitiesConfig
from snag_dist.random import Moment
from snag_dist.sampling.negatives import PerTripleConfig, SharedConfig
from snag_dist.shard.exchange import Exchange
from snag_dist.shard.group import Group
from snag_dist.shard.partition import Partition
from snag_dist.shard.table import AdamConfig, EntityTable, InitialRows, LazyAdamConfig, RowwiseAdagradConfig
from snag_dist.task.completion import assemble
from snag_dist.training.all_entities import DistributedAllEntities
from snag_dist.training.batches import MemoryTriples
from snag_dist.training.completion import DistributedCompletion
from snag_dist.training.engine import DTYPES, EngineConfig
from snag_dist.training.step import Stepper, Stopwatch

NUM_ENTITIES, NUM_RELATIONS, WIDTH = 150, 5, 16
pytestmark = pytest.mark.distributed


class ArrayFeatures:
    """Feature rows from an array, in the place of the mapped ones."""

    def __init__(self, vectors: np.ndarray, present: np.ndarray):
        self._vectors, self._present = vectors, present

    def gather(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._vectors[rows], self._present[rows]


def train(group: Group, steps: int, options: dict[str, Any]) -> dict[str, Any]:
    """Train on a random graph; return losses by step, the rows this worker owns, and the dense weights."""
    draw = np.random.default_rng(0)
    columns = [draw.integers(0, limit, 700) for limit in (NUM_ENTITIES, NUM_RELATIONS, NUM_ENTITIES)]
    triples = np.unique(np.stack(columns, axis=1), axis=0)
    vectors = draw.standard_normal((NUM_ENTITIES, 6)).astype(np.float32)
    features: Any = {"text": ArrayFeatures(vectors, draw.random(NUM_ENTITIES) < 0.8)}
    statistics = ColumnStatistics(torch.from_numpy(vectors.mean(0)), torch.from_numpy(vectors.std(0)))
    engine = EngineConfig(**options.get("engine", {}))
    config = SnagConfig(encoder=EncoderConfig(width=WIDTH), negatives=options["negatives"], **options.get("method", {}))
    facts = GraphFacts(NUM_ENTITIES, NUM_RELATIONS, {"text": ModalityFacts(6, statistics)})
    task = config.build_completion(facts, seed=1)
    partition = Partition(NUM_ENTITIES, 8, group.size)
    dtype = DTYPES[engine.precision]
    table = EntityTable(
        options["table"],
        partition,
        group,
        width=WIDTH,
        start=InitialRows("uniform", task.scorer.entity_bound),
        seed=1,
        dtype=dtype,
    )
    if isinstance(config.loss, AllEntitiesConfig):
        module: Any = DistributedAllEntities(
            task, config.loss, table, features, partition, group, Stopwatch(group.device)
        )
    else:
        module = DistributedCompletion(task, Exchange(group, partition), Stopwatch(group.device))
    stepper = Stepper(module, table, features, group, engine, clip_norm=options["clip"], micro_batch=64)
    sampler = config.build_sampler(TruthIndex.build(triples, NUM_ENTITIES, NUM_RELATIONS))
    # 50 does not divide the triples: the last batch of an epoch is short, and slices of workers differ in size.
    source = MemoryTriples(triples, 50, group, seed=1)
    losses: list[float] = []
    for epoch in range(1 + steps // source.steps_per_epoch):
        stepper.begin_epoch()
        for part in source.epoch(epoch, 0):
            if len(losses) == steps:
                break
            moment = Moment(1, epoch, len(losses))
            batch = assemble(sampler.draw(part.positives, part.first, moment), part.global_triples)
            losses.append(stepper.step(batch, moment, 0.01).loss)
    weights = {name: value.numpy() for name, value in stepper.engine.state().items()}
    return {"losses": np.array(losses), "rows": table.rows.numpy(), "weights": weights}


def options(**changes: Any) -> dict[str, Any]:
    return {"negatives": SharedConfig(num=24, chunk=20), "table": LazyAdamConfig(), "clip": 0.5, **changes}


CASES = {
    "shared": options(),
    "both sides": options(negatives=SharedConfig(num=24, chunk=50, sides="both"), clip=0.0),
    "per triple": options(negatives=PerTripleConfig(num=8), table=AdamConfig(), clip=0.0),
    "adagrad": options(table=RowwiseAdagradConfig(lr_scale=1.0)),
}
FLOAT64 = {"engine": {"precision": "float64"}}


@pytest.mark.parametrize(
    ("case", "sizes"), [("shared", (2, 4)), ("per triple", (2, 4)), ("both sides", (2,)), ("adagrad", (2,))]
)
def test_losses_and_rows_agree_at_any_number_of_workers(case: str, sizes: tuple[int, ...]) -> None:
    runs = {size: run_distributed(train, size, 100, {**CASES[case], **FLOAT64}) for size in (1, *sizes)}
    alone = runs[1][0]
    for size in sizes:
        for worker in runs[size]:
            np.testing.assert_allclose(worker["losses"], alone["losses"], rtol=1e-5)
        rows = np.concatenate([worker["rows"] for worker in runs[size]])
        np.testing.assert_allclose(rows, alone["rows"], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("zero_stage", [0, 1, 2])
def test_float32_agrees_over_the_first_steps(zero_stage: int) -> None:
    case = options(engine={"zero_stage": zero_stage})
    alone, pair = (run_distributed(train, size, 15, case)[0]["losses"] for size in (1, 2))
    np.testing.assert_allclose(pair, alone, rtol=1e-5)


@pytest.mark.parametrize("size", [1, 2])
def test_same_workers_same_bits(size: int) -> None:
    first, second = (run_distributed(train, size, 40, options()) for _ in range(2))
    for one, two in zip(first, second, strict=True):
        assert np.array_equal(one["losses"], two["losses"])
        assert np.array_equal(one["rows"], two["rows"])
        assert all(np.array_equal(one["weights"][name], two["weights"][name]) for name in one["weights"])


def test_training_learns() -> None:
    losses = run_distributed(train, 1, 100, options(clip=0.0))[0]["losses"]
    assert losses[-10:].mean() < 0.75 * losses[:5].mean()
