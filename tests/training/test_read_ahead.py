"""Rows on disk, read for the next step while this one computes, against rows in memory: the same training."""

import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import run_distributed
from torch import Tensor

from snag_dist.kg.truth import TruthIndex
from snag_dist.method.facts import GraphFacts
from snag_dist.method.snag import SnagConfig
from snag_dist.model.encoder import EncoderConfig
from snag_dist.model.fusion import GraphFusionConfig
from snag_dist.random import Moment
from snag_dist.sampling.negatives import SharedConfig
from snag_dist.shard.exchange import Exchange, Meetings
from snag_dist.shard.group import Group
from snag_dist.shard.initial_rows import InitialRows
from snag_dist.shard.partition import Partition
from snag_dist.shard.placement import Placement
from snag_dist.shard.row_optimizers import LazyAdamConfig
from snag_dist.shard.table import EntityTable
from snag_dist.task.completion import CompletionBatch, assemble
from snag_dist.training.batches import MemoryTriples
from snag_dist.training.completion import DistributedCompletion, RoutePlan
from snag_dist.training.engine import EngineConfig
from snag_dist.training.step import Stepper, Stopwatch

NUM_ENTITIES, NUM_RELATIONS, WIDTH, STEPS = 400, 5, 16, 12


@dataclass
class Seen:
    """What a training of some steps did.

    Attributes:
        losses: by step.
        rows: that this worker owns, at the end.
        planned: times that a step was planned.
        calls: of the table in their order, "prefetch" or "lookup" and the row ids.
    """

    losses: np.ndarray
    rows: np.ndarray
    planned: int
    calls: list[tuple[str, list[int]]]


class _Watched(EntityTable):
    """A table that keeps what it was asked for."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.calls: list[tuple[str, list[int]]] = []

    def prefetch(self, ids: Tensor) -> None:
        """Keep, and begin to read."""
        self.calls.append(("prefetch", ids.tolist()))
        super().prefetch(ids)

    def lookup(self, ids: Tensor) -> Tensor:
        """Keep, and read."""
        self.calls.append(("lookup", ids.tolist()))
        return super().lookup(ids)


def train(group: Group, placement: Placement, told: bool = True) -> Seen:
    """Take some steps, each `told` of the one that follows."""
    draw = np.random.default_rng(0)
    columns = [draw.integers(0, limit, 900) for limit in (NUM_ENTITIES, NUM_RELATIONS, NUM_ENTITIES)]
    triples = np.stack(columns, axis=1)
    config = SnagConfig(
        encoder=EncoderConfig(width=WIDTH, fusion=GraphFusionConfig()), negatives=SharedConfig(num=24, chunk=20)
    )
    task = config.build_completion(GraphFacts(NUM_ENTITIES, NUM_RELATIONS, {}), seed=1)
    partition = Partition(NUM_ENTITIES, 8, group.size)
    with tempfile.TemporaryDirectory() as scratch:
        table = _Watched(
            LazyAdamConfig(placement=placement),
            partition,
            group,
            width=WIDTH,
            start=InitialRows("uniform", task.scorer.entity_bound),
            seed=1,
            scratch=Path(scratch),
        )
        module = _Counting(task, Exchange(group, partition), Stopwatch(group.device))
        stepper = Stepper(module, table, {}, group, EngineConfig(), clip_norm=0.5, micro_batch=32)
        sampler = config.build_sampler(TruthIndex.build(triples, NUM_ENTITIES, NUM_RELATIONS))
        parts = list(MemoryTriples(triples, 50, group, seed=1).epoch(0, 0))[:STEPS]
        moments = [Moment(1, 0, step) for step in range(STEPS)]
        batches = [
            (assemble(sampler.draw(part.positives, part.first, moment), part.global_triples), moment)
            for part, moment in zip(parts, moments, strict=True)
        ]
        stepper.begin_epoch()
        losses = [
            stepper.step(*batch, 0.01, following=following if told else None).loss
            for batch, following in zip(batches, [*batches[1:], None], strict=True)
        ]
        return Seen(np.array(losses), table.rows.clone().numpy(), module.planned, table.calls)


class _Counting(DistributedCompletion):
    planned = 0

    def meet(self, batch: CompletionBatch, moment: Moment) -> Meetings[RoutePlan]:
        """Count."""
        self.planned += 1
        return super().meet(batch, moment)


@pytest.mark.distributed
@pytest.mark.parametrize("size", [1, 2])
def test_rows_on_disk_train_to_the_same_bits(size: int) -> None:
    memory, disk = (run_distributed(train, size, placement) for placement in ("device", "disk"))
    for one, two in zip(memory, disk, strict=True):
        assert np.array_equal(one.losses, two.losses)
        assert np.array_equal(one.rows, two.rows)
        # Read ahead or not, every step is planned once.
        assert one.planned == two.planned == STEPS


@pytest.mark.distributed
def test_a_step_planned_while_another_computes_is_the_same() -> None:
    ahead, alone = (run_distributed(train, 2, "device", told) for told in (True, False))
    for one, two in zip(ahead, alone, strict=True):
        assert np.array_equal(one.losses, two.losses)
        assert np.array_equal(one.rows, two.rows)
        assert one.planned == two.planned == STEPS


@pytest.mark.distributed
@pytest.mark.parametrize("size", [1, 2])
def test_the_rows_of_the_next_step_are_read_ahead(size: int) -> None:
    for seen in run_distributed(train, size, "disk"):
        looked_up = [ids for name, ids in seen.calls if name == "lookup"]
        assert len(looked_up) == STEPS
        assert all(one != two for one, two in pairwise(looked_up))
        # While a step computes, after its own rows were read, exactly those that the next one will ask for.
        wanted = [("lookup", looked_up[0])]
        for ids in looked_up[1:]:
            wanted += [("prefetch", ids), ("lookup", ids)]
        assert seen.calls == wanted


@pytest.mark.distributed
def test_rows_in_memory_are_not_read_ahead() -> None:
    (seen,) = run_distributed(train, 1, "host")
    assert {name for name, _ in seen.calls} == {"lookup"}
