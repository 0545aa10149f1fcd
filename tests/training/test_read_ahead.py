"""Rows on disk, read for the next step while this one computes, against rows in memory: the same training."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from distributed import run_distributed

from snag_dist.kg.truth import TruthIndex
from snag_dist.method.facts import GraphFacts
from snag_dist.method.snag import SnagConfig
from snag_dist.model.encoder import EncoderConfig
from snag_dist.model.fusion import GraphFusionConfig
from snag_dist.random import Moment
from snag_dist.sampling.negatives import SharedConfig
from snag_dist.shard.exchange import Exchange
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


def train(group: Group, placement: Placement) -> tuple[np.ndarray, np.ndarray, int]:
    """Take some steps; return losses, own rows, and how often a step was planned."""
    draw = np.random.default_rng(0)
    columns = [draw.integers(0, limit, 900) for limit in (NUM_ENTITIES, NUM_RELATIONS, NUM_ENTITIES)]
    triples = np.stack(columns, axis=1)
    config = SnagConfig(
        encoder=EncoderConfig(width=WIDTH, fusion=GraphFusionConfig()), negatives=SharedConfig(num=24, chunk=20)
    )
    task = config.build_completion(GraphFacts(NUM_ENTITIES, NUM_RELATIONS, {}), seed=1)
    partition = Partition(NUM_ENTITIES, 8, group.size)
    with tempfile.TemporaryDirectory() as scratch:
        table = EntityTable(
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
            stepper.step(*batch, 0.01, following=following).loss
            for batch, following in zip(batches, [*batches[1:], None], strict=True)
        ]
        return np.array(losses), table.rows.clone().numpy(), module.planned


class _Counting(DistributedCompletion):
    planned = 0

    def plan(self, batch: CompletionBatch, moment: Moment) -> RoutePlan:
        """Count."""
        self.planned += 1
        return super().plan(batch, moment)


@pytest.mark.distributed
@pytest.mark.parametrize("size", [1, 2])
def test_rows_on_disk_train_to_the_same_bits(size: int) -> None:
    memory, disk = (run_distributed(train, size, placement) for placement in ("device", "disk"))
    for one, two in zip(memory, disk, strict=True):
        assert np.array_equal(one[0], two[0])
        assert np.array_equal(one[1], two[1])
        # Read ahead or not, every step is planned once.
        assert one[2] == two[2] == STEPS
