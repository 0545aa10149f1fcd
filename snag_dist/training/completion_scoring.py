"""Codes of all entities, and the exact ranks of a split under them.

Selection never sees the test split: dev ranks are filtered by train and dev triples only, and workers read the test
triples for the first time when the best checkpoint is scored. Dev and test triples are held; so are training triples,
unless they are streamed: known-true indexes are mapped then, see `snag_dist.training.known_true`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snag_dist.evaluation.rank_files import RankFolder
from snag_dist.evaluation.report import Protocol, describe_channels, evaluate_ranks
from snag_dist.evaluation.slices import EntityFacts
from snag_dist.kg.truth import TruthIndex
from snag_dist.model.features import EntityInputs
from snag_dist.model.fusion import Fused
from snag_dist.random import Stream
from snag_dist.ranking.metrics import RankMetrics
from snag_dist.ranking.questions import Questions
from snag_dist.ranking.ranks import RankTable
from snag_dist.shard.first_pass import find_rounding
from snag_dist.shard.group import Group
from snag_dist.shard.partition import Partition
from snag_dist.shard.ranking import OnBlock, rank_triples
from snag_dist.shard.table import EntityTable
from snag_dist.store.gather import FeatureRows
from snag_dist.store.holdout import NewEntities
from snag_dist.store.opened import Store, open_store
from snag_dist.task.completion import CompletionTask
from snag_dist.training.checkpoint import Cursor
from snag_dist.training.encoded import Encoded, mark_present
from snag_dist.training.engine import DTYPES
from snag_dist.training.known_true import filled_splits, index_new, index_splits
from snag_dist.training.recipe import NEW, Recipe
from snag_dist.training.run_folder import RunFolder
from snag_dist.training.step import gather_features

Ids = NDArray[np.int64]

# Rows encoded at a time at most. Blocks follow virtual shards, so a block, and with it every code, is the same bit for
# bit at any number of workers.
_BLOCK = 4096


@torch.no_grad()
def encode_owned(
    task: CompletionTask,
    table: EntityTable,
    features: Mapping[str, FeatureRows],
    partition: Partition,
    rank: int,
    dtype: torch.dtype,
) -> Encoded:
    """Encode every entity this worker owns, without noise and dropout.

    Returns:
        Them in the order of the rows.
    """
    blocks = [block for shard in partition.shards(rank) for block in _blocks(*partition.shard_rows(shard))]
    with evaluating(task):
        parts = (encode_known(task, table, features, ids, dtype) for ids in blocks)
        return Encoded.join(parts, sum(len(block) for block in blocks))


def encode_known(
    task: CompletionTask, table: EntityTable, features: Mapping[str, FeatureRows], ids: Tensor, dtype: torch.dtype
) -> Encoded:
    """Encode rows (N,) of the table that this worker owns."""
    vectors, present = gather_features(ids, features, table.device)
    rows = table.lookup(ids).detach().to(dtype)
    fused: Fused = task.encode(EntityInputs(ids.to(rows.device), rows, vectors, present), None)
    return Encoded(fused.codes, fused.confidence, mark_present(present, len(ids)))


@contextmanager
def evaluating(task: CompletionTask) -> Iterator[None]:
    """Switch a task to evaluation, and back to what it was."""
    was_training = task.training
    task.eval()
    yield
    task.train(was_training)


def _blocks(start: int, stop: int) -> Iterator[Tensor]:
    # Ids from start to stop in blocks.
    return (torch.arange(first, min(first + _BLOCK, stop)) for first in range(start, stop, _BLOCK))


@torch.no_grad()
def encode_joint(
    task: CompletionTask,
    table: EntityTable,
    features: Mapping[str, FeatureRows],
    new: NewEntities,
    new_features: Mapping[str, FeatureRows],
    group: Group,
    dtype: torch.dtype,
) -> Tensor:
    """Encode the entities this worker owns of known and new ones together. A collective.

    A new entity has the mean row in place of its own, as in an export.

    Returns:
        Codes in the order of the ids of `NewEntities.partition`.
    """
    mean = table.column_statistics().mean.to(table.device, dtype)
    joint = new.partition(group.size)

    def encode_new(numbers: Tensor) -> Tensor:
        rows = torch.as_tensor(new.rows[numbers.numpy()])
        vectors, present = gather_features(rows, new_features, table.device)
        # Ids that no known entity has: they key what is drawn for vectors that are missing.
        ids = (numbers + joint.num_known).to(table.device)
        fused: Fused = task.encode(EntityInputs(ids, mean.expand(len(ids), -1), vectors, present), None)
        return fused.codes

    parts: list[Tensor] = []
    with evaluating(task):
        for shard in joint.shards(group.rank):
            known = (encode_known(task, table, features, ids, dtype) for ids in _blocks(*joint.known_of(shard)))
            parts += [part.codes for part in known]
            parts += [encode_new(numbers) for numbers in _blocks(*joint.new_of(shard))]
    return torch.cat(parts)


class CompletionScoring:
    """Ranks splits under the current weights of a run.

    Raises:
        ConfigError: the scorer has no bound for the first pass of the recipe.
    """

    def __init__(
        self,
        recipe: Recipe,
        store: Store,
        folder: RunFolder,
        partition: Partition,
        group: Group,
        task: CompletionTask,
        table: EntityTable,
        features: Mapping[str, FeatureRows],
        guard: Callable[[], None] = lambda: None,
    ):
        """Rank under a task and a table; `guard` raises where files of the run are another driver's to write."""
        self._guard = guard
        self._recipe = recipe
        self._store = store
        self._folder = folder
        self._partition = partition
        self._group = group
        self._task = task
        self._table = table
        self._features = features
        self._dev_truth: TruthIndex | None = None
        first_pass = recipe.evaluate.first_pass
        self._first_pass = None if first_pass == "exact" else DTYPES[first_pass]
        if self._first_pass is not None:
            find_rounding(task.scorer, self._first_pass)

    def dev_metrics(self, dev: Ids) -> dict[str, float]:
        """Rank dev triples (T, 3), filtered by train and dev, and return the metrics by name. A collective."""
        if self._dev_truth is None:
            self._dev_truth = self._truth("train", "valid")
        table = self._rank(dev, self._dev_truth)
        return RankMetrics.of(table).realistic.to_dict()

    def score_split(self, split: str, cursor: Cursor) -> dict[str, Any]:
        """Rank a split, filtered by all splits; write per-query ranks and the report. A collective.

        The split "new" is that of the entities held out, among all entities of the whole store.

        Blocks that an interrupted evaluation of the same checkpoint has finished are not ranked again.

        Returns:
            The report as a plain tree, the same on every worker.
        """
        new = self._new if split == NEW else None
        store = self._store if new is None else new.whole
        filtered_by = filled_splits(store)
        checkpoint = f"step-{cursor.step:08d}"
        triples = store.triples(split) if new is None else self._triples_of(new)
        precision = self._recipe.evaluate.precision
        identity = f"{store.fingerprint} {checkpoint} {split} {','.join(filtered_by)} {precision}"
        if new is not None:
            # Another limit draws other triples.
            identity += f" {len(triples)} triples"
        ranks = RankFolder(self._folder.ranks(split), identity, self._guard)
        start = self._group.broadcast_object(ranks.next_question() if self._group.rank == 0 else None)
        append = ranks.append if self._group.rank == 0 else None
        if start < len(Questions.of(triples)):
            if new is None:
                self._rank(triples, self._truth(*filtered_by), start, append, weights=True)
            else:
                self._rank_new(new, triples, start, append)
        self._group.barrier()
        report = None
        if self._group.rank == 0:
            protocol = Protocol(
                split=split,
                num_triples=len(triples),
                num_candidates=store.num_entities,
                filtered_by=filtered_by,
                score_dtype=precision,
                selection=f"best dev MRR ({cursor.best_mrr:.4f}), evaluated every "
                f"{self._recipe.train.evaluate_every} epochs, filtered by train and dev",
                checkpoint=checkpoint,
                seed=self._recipe.seed,
                channels=describe_channels(store, self._recipe.used_modalities),
                store_fingerprint=store.fingerprint,
            )
            facts = EntityFacts.of_store(self._store, self._recipe.used_modalities, self._recipe.missing)
            if new is not None:
                facts = facts.of_whole(new, self._new_features)
            evaluation = evaluate_ranks(ranks.read(), facts, protocol)
            self._guard()
            evaluation.write(self._folder.metrics(split))
            report = evaluation.model_dump(mode="json")
        return self._group.broadcast_object(report)

    @cached_property
    def _new(self) -> NewEntities:
        assert self._recipe.holdout is not None
        return NewEntities.of(open_store(self._recipe.store), self._recipe.holdout)

    @cached_property
    def _new_features(self) -> dict[str, FeatureRows]:
        missing = self._recipe.missing
        return {name: self._new.features(name, missing.get(name)) for name in self._recipe.used_modalities}

    def _triples_of(self, new: NewEntities) -> Ids:
        return draw_triples(new.triples_of_new(), self._recipe.evaluate.max_new_triples, self._recipe.seed, NEW)

    def _rank_new(self, new: NewEntities, triples: Ids, start: int, append: OnBlock | None) -> None:
        dtype = DTYPES[self._recipe.train.engine.precision]
        codes = encode_joint(self._task, self._table, self._features, new, self._new_features, self._group, dtype)
        truth = index_new(self._recipe, self._store, new)

        def keep(first: int, stop: int, table: RankTable) -> None:
            # On disk entities are rows of the store.
            rows = {"head": new.rows_of_ids[table.head], "tail": new.rows_of_ids[table.tail]}
            if append is not None:
                append(first, stop, replace(table, **rows))

        self._rank_codes(codes, triples, truth, new.partition(self._group.size), start, keep)

    def _rank(
        self,
        triples: Ids,
        truth: TruthIndex,
        start: int = 0,
        append: OnBlock | None = None,
        *,
        weights: bool = False,
    ) -> RankTable:
        dtype = DTYPES[self._recipe.train.engine.precision]
        rank = self._group.rank
        encoded = encode_owned(self._task, self._table, self._features, self._partition, rank, dtype)
        if weights:
            encoded.write_weights(self._recipe.used_modalities, self._group, self._folder)
        return self._rank_codes(encoded.codes, triples, truth, self._partition, start, append)

    def _rank_codes(
        self,
        codes: Tensor,
        triples: Ids,
        truth: TruthIndex,
        partition: Partition,
        start: int,
        append: OnBlock | None,
    ) -> RankTable:
        return rank_triples(
            triples,
            codes=codes,
            task=self._task,
            truth=truth,
            partition=partition,
            group=self._group,
            budget_bytes=self._recipe.evaluate.budget_bytes,
            dtype=DTYPES[self._recipe.evaluate.precision],
            first_pass=self._first_pass,
            start=start,
            on_block=append,
        )

    def _truth(self, *splits: str) -> TruthIndex:
        return index_splits(self._recipe, self._store, *splits)


def draw_triples(triples: Ids, limit: int, seed: int, purpose: str) -> Ids:
    """Return triples (T, 3): all, or `limit` of them drawn by seed, in order; a limit of 0 is none."""
    if not limit or len(triples) <= limit:
        return triples
    chosen = Stream(seed, f"{purpose}/sample").permute(torch.arange(limit), len(triples)).numpy()
    return triples[np.sort(chosen)]
