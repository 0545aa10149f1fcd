"""Codes of all entities, and the exact ranks of a split under them.

Selection never sees the test split: dev ranks are filtered by train and dev triples only, and the test triples are read
for the first time when the best checkpoint is scored.
"""

from collections.abc import Mapping
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
from snag_dist.ranking.metrics import RankMetrics
from snag_dist.ranking.questions import Questions
from snag_dist.ranking.ranks import RankTable
from snag_dist.shard.first_pass import find_rounding
from snag_dist.shard.group import Group
from snag_dist.shard.partition import Partition
from snag_dist.shard.ranking import OnBlock, rank_triples
from snag_dist.shard.table import EntityTable
from snag_dist.store.gather import FeatureRows
from snag_dist.store.opened import Store
from snag_dist.task.completion import CompletionTask
from snag_dist.training.checkpoint import Cursor
from snag_dist.training.encoded import Encoded, mark_present
from snag_dist.training.engine import DTYPES
from snag_dist.training.recipe import Recipe
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
    was_training = task.training
    task.eval()

    def encode(ids: Tensor) -> Encoded:
        vectors, present = gather_features(ids, features, table.device)
        rows = table.lookup(ids).detach().to(dtype)
        fused: Fused = task.encode(EntityInputs(ids.to(rows.device), rows, vectors, present), None)
        return Encoded(fused.codes, fused.confidence, mark_present(present, len(ids)))

    spans = [partition.shard_rows(shard) for shard in partition.shards(rank)]
    blocks = [
        torch.arange(first, min(first + _BLOCK, stop)) for start, stop in spans for first in range(start, stop, _BLOCK)
    ]
    encoded = Encoded.join(map(encode, blocks), sum(len(block) for block in blocks))
    task.train(was_training)
    return encoded


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
    ):
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

        Blocks that an interrupted evaluation of the same checkpoint has finished are not ranked again.

        Returns:
            The report as a plain tree, the same on every worker.
        """
        filtered_by = tuple(name for name, num in self._store.manifest.num_triples.items() if num)
        checkpoint = f"step-{cursor.step:08d}"
        triples = self._store.triples(split)
        precision = self._recipe.evaluate.precision
        identity = f"{self._store.fingerprint} {checkpoint} {split} {','.join(filtered_by)} {precision}"
        ranks = RankFolder(self._folder.ranks(split), identity)
        start = self._group.broadcast_object(ranks.next_question() if self._group.rank == 0 else None)
        append = ranks.append if self._group.rank == 0 else None
        if start < len(Questions.of(triples)):
            self._rank(triples, self._truth(*filtered_by), start, append, weights=True)
        self._group.barrier()
        report = None
        if self._group.rank == 0:
            protocol = Protocol(
                split=split,
                num_triples=len(triples),
                num_candidates=self._store.num_entities,
                filtered_by=filtered_by,
                score_dtype=precision,
                selection=f"best dev MRR ({cursor.best_mrr:.4f}), evaluated every "
                f"{self._recipe.train.evaluate_every} epochs, filtered by train and dev",
                checkpoint=checkpoint,
                seed=self._recipe.seed,
                channels=describe_channels(self._store, self._recipe.used_modalities),
                store_fingerprint=self._store.fingerprint,
            )
            facts = EntityFacts.of_store(self._store, self._recipe.used_modalities)
            evaluation = evaluate_ranks(ranks.read(), facts, protocol)
            evaluation.write(self._folder.metrics(split))
            report = evaluation.model_dump(mode="json")
        return self._group.broadcast_object(report)

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
        return rank_triples(
            triples,
            codes=encoded.codes,
            task=self._task,
            truth=truth,
            partition=self._partition,
            group=self._group,
            budget_bytes=self._recipe.evaluate.budget_bytes,
            dtype=DTYPES[self._recipe.evaluate.precision],
            first_pass=self._first_pass,
            start=start,
            on_block=append,
        )

    def _truth(self, *splits: str) -> TruthIndex:
        triples = np.concatenate([self._store.triples(split) for split in splits])
        return TruthIndex.build(triples, self._store.num_entities, self._store.num_relations)
