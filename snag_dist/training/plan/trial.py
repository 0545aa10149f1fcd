"""A real stepper on made-up rows: the network, table, sampler and engine of a recipe, without its data.

Calibration times its steps in a group of one; what a worker holds is measured on it, in groups of any size.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from snag_dist.kg.truth import TruthIndex
from snag_dist.method.choices import CompletionMethod
from snag_dist.objective.all_entities import AllEntitiesConfig
from snag_dist.random import Moment
from snag_dist.shard.exchange import Exchange
from snag_dist.shard.group import Group
from snag_dist.shard.initial_rows import InitialRows
from snag_dist.shard.neighbours import OwnedEdges
from snag_dist.shard.partition import Partition
from snag_dist.shard.table import EntityTable
from snag_dist.task.alignment import AlignmentTask, assemble_pairs
from snag_dist.task.completion import CompletionTask, assemble
from snag_dist.training.alignment import DistributedAlignment
from snag_dist.training.all_entities import DistributedAllEntities
from snag_dist.training.batches import MemoryTriples
from snag_dist.training.completion import DistributedCompletion
from snag_dist.training.engine import DTYPES
from snag_dist.training.plan.memory import build_task
from snag_dist.training.plan.sizes import GraphSizes
from snag_dist.training.recipe import Recipe
from snag_dist.training.second_player import SecondPlayer
from snag_dist.training.step import Batch, Stepper, Stopwatch

Ids = NDArray[np.int64]

# Different vectors of a made-up modality.
_VECTORS = 1024


class MadeUpFeatures:
    """Raw vectors of no meaning, all present, in the place of the mapped ones."""

    def __init__(self, width: int):
        self._vectors = np.random.default_rng(0).standard_normal((_VECTORS, width), dtype=np.float32)

    def gather(self, rows: Ids) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """See `FeatureRows.gather`."""
        return self._vectors[rows % _VECTORS], np.ones(len(rows), dtype=np.bool_)


@dataclass(frozen=True)
class Trial:
    """A worker that trains on a random graph.

    Attributes:
        group: the workers.
        task: network of the recipe.
        stepper: its engine and table.
        features: by modality.
        partition: of the rows over the workers.
        batches: slices and their moments, each with the one after it, without end.
        triples: (T, 3) of the random graph.
        truth: known-true index of completion.
        edges: of alignment.
    """

    group: Group
    task: CompletionTask | AlignmentTask
    stepper: Stepper
    features: dict[str, Any]
    partition: Partition
    batches: Iterator[tuple[tuple[Batch, Moment], tuple[Batch, Moment]]]
    triples: Ids
    truth: TruthIndex | None
    edges: OwnedEdges | None

    @classmethod
    def build(
        cls, recipe: Recipe, sizes: GraphSizes, *, batch_size: int, scratch: Path, group: Group | None = None
    ) -> Self:
        """Set up a trial; the process group must be up.

        Args:
            recipe: of the run.
            sizes: of the random graph.
            batch_size: of a step, over all workers.
            scratch: for mapped rows.
            group: the workers; unset: this one alone, on the device of the recipe.
        """
        group = group or Group(device=torch.device("cuda" if recipe.cluster.use_gpu else "cpu"))
        task = build_task(recipe, sizes)
        partition = Partition(sizes.num_entities, sizes.virtual_shards, group.size)
        draw = np.random.default_rng(recipe.seed)
        limits = (sizes.num_entities, sizes.num_relations, sizes.num_entities)
        triples = np.stack([draw.integers(0, limit, sizes.num_triples) for limit in limits], axis=1)
        features = {name: MadeUpFeatures(size.width) for name, size in sizes.modalities.items()}
        dtype = DTYPES[recipe.train.engine.precision]
        start = (
            InitialRows("normal", task.row_std)
            if isinstance(task, AlignmentTask)
            else InitialRows("uniform", task.scorer.entity_bound)
        )
        table = EntityTable(
            recipe.table,
            partition,
            group,
            width=recipe.method.encoder.width,
            start=start,
            seed=recipe.seed,
            dtype=torch.promote_types(dtype, torch.float32),
            scratch=scratch,
        )
        exchange, stopwatch = Exchange(group, partition), Stopwatch(group.device)
        truth, edges = None, None
        if isinstance(task, AlignmentTask):
            edges = OwnedEdges.build(triples, sizes.num_entities, *partition.rows(group.rank))
            module: Any = DistributedAlignment(task, edges, exchange, stopwatch, recipe.train.fanout)
            batches = _pairs(sizes, batch_size, recipe.seed, group)
        else:
            method = recipe.method
            assert isinstance(method, CompletionMethod)
            truth = TruthIndex.build(triples, sizes.num_entities, sizes.num_relations)
            adversary = method.build_adversary(sizes.facts, recipe.seed)
            opponent = None if adversary is None else SecondPlayer(adversary, group, dtype)
            module = (
                DistributedAllEntities(task, method.loss, table, features, partition, group, stopwatch)  # pyright: ignore[reportArgumentType]
                if isinstance(method.loss, AllEntitiesConfig)
                else DistributedCompletion(task, exchange, stopwatch, opponent)
            )
            batches = _corrupted(method.build_sampler(truth), MemoryTriples(triples, batch_size, group, recipe.seed))
        stepper = Stepper(
            module,
            table,
            features,  # pyright: ignore[reportArgumentType]
            group,
            recipe.train.engine,
            clip_norm=recipe.train.clip_norm,
            micro_batch=-(-batch_size // group.size),
        )
        return cls(group, task, stepper, features, partition, pairwise(batches), triples, truth, edges)

    def step(self) -> None:
        """Take one step, with the next one announced, as training does."""
        (batch, moment), following = next(self.batches)
        self.stepper.step(batch, moment, 1e-4, following=following)


def _corrupted(sampler: Any, source: MemoryTriples) -> Iterator[tuple[Batch, Moment]]:
    step = 0
    while True:
        for part in source.epoch(0, 0):
            moment = Moment(0, 0, step)
            yield assemble(sampler.draw(part.positives, part.first, moment), part.global_triples), moment
            step += 1


def _pairs(sizes: GraphSizes, batch_size: int, seed: int, group: Group) -> Iterator[tuple[Batch, Moment]]:
    draw, half, step = np.random.default_rng(seed), sizes.num_entities // 2, 0
    while True:
        left = draw.permutation(half)[:batch_size]
        first, stop = (len(left) * rank // group.size for rank in (group.rank, group.rank + 1))
        yield assemble_pairs(np.stack([left, half + left], axis=1), first, stop), Moment(0, 0, step)
        step += 1
