"""A whole run on a random graph: the real loop, stepper, table and checkpoints, without Ray and without a store."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from snag_dist.kg.truth import TruthIndex
from snag_dist.method.facts import GraphFacts
from snag_dist.method.snag import SnagConfig
from snag_dist.model.encoder import EncoderConfig, ModalityFacts
from snag_dist.model.features import ColumnStatistics
from snag_dist.random import Moment
from snag_dist.sampling.negatives import SharedConfig
from snag_dist.shard.exchange import Exchange
from snag_dist.shard.group import Group
from snag_dist.shard.partition import Partition
from snag_dist.shard.table import EntityTable, InitialRows, LazyAdamConfig
from snag_dist.store.gather import FeatureRows
from snag_dist.task.completion import assemble
from snag_dist.training.assignment import Assignment, Drawn, Stage
from snag_dist.training.batches import MemoryTriples
from snag_dist.training.boundary import Boundary, Notices
from snag_dist.training.checkpoint import Checkpoints
from snag_dist.training.completion import DistributedCompletion
from snag_dist.training.cursor import Cursor
from snag_dist.training.engine import EngineConfig
from snag_dist.training.loop import Loop
from snag_dist.training.recipe import Recipe, TrainConfig
from snag_dist.training.run_folder import RunFolder
from snag_dist.training.step import Stepper, Stopwatch
from snag_dist.training.telemetry import Telemetry

RECIPE = Recipe.model_validate({"name": "small", "store": "nowhere", "ingest": {"source": {"kind": "world"}}})
NUM_ENTITIES, NUM_RELATIONS, WIDTH, BATCH = 60, 3, 8, 40
EPOCHS, STEPS_PER_EPOCH = 3, 5
NUM_STEPS = EPOCHS * STEPS_PER_EPOCH


class RandomGraph(Assignment):
    """Completion of a random graph. What selects is how large the rows have grown: it grows for a while, then ends."""

    unit = "triples"

    def __init__(self, group: Group, features: Mapping[str, FeatureRows]):
        draw = np.random.default_rng(0)
        columns = [draw.integers(0, limit, 400) for limit in (NUM_ENTITIES, NUM_RELATIONS, NUM_ENTITIES)]
        triples = np.unique(np.stack(columns, axis=1), axis=0)[: BATCH * STEPS_PER_EPOCH - 7]
        config = SnagConfig(encoder=EncoderConfig(width=WIDTH), negatives=SharedConfig(num=8, chunk=20))
        modalities = {
            name: ModalityFacts(
                rows.width, ColumnStatistics(torch.from_numpy(rows.mean).float(), torch.from_numpy(rows.std).float())
            )
            for name, rows in features.items()
        }
        task = config.build_completion(GraphFacts(NUM_ENTITIES, NUM_RELATIONS, modalities), seed=1)
        self.partition = Partition(NUM_ENTITIES, 4, group.size)
        self.stages = (Stage("plain", EPOCHS),)
        self.table = EntityTable(
            LazyAdamConfig(), self.partition, group, width=WIDTH, start=InitialRows("uniform", 0.5), seed=1
        )
        self.module = DistributedCompletion(task, Exchange(group, self.partition), Stopwatch(group.device))
        self._group = group
        self._source = MemoryTriples(triples, BATCH, group, seed=1)
        self._sampler = config.build_sampler(TruthIndex.build(triples, NUM_ENTITIES, NUM_RELATIONS))

    def steps_in_epoch(self) -> int:
        return self._source.steps_per_epoch

    def batches(self, cursor: Cursor) -> Iterator[tuple[Drawn, Moment]]:
        for number, part in enumerate(self._source.epoch(cursor.epoch, cursor.epoch_step)):
            moment = Moment(1, cursor.epoch, cursor.step + number)
            batch = assemble(self._sampler.draw(part.positives, part.first, moment), part.global_triples)
            yield Drawn(batch, part.global_triples), moment

    def dev_metrics(self) -> dict[str, float]:
        return {"mrr": float(self._group.sum(self.table.rows.double().abs().sum()))}

    def score_split(self, split: str, cursor: Cursor, stage: Stage) -> dict[str, Any]:
        raise AssertionError("no split is scored here")


class SmallRun:
    """A worker's part of a run in a folder; made anew, it is what starts after an interruption."""

    def __init__(
        self,
        folder: Path,
        group: Group,
        notices: Notices | None = None,
        features: Mapping[str, FeatureRows] | None = None,
        *,
        max_seconds: float | None = None,
        **train: Any,
    ):
        self.folder = RunFolder(folder)
        self.rank = group.rank
        features = features or {}
        self.assignment = RandomGraph(group, features)
        self.config = TrainConfig.model_validate(
            {"epochs": EPOCHS, "batch_size": BATCH, "lr": 1e-2, "evaluate_every": 2, "log_every": 1, **train}
        )
        self.stepper = Stepper(
            self.assignment.module,
            self.assignment.table,
            features,
            group,
            EngineConfig(),
            clip_norm=0.5,
            micro_batch=BATCH,
        )
        self.checkpoints = Checkpoints(
            self.folder.checkpoints,
            self.assignment.partition,
            group,
            "f" * 64,
            self.config.checkpoint,
            warn=self.folder.add_warning,
            claim=None if notices is None else notices.claim,
        )
        self.loop = Loop(
            self.config,
            self.assignment,
            self.stepper,
            self.checkpoints,
            Telemetry(self.folder, group, RECIPE),
            Boundary(self.config.checkpoint, group, notices or Notices(), max_seconds=max_seconds),
            lambda _metrics: None,
        )

    def train(self) -> "SmallRun":
        self.end = self.loop.run()
        self.loop.telemetry.close()
        return self

    def tensors(self) -> dict[str, torch.Tensor]:
        """All that was trained: rows, their optimiser, dense parameters and theirs."""
        table = self.assignment.table
        shards = [table.shard_state(shard) for shard in self.assignment.partition.shards(self.rank)]
        columns = {name: torch.cat([shard[name] for shard in shards]) for name in shards[0]}
        return {**columns, **self.stepper.engine.state()}

    def losses(self) -> dict[int, float]:
        """Loss by step, of the last time that each was taken."""
        lines = [json.loads(line) for line in self.folder.log.read_text().splitlines()]
        return {line["step"]: line["loss"] for line in lines if "loss" in line}


def stop_after(steps: int) -> Notices:
    """Notices of a run that is asked to stop during its step number `steps`, from 1."""
    asked = iter(range(1, 1 << 30))
    return Notices(stop_requested=lambda: next(asked) >= steps)


def same(left: SmallRun, right: SmallRun) -> bool:
    """Whether two runs have trained the same, bit for bit."""
    ours, theirs = left.tensors(), right.tensors()
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())
