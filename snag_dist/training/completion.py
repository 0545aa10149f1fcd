"""Completion on a worker: triples and their negatives in, codes from their owners, exact ranks at the end."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snag_dist.kg.truth import TruthIndex
from snag_dist.method.choices import CompletionMethod
from snag_dist.model.features import EntityInputs
from snag_dist.objective.all_entities import AllEntitiesConfig
from snag_dist.objective.losses import LossReport
from snag_dist.random import Moment
from snag_dist.sampling.negatives import NegativeSampler
from snag_dist.shard.exchange import Exchange, Meetings, Route
from snag_dist.shard.initial_rows import InitialRows
from snag_dist.task.completion import CompletionBatch, CompletionTask, assemble
from snag_dist.training.all_entities import DistributedAllEntities
from snag_dist.training.assignment import Assignment, Drawn, Stage, Workplace
from snag_dist.training.batches import MemoryTriples, StreamedTriples, TripleSource
from snag_dist.training.checkpoint import Cursor
from snag_dist.training.completion_scoring import CompletionScoring, draw_triples
from snag_dist.training.known_true import index_splits
from snag_dist.training.second_player import SecondPlayer
from snag_dist.training.step import DistributedTask, StepInputs, StepPlan, Stopwatch

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class RoutePlan(StepPlan):
    """A step of completion.

    Attributes:
        route: the way of the codes; `encode` of it is `encode` of the plan.
    """

    route: Route


class DistributedCompletion(DistributedTask):
    """Encode at the owner, bring codes to the triples, score.

    An adversary's generators are no parameters of this module: they have an optimiser of their own (`SecondPlayer`).
    """

    def __init__(
        self,
        task: CompletionTask,
        exchange: Exchange,
        stopwatch: Stopwatch,
        opponent: SecondPlayer | None = None,
    ):
        super().__init__(stopwatch)
        self.task = task
        self._exchange = exchange
        # In a list, so that torch does not register the opponent's network as part of this one.
        self._opponents: list[SecondPlayer] = [] if opponent is None else [opponent]

    def meet(self, batch: CompletionBatch, moment: Moment) -> Meetings[RoutePlan]:
        """See `DistributedTask.meet`."""
        route = yield from self._exchange.meet(batch.entities)
        return RoutePlan(route.encode, route.encode, route)

    def forward(self, plan: RoutePlan, inputs: StepInputs, batch: CompletionBatch, moment: Moment) -> LossReport:
        """See `DistributedTask.forward`."""
        ids = plan.encode.to(inputs.rows.device)
        entities = EntityInputs(ids, inputs.rows, inputs.features, inputs.present, inputs.row_statistics)
        for opponent in self._opponents:
            return self._play(opponent, entities, plan.route, batch, moment)
        with self.stopwatch.phase("encode"):
            codes = self.task.codes(entities, moment)
        with self.stopwatch.phase("exchange"):
            self.go_on()
            arrived = self._exchange.fetch(codes, plan.route)
        with self.stopwatch.phase("score"):
            return self.task.loss(arrived, batch)

    def _play(
        self, opponent: SecondPlayer, entities: EntityInputs, route: Route, batch: CompletionBatch, moment: Moment
    ) -> LossReport:
        """Both players on the same batch: the model's loss is returned, the generators' kept for their own step."""
        adversary = opponent.adversary
        with self.stopwatch.phase("encode"):
            fused = self.task.encode(entities, moment)
            fakes = adversary.generators.codes(self.task.encoder.fusion, fused, entities.ids, moment)
        with self.stopwatch.phase("exchange"):
            self.go_on()
            both = self._exchange.fetch(torch.cat([fused.codes, fakes], dim=1), route)
        with self.stopwatch.phase("score"):
            codes, fakes = both.chunk(2, dim=1)
            report = self.task.loss(codes, batch)
            against = adversary.model_loss(self.task, codes, fakes, batch)
            generators = adversary.generator_loss(self.task, codes, fakes, batch)
        opponent.owes(generators.loss)
        terms = {**report.terms, **against.terms, **generators.terms}
        return LossReport(report.loss + against.loss, terms)

    def before_backward(self) -> None:
        """See `DistributedTask.before_backward`."""
        for opponent in self._opponents:
            opponent.differentiate()

    def after_step(self) -> None:
        """See `DistributedTask.after_step`."""
        for opponent in self._opponents:
            opponent.step()


class CompletionAssignment(Assignment):
    """Triples, a sampler of negatives, and ranks among all entities."""

    unit = "triples"

    def __init__(self, place: Workplace):
        recipe, group = place.recipe, place.group
        method = recipe.method
        assert isinstance(method, CompletionMethod)
        self.stages = (Stage("plain", recipe.train.epochs),)
        self._place = place
        self.num_candidates = count_candidates(method, place.store.num_entities)
        task = method.build_completion(place.facts, recipe.seed)
        self.table = place.build_table(method.encoder.width, InitialRows("uniform", task.scorer.entity_bound))
        adversary = method.build_adversary(place.facts, recipe.seed)
        self._opponent = None if adversary is None else SecondPlayer(adversary, group, place.dtype)
        if isinstance(method.loss, AllEntitiesConfig):
            self.module = DistributedAllEntities(
                task, method.loss, self.table, place.features, place.partition, group, Stopwatch(group.device)
            )
        else:
            exchange = Exchange(group, place.partition)
            self.module = DistributedCompletion(task, exchange, Stopwatch(group.device), self._opponent)
        self._scoring = CompletionScoring(
            recipe,
            place.store,
            place.folder,
            place.partition,
            group,
            task,
            self.table,
            place.features,
            place.require_claim,
        )

    @cached_property
    def _source(self) -> TripleSource:
        place, train = self._place, self._place.recipe.train
        if place.triples is not None:
            return MemoryTriples(place.triples, train.batch_size, place.group, place.recipe.seed)
        assert place.stream is not None
        return StreamedTriples(*place.stream, place.group.rank)

    @cached_property
    def _sampler(self) -> NegativeSampler:
        place, store = self._place, self._place.store
        method = place.recipe.method
        assert isinstance(method, CompletionMethod)
        if place.triples is None:
            truth = index_splits(place.recipe, store, "train")
        else:
            truth = TruthIndex.build(place.triples, store.num_entities, store.num_relations)
        return method.build_sampler(truth)

    @cached_property
    def _dev(self) -> Ids:
        place = self._place
        limit = place.recipe.evaluate.max_dev_triples
        return draw_triples(place.store.triples("valid"), limit, place.recipe.seed, "dev")

    def steps_in_epoch(self) -> int:
        """See `Assignment.steps_in_epoch`."""
        return self._source.steps_per_epoch

    def batches(self, cursor: Cursor) -> Iterator[tuple[Drawn, Moment]]:
        """See `Assignment.batches`."""
        step, seed = cursor.step, self._place.recipe.seed
        for part in self._source.epoch(cursor.epoch, cursor.epoch_step):
            moment = Moment(seed, cursor.epoch, step)
            corrupted = self._sampler.draw(part.positives, part.first, moment)
            yield Drawn(assemble(corrupted, part.global_triples), part.global_triples), moment
            step += 1

    def dev_metrics(self) -> dict[str, float]:
        """See `Assignment.dev_metrics`."""
        return self._scoring.dev_metrics(self._dev)

    def score_split(self, split: str, cursor: Cursor, stage: Stage) -> dict[str, Any]:
        """See `Assignment.score_split`."""
        return self._scoring.score_split(split, cursor)

    def after_save(self) -> None:
        """See `Assignment.after_save`."""
        if isinstance(self.module, DistributedAllEntities):
            self.module.forget_cache()

    def state(self) -> Mapping[str, Tensor]:
        """See `Assignment.state`."""
        return {} if self._opponent is None else self._opponent.state()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """See `Assignment.load_state`."""
        if self._opponent is not None:
            self._opponent.load_state(state)


def count_candidates(method: CompletionMethod, num_entities: int) -> int:
    """Return how many candidates a training triple is scored against, its queries together."""
    if isinstance(method.loss, AllEntitiesConfig):
        num, sides = num_entities, method.loss.sides
    else:
        num, sides = method.negatives.num, method.negatives.sides
    return num * (2 if sides == "both" else 1)
