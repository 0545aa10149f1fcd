"""Alignment on a worker: batches of linked pairs in, codes through the neighbourhoods of their owners, exact ranks."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snag_dist.errors import ConfigError
from snag_dist.kg.links import LinkSplit, split_links
from snag_dist.method.choices import AlignmentMethod
from snag_dist.model.features import EntityInputs
from snag_dist.objective.losses import LossReport
from snag_dist.random import Moment, Stream
from snag_dist.shard.exchange import Exchange, Meetings, Route
from snag_dist.shard.halo import Halo, plan_halo, run_halo
from snag_dist.shard.initial_rows import InitialRows
from snag_dist.shard.neighbours import OwnedEdges
from snag_dist.shard.pair_ranking import OwnedCodes, find_mutual_pairs
from snag_dist.store.opened import Store
from snag_dist.task.alignment import AlignmentBatch, AlignmentTask, assemble_pairs
from snag_dist.training.alignment_scoring import AlignmentScoring
from snag_dist.training.assignment import Assignment, Drawn, Stage, Workplace
from snag_dist.training.checkpoint import Cursor
from snag_dist.training.mining import Mining
from snag_dist.training.recipe import LinksConfig
from snag_dist.training.step import DistributedTask, StepInputs, StepPlan, Stopwatch

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class HaloPlan(StepPlan):
    """A step of alignment.

    Attributes:
        halo: the way through the structure encoder.
        route: of the views, from the owners of the pairs' entities to all who compare them.
    """

    halo: Halo
    route: Route


class DistributedAlignment(DistributedTask):
    """Structure encoder across workers, views at the owner, and all views of the batch to every worker."""

    def __init__(
        self, task: AlignmentTask, edges: OwnedEdges, exchange: Exchange, stopwatch: Stopwatch, fanout: int | None
    ):
        super().__init__(stopwatch)
        self.task = task
        self._edges = edges
        self._exchange = exchange
        self._fanout = fanout

    def meet(self, batch: AlignmentBatch, moment: Moment) -> Meetings[HaloPlan]:
        """See `DistributedTask.meet`."""
        route = yield from self._exchange.meet(batch.entities)
        halo = plan_halo(
            route.encode,
            self._edges,
            self._exchange,
            num_layers=self.task.num_layers,
            device=batch.left.device,
            fanout=self._fanout,
            stream=None if self._fanout is None else moment.each_step("neighbours"),
        )
        return HaloPlan(halo.rows, route.encode, halo, route)

    def forward(self, plan: HaloPlan, inputs: StepInputs, batch: AlignmentBatch, moment: Moment) -> LossReport:
        """See `DistributedTask.forward`."""
        device = inputs.rows.device
        with self.stopwatch.phase("encode"):
            learned = EntityInputs(plan.rows.to(device), inputs.rows, row_statistics=inputs.row_statistics)
            graph = run_halo(plan.halo, self.task.begin(learned, moment), self.task.layer, self._exchange)
            entities = EntityInputs(plan.encode.to(device), graph, inputs.features, inputs.present)
            packed = self.task.encode(graph, entities, moment).pack()
        with self.stopwatch.phase("exchange"):
            self.go_on()
            arrived = self._exchange.fetch(packed, plan.route)
        with self.stopwatch.phase("score"):
            return self.task.loss(arrived, batch)

    def lr_scale(self, name: str) -> float:
        """See `DistributedTask.lr_scale`."""
        return self.task.lr_scale(name.removeprefix("task."))


class AlignmentAssignment(Assignment):
    """Links between two graphs, training links and mined ones in batches, ranks by CSLS."""

    unit = "pairs"

    def __init__(self, place: Workplace):
        recipe, store, group = place.recipe, place.store, place.group
        method = recipe.method
        assert isinstance(method, AlignmentMethod)
        self._place = place
        self.stages = (Stage("plain", recipe.train.epochs),)
        if recipe.iterative is not None:
            self.stages += (Stage("iterative", recipe.iterative.epochs, recipe.iterative.lr_factor),)
        self._links = split_store_links(store, recipe.links, recipe.seed)
        self._mining = Mining()
        task = method.build_alignment(place.facts, recipe.seed)
        self.table = place.build_table(method.encoder.width, InitialRows("normal", task.row_std))
        triples = store.triples("train") if place.triples is None else place.triples
        edges = OwnedEdges.build(triples, store.num_entities, *place.partition.rows(group.rank))
        exchange = Exchange(group, place.partition)
        self.module = DistributedAlignment(task, edges, exchange, Stopwatch(group.device), recipe.train.fanout)
        self._scoring = AlignmentScoring(place, task, self.table, edges, exchange, self._links)

    def begin_epoch(self, cursor: Cursor) -> Mapping[str, Any]:
        """Mine links, where a check is due in the iterative stage. A collective."""
        config = self._place.recipe.iterative
        if config is None or not cursor.stage or cursor.epoch_step or cursor.stage_epochs % config.every:
            return {}
        known = self._pairs()
        sides, codes = self._scoring.sides, self._scoring.encode().codes
        lists = [np.setdiff1d(side, known[:, column]) for column, side in enumerate(sides)]
        partition, group = self._place.partition, self._place.group
        left, right = (OwnedCodes.of(entities, codes, partition, group.rank) for entities in lists)
        evaluate = self._place.recipe.evaluate
        found = find_mutual_pairs(
            left, right, k_csls=evaluate.k_csls, group=group, budget_bytes=evaluate.budget_bytes
        ).pairs
        mutual = np.stack([lists[0][found[:, 0]], lists[1][found[:, 1]]], axis=1)
        self._mining = self._mining.check(mutual, self._links.dev, config.checks)
        return {"mining": self._mining.records[-1].model_dump()}

    def steps_in_epoch(self) -> int:
        """See `Assignment.steps_in_epoch`."""
        return -(-len(self._pairs()) // self._place.recipe.train.batch_size)

    def batches(self, cursor: Cursor) -> Iterator[tuple[Drawn, Moment]]:
        """See `Assignment.batches`."""
        recipe, group, pairs = self._place.recipe, self._place.group, self._pairs()
        order = Stream(recipe.seed, "epoch/order").at(epoch=cursor.epoch)
        size = recipe.train.batch_size
        for number, step in enumerate(range(cursor.epoch_step, self.steps_in_epoch())):
            places = order.permute(torch.arange(step * size, min((step + 1) * size, len(pairs))), len(pairs)).numpy()
            first, stop = (len(places) * rank // group.size for rank in (group.rank, group.rank + 1))
            moment = Moment(recipe.seed, cursor.epoch, cursor.step + number)
            yield Drawn(assemble_pairs(pairs[places], first, stop), len(places)), moment

    def dev_metrics(self) -> dict[str, float]:
        """See `Assignment.dev_metrics`."""
        return self._scoring.dev_metrics()

    def score_split(self, split: str, cursor: Cursor, stage: Stage) -> dict[str, Any]:
        """See `Assignment.score_split`."""
        final = stage == self.stages[-1]
        return self._scoring.score_split(split, cursor, stage, self._mining.records, is_final=final)

    def state(self) -> Mapping[str, Tensor]:
        """See `Assignment.state`."""
        return self._mining.state()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """See `Assignment.load_state`."""
        self._mining = Mining.of_state(state)

    def _pairs(self) -> Ids:
        return np.concatenate([self._links.train, self._mining.promoted])


def split_store_links(store: Store, config: LinksConfig, seed: int) -> LinkSplit:
    """Split the links of a store; the draw is keyed by source ids, so it does not depend on how rows were permuted.

    Raises:
        ConfigError: the shares leave train, dev or test without a link.
        DataError: the store is of one graph.
    """
    rows = store.rows_of_source_ids
    source_ids = np.argsort(rows)
    drawn = split_links(
        source_ids[store.links()],
        train_share=config.train_share,
        dev_share=config.dev_share,
        seed=seed if config.seed is None else config.seed,
    )
    if not len(drawn.dev):
        raise ConfigError(
            "links.train_share, links.dev_share: expected links for dev, which selects the checkpoint, got 0 of "
            f"{len(drawn.train)} outside test; set larger shares or bring more links"
        )
    return LinkSplit(rows[drawn.train], rows[drawn.dev], rows[drawn.test])
