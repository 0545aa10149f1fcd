"""Completion against all entities on a worker: queries go to every owner, which scores them with all of its rows.

    own rows -> codes, block by block -> queries of the batch -> to all owners -> scores, four numbers a query -> loss

Codes of the owned rows are held for the step (as wide as the rows themselves); what the encoder keeps for its backward
pass is held for a stated number of rows. Beyond them it encodes each block once more on the way back (a checkpoint
without reentry, so that every parameter collects its gradient once, as DeepSpeed's hooks want it). Noise and dropout
are keyed by entity, so a block encoded again is the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from snag_dist.model.features import ColumnStatistics, EntityInputs
from snag_dist.objective.all_entities import AllEntitiesConfig, score_all
from snag_dist.objective.losses import LossReport
from snag_dist.objective.score_statistics import Excluded
from snag_dist.random import Moment
from snag_dist.shard.exchange import Exchange, Meetings, Route
from snag_dist.shard.group import Group
from snag_dist.shard.partition import Partition
from snag_dist.shard.queries import Gathering
from snag_dist.shard.table import EntityTable
from snag_dist.store.gather import FeatureRows
from snag_dist.task.completion import CompletionBatch, CompletionTask
from snag_dist.training.step import DistributedTask, StepInputs, StepPlan, Stopwatch, gather_features


@dataclass(frozen=True)
class AllEntitiesPlan(StepPlan):
    """A step against all entities.

    Attributes:
        route: the way of the codes of the batch's own entities.
        gathering: of the queries.
        answers: (Q,) position of each query's right answer among this owner's rows; outside where another has it.
        num_candidates: (Q,) entities that count for each query, over all owners.
        excluded: those of this owner that do not.
    """

    route: Route
    gathering: Gathering
    answers: Tensor
    num_candidates: Tensor
    excluded: Excluded | None


class OneTensor:
    """Keeps blocks of rows in one large tensor.

    A block that stays, small and in the midst of what comes and goes, leaves a hole in the heap around it that the next
    block's tensors do not fit: so many that a step held twice what was alive. Large tensors are mapped outside of it.
    """

    def __init__(self, rows: Tensor):
        """Keep blocks of as many rows, as wide and of the format as `rows` (E_local, D)."""
        self._like = rows.detach()
        self._whole: Tensor | None = None

    def put(self, block: Tensor, first: int) -> Tensor:
        """Copy a block (n, D) to its place, and return it there."""
        if self._whole is None:
            self._whole = torch.empty_like(self._like)
        place = self._whole[first : first + len(block)].detach()
        return place.copy_(block)


class _Put(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, block: Tensor, whole: OneTensor, first: int) -> Tensor:
        return whole.put(block, first)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return grads[0], None, None


class OwnCodes:
    """Codes of all rows a worker owns.

    Args:
        task: with the encoder.
        table: of the rows.
        features: of these rows, by modality.
        config: how many rows are encoded at a time, and of how many the inner values stay.
    """

    def __init__(
        self,
        task: CompletionTask,
        table: EntityTable,
        features: Mapping[str, FeatureRows],
        config: AllEntitiesConfig,
    ):
        self._encode = task.codes
        self.table = table
        self._features = features
        self._config = config

    @property
    def rows(self) -> Tensor:
        """(E_local,) ids of the rows, on the host."""
        return torch.arange(self.table.first_row, self.table.first_row + len(self.table.rows))

    def make(self, rows: Tensor, statistics: ColumnStatistics | None, moment: Moment) -> list[Tensor]:
        """Encode all rows (E_local, D) in blocks, at least one: (n, D) each, differentiable where gradients are on."""
        blocks: list[Tensor] = []
        first, codes, grads = self.table.first_row, OneTensor(rows), OneTensor(rows)
        for block in rows.split(self._config.block):
            place, start = (first, block, statistics, moment), first - self.table.first_row
            first += len(block)
            if block.requires_grad:
                block.register_hook(partial(grads.put, first=start))
            if first - self.table.first_row <= self._config.kept_rows:
                made = self._encode_block(*place)
            else:
                made = checkpoint(self._encode_block, *place, use_reentrant=False, preserve_rng_state=False)
            blocks.append(cast(Tensor, _Put.apply(made, codes, start)))
        return blocks

    def _encode_block(self, first: int, rows: Tensor, statistics: ColumnStatistics | None, moment: Moment) -> Tensor:
        ids = torch.arange(first, first + len(rows))
        vectors, present = gather_features(ids, self._features, rows.device)
        return self._encode(EntityInputs(ids.to(rows.device), rows, vectors, present, statistics), moment)


class CachedCodes:
    """Codes of all rows a worker owns that stay for some steps.

    They are made anew when an epoch begins and after every checkpoint, so that a run that goes on has the same ones.
    """

    def __init__(self, own: OwnCodes, refresh_every: int):
        self._own = own
        self._refresh_every = refresh_every
        self._codes: Tensor | None = None
        self._made = Moment(0, 0, 0)

    def forget(self) -> None:
        """Make them anew at the next step."""
        self._codes = None

    def at(self, statistics: ColumnStatistics | None, moment: Moment, dtype: torch.dtype) -> Tensor:
        """(E_local, D) codes for a step, constants."""
        old = self._codes is None or moment.epoch != self._made.epoch
        if old or moment.step - self._made.step >= self._refresh_every:
            self._codes = None
            with torch.no_grad():
                self._codes = torch.cat(self._own.make(self._own.table.rows.to(dtype), statistics, moment))
            self._made = moment
        assert self._codes is not None
        return self._codes


class DistributedAllEntities(DistributedTask):
    """Encode at the owner, bring queries to all owners, score all entities.

    Attributes:
        task: of completion, with a loss over all entities.
        own: codes of the rows this worker owns.
    """

    def __init__(
        self,
        task: CompletionTask,
        config: AllEntitiesConfig,
        table: EntityTable,
        features: Mapping[str, FeatureRows],
        partition: Partition,
        group: Group,
        stopwatch: Stopwatch,
    ):
        super().__init__(stopwatch)
        self.task = task
        self._config = config
        self._partition = partition
        self._group = group
        self._exchange = Exchange(group, partition)
        self.own = OwnCodes(task, table, features, config)
        self._cache = CachedCodes(self.own, config.refresh_every) if config.candidates == "cached" else None

    def forget_cache(self) -> None:
        """Make cached codes anew at the next step."""
        if self._cache is not None:
            self._cache.forget()

    def meet(self, batch: CompletionBatch, moment: Moment) -> Meetings[AllEntitiesPlan]:
        """See `DistributedTask.meet`."""
        route = yield from self._exchange.meet(batch.entities)
        gathering = Gathering.of(self._group, len(batch.answer))
        facts = torch.stack([batch.entities[batch.answer], torch.zeros_like(batch.answer)], dim=1)
        excluded = None
        if batch.excluded is not None:
            facts[:, 1] = torch.bincount(batch.excluded.query, minlength=len(facts))
            excluded = gathering.send_excluded(batch.excluded, self._partition)
        facts = gathering.collect(facts.to(self._group.device))
        # Fresh candidates read their features block by block; the step itself reads none.
        rows, encode = (self.own.rows, route.encode[:0]) if self._cache is None else (route.encode, route.encode)
        return AllEntitiesPlan(
            rows,
            encode,
            route,
            gathering,
            facts[:, 0] - self.own.table.first_row,
            self._partition.num_entities - facts[:, 1],
            excluded,
        )

    def forward(self, plan: AllEntitiesPlan, inputs: StepInputs, batch: CompletionBatch, moment: Moment) -> LossReport:
        """See `DistributedTask.forward`."""
        with self.stopwatch.phase("encode"):
            asked, blocks = self._encode(plan, inputs, moment)
        with self.stopwatch.phase("exchange"):
            self.go_on()
            codes = self._exchange.fetch(asked, plan.route)
            known = codes.index_select(0, batch.known)
            own_queries = self.task.queries(known, batch.relations, batch.find_tail)
            queries = plan.gathering.collect_queries(own_queries)
        with self.stopwatch.phase("score"):
            scores = score_all(
                queries,
                blocks,
                self.task.scorer.score,
                plan.answers,
                plan.num_candidates,
                plan.gathering.combine,
                plan.excluded,
                self._config.kept_scores,
            )
            return self.task.loss_over_all(plan.gathering.take_own(scores), codes, batch)

    def _encode(self, plan: AllEntitiesPlan, inputs: StepInputs, moment: Moment) -> tuple[Tensor, list[Tensor]]:
        """Codes (N, D) of the entities workers asked for, and the codes of all own rows in blocks."""
        ids = plan.route.encode.to(inputs.rows.device)
        places = ids - self.own.table.first_row
        if self._cache is None:
            blocks = self.own.make(inputs.rows, inputs.row_statistics, moment)
            return torch.cat(blocks).index_select(0, places), blocks
        entities = EntityInputs(ids, inputs.rows, inputs.features, inputs.present, inputs.row_statistics)
        asked = self.task.codes(entities, moment)
        cached = self._cache.at(inputs.row_statistics, moment, asked.dtype)
        return asked, list(cached.index_copy(0, places, asked).split(self._config.block))
