"""What one worker does: a function of (recipe, context).

In production the context comes from Ray Train; a test or a benchmark fills it in a few lines. Loop, engine, table and
exchange are the same either way.
"""

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from snag_dist.errors import CheckpointError, ConfigError, DataError
from snag_dist.shard.group import Group
from snag_dist.shard.partition import Partition
from snag_dist.store.gather import FeatureRows
from snag_dist.store.opened import Store, open_store
from snag_dist.store.stream import StreamPlan
from snag_dist.store.verification import verify_read_files
from snag_dist.training.alignment import AlignmentAssignment
from snag_dist.training.assignment import Assignment, Stage, Workplace
from snag_dist.training.boundary import Boundary, Notices
from snag_dist.training.checkpoint import Checkpoints, best_of
from snag_dist.training.completion import CompletionAssignment
from snag_dist.training.graph import open_graph
from snag_dist.training.loop import Loop, why_ended
from snag_dist.training.recipe import NEW, Recipe
from snag_dist.training.run_folder import RunFolder
from snag_dist.training.step import Stepper
from snag_dist.training.telemetry import Telemetry

logger = logging.getLogger("snag_dist")

Ids = NDArray[np.int64]

_ASSIGNMENTS: dict[str, Callable[[Workplace], Assignment]] = {
    "completion": CompletionAssignment,
    "alignment": AlignmentAssignment,
}


@dataclass(frozen=True)
class WorkerContext:
    """The world of a worker.

    Attributes:
        group: its place among the workers; the process group is up.
        triples: the (T, 3) training triples, where they are in memory.
        stream: where they are not, this worker's slices (b, 3) from the step the run goes on with, and how they were
            cut.
        report: tells the controller how the run stands; a barrier.
        threads: of this worker's arithmetic.
        notices: where it hears that it must not go on.
    """

    group: Group
    report: Callable[[dict[str, Any]], None]
    triples: Ids | None = None
    stream: tuple[Iterator[Ids], StreamPlan] | None = None
    threads: int = 1
    notices: Notices = field(default_factory=Notices)


class Worker:
    """One worker's part of a run: builds everything from the recipe, trains, scores."""

    def __init__(self, recipe: Recipe, context: WorkerContext):
        torch.set_num_threads(context.threads)
        self.recipe = recipe
        self._context = context
        self._group = context.group
        self._folder = RunFolder(recipe.run_path)
        store = open_graph(recipe, make=False)
        check_store(store, self._folder)
        self.store = store
        self.partition = Partition(store.num_entities, store.virtual_shards, self._group.size)
        self.features = open_features(recipe, store, self.partition.rows(self._group.rank))
        if recipe.train.verify_store:
            self._verify_store()
        self.assignment = _ASSIGNMENTS[recipe.task](
            Workplace(
                recipe,
                store,
                self._folder,
                self.partition,
                self._group,
                self.features,
                context.triples,
                context.stream,
                context.notices.claim,
            )
        )
        self.stepper = Stepper(
            self.assignment.module,
            self.assignment.table,
            self.features,
            self._group,
            recipe.train.engine,
            clip_norm=recipe.train.clip_norm,
            micro_batch=-(-recipe.train.batch_size // self._group.size),
        )
        self.checkpoints = Checkpoints(
            self._folder.checkpoints,
            self.partition,
            self._group,
            store.fingerprint,
            recipe.train.checkpoint,
            warn=self._warn,
            claim=context.notices.claim,
        )

    def _verify_store(self) -> None:
        """Refuse a store that was changed; every worker hashes its own shards, a node's first what all read.

        A collective.

        Raises:
            DataError: naming the file, on every worker.
        """
        # Ray Train sets it; where nobody does, workers hash what they share more than once.
        is_first = self._group.size == 1 or int(os.environ.get("LOCAL_RANK", "0")) == 0
        shards = self.partition.shards(self._group.rank)
        failure: DataError | None = None
        try:
            # New entities are read of the whole store, whose shards are as many.
            stores = [self.store, *([open_store(self.recipe.store)] if self.recipe.ranks_new else [])]
            for store in stores:
                verify_read_files(store, self.recipe.used_modalities, self.recipe.missing, shards, shared=is_first)
        except DataError as error:
            failure = error
        failure = next((one for one in self._group.gather_objects(failure) if one is not None), None)
        if failure is not None:
            raise failure

    def _require_claim(self) -> None:
        """Go no further where another driver has begun with the run, before anything of its folder is changed.

        A collective.

        Raises:
            TakenOver: on every worker.
        """
        claim = self._context.notices.claim
        if claim is not None and self._group.broadcast_object(not claim.is_held() if self._group.rank == 0 else None):
            raise claim.loss()

    def _warn(self, text: str) -> None:
        logger.warning(text)
        self._folder.add_warning(text)

    def _hear_preemption(self) -> bool:
        """Ask whether a node will be taken back, and keep the answer with the run. A collective."""
        assert self._context.notices.preempted is not None
        heard = self._context.notices.preempted()
        if heard and self._group.rank == 0:
            self._folder.write_status(notice=True)
            self._warn("a node of the workers will be taken back: a checkpoint at this step")
        return heard

    def _note_start(self) -> None:
        """Keep with the run what is another than before: the number of workers, and a node that was taken back."""
        if self._group.rank:
            return
        status = self._folder.read_status()
        if status.get("notice"):
            # Ray starts all workers anew when the node's time is up, which is no failure of a worker.
            self._folder.count_restart("a node was taken back")
        size, before = self._group.size, status.get("num_workers")
        if before not in (None, size):
            self._warn(f"the run goes on with {size} worker(s) instead of {before}, from the last checkpoint")
        self._folder.write_status(num_workers=size)

    def train(self, *, score_test: bool = True) -> dict[str, Any] | None:
        """Train, select on dev, and score the test split once, with the best checkpoint of each stage. A collective.

        Args:
            score_test: False ends after training; the test split is not read.

        Returns:
            The evaluation report of the test split, as a plain tree; the same on every worker. Without `score_test`
            the epochs and the best dev MRR. None if the run was asked to stop: it has a checkpoint, and goes on from
            there.

        Raises:
            TakenOver: another driver has begun with the run.
        """
        self._require_claim()
        assignment = self.assignment
        telemetry = Telemetry(self._folder, self._group, self.recipe, assignment.num_candidates)
        notices = self._context.notices
        if notices.preempted is not None:
            notices = replace(notices, preempted=self._hear_preemption)
        config = self.recipe.train
        max_seconds = None if config.max_minutes is None else 60.0 * config.max_minutes
        boundary = Boundary(config.checkpoint, self._group, notices, max_seconds=max_seconds)
        loop = Loop(config, assignment, self.stepper, self.checkpoints, telemetry, boundary, self._context.report)
        self._note_start()
        try:
            end = loop.run()
        finally:
            telemetry.close()
        self._require_claim()
        if loop.interrupted:
            if self._group.rank == 0:
                self._folder.write_status(state="interrupted", epochs=end.epoch, steps=end.step)
            return None
        told = {
            "epochs": end.epoch,
            "steps": end.step,
            "best_step": end.best_step,
            "ended_by": why_ended(end, assignment.stages[-1].epochs, config),
        }
        if not score_test:
            if self._group.rank == 0:
                self._folder.write_status(state="trained", **told)
            return {"epoch": end.epoch, "step": end.step, "best_dev_mrr": end.best_mrr}
        for stage in assignment.stages[:-1]:
            self._score(best_of(stage.name), "test", stage)
        report = self._score("BEST", "test", assignment.stages[-1])
        if self.recipe.ranks_new:
            self._score("BEST", NEW, assignment.stages[-1])
        self._require_claim()
        if self._group.rank == 0:
            self._folder.write_status(state="finished", **told)
        return report

    def evaluate(self, split: str) -> dict[str, Any]:
        """Rank a split with the best checkpoint, write its ranks, and return the report. A collective.

        Raises:
            CheckpointError: the run has no checkpoint yet.
        """
        return self._score("BEST", split, self.assignment.stages[-1])

    def _score(self, pointer: str, split: str, stage: Stage) -> dict[str, Any]:
        self._require_claim()
        cursor = self.checkpoints.load(pointer, self.stepper, self.assignment)
        if cursor is None:
            raise CheckpointError(
                f"{self._folder.checkpoints}: expected a best checkpoint, found none; train the run to its first "
                "evaluation (train.evaluate_every epochs)"
            )
        return self.assignment.score_split(split, cursor, stage)


def check_store(store: Store, folder: RunFolder) -> None:
    """Refuse a store that is not the one the run began with.

    Raises:
        CheckpointError: fingerprints differ.
    """
    begun_on = folder.read_status().get("store_fingerprint")
    if begun_on is not None and begun_on != store.fingerprint:
        raise CheckpointError(
            f"{store.path}: store fingerprint {store.fingerprint[:12]} differs from {begun_on[:12]} that run "
            f"{folder.path} began on; pass the store of the run, or start a run under another name"
        )


def open_features(recipe: Recipe, store: Store, rows: tuple[int, int]) -> dict[str, FeatureRows]:
    """Map the features of a range of rows that a recipe uses.

    Raises:
        ConfigError: a modality that some entities shall lose is not used.
        DataError: the store lacks a modality, or a feature table belongs to another store.
    """
    modalities = recipe.used_modalities
    missing = sorted(set(modalities) - set(store.modalities()))
    if missing:
        raise DataError(
            f"{store.path}: modality {missing[0]!r} is not in the store (it has: "
            f"{', '.join(store.modalities()) or 'none'}); extract it, or leave it out of `modalities`"
        )
    unused = sorted(set(recipe.missing) - set(modalities))
    if unused:
        raise ConfigError(
            f"missing.{unused[0]}: expected a modality that the run uses ({', '.join(modalities) or 'none'}); "
            "remove it, or add the modality to `modalities`"
        )
    return {name: FeatureRows.open(store, name, *rows, missing=recipe.missing.get(name)) for name in modalities}


def share_threads(requested: int, workers_on_node: int) -> int:
    """Threads of one worker: as asked, or an equal share of the node's CPUs."""
    return requested or max(1, (os.cpu_count() or 1) // max(1, workers_on_node))
