"""What every method is told of a graph, and completion tasks drawn from a seed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

from snag_dist.kg.truth import TruthIndex
from snag_dist.model.encoder import Encoder, EncoderConfig, ModalityFacts
from snag_dist.model.noise import NoiseConfig
from snag_dist.model.scorer import ScorerConfig
from snag_dist.objective.all_entities import AllEntitiesConfig
from snag_dist.objective.choices import LossConfig
from snag_dist.objective.cubes import CubePenaltyConfig
from snag_dist.sampling.negatives import NegativeSampler, NegativesConfig
from snag_dist.sampling.queries import QuerySampler
from snag_dist.task.completion import CompletionTask


@dataclass(frozen=True)
class GraphFacts:
    """What a method must know of a graph before it builds a task.

    Attributes:
        num_entities, num_relations: E and R.
        modalities: raw features by name; a method uses the ones it is given.
    """

    num_entities: int
    num_relations: int
    modalities: Mapping[str, ModalityFacts]


class CompletionParts(Protocol):
    """What the methods of completion have in common: the parts of a task."""

    @property
    def encoder(self) -> EncoderConfig: ...
    @property
    def noise(self) -> NoiseConfig: ...
    @property
    def scorer(self) -> ScorerConfig: ...
    @property
    def loss(self) -> LossConfig: ...
    @property
    def reciprocal(self) -> bool: ...
    @property
    def penalty(self) -> CubePenaltyConfig | None: ...
    @property
    def negatives(self) -> NegativesConfig: ...


def draw_completion(parts: CompletionParts, facts: GraphFacts, seed: int) -> CompletionTask:
    """Build a task, the same on every worker: initial weights are a function of the seed."""
    # fork_rng leaves the caller's generator as it was.
    with torch.random.fork_rng(devices=[]):  # pyright: ignore[reportUnknownMemberType]
        torch.manual_seed(seed)  # pyright: ignore[reportUnknownMemberType]
        encoder = Encoder(parts.encoder, facts.modalities, parts.noise.build())
        scorer = parts.scorer.build(parts.encoder.width)
        encoder.fusion.begin_at(scorer.entity_bound)
    return CompletionTask(
        encoder,
        scorer,
        parts.loss.build(),
        facts.num_relations,
        seed,
        reciprocal=parts.reciprocal,
        penalty=None if parts.penalty is None else parts.penalty.build(),
    )


def draw_sampler(parts: CompletionParts, truth: TruthIndex) -> NegativeSampler:
    """Build what asks the questions of a batch: with negatives, or without any where the loss looks at all entities."""
    if isinstance(parts.loss, AllEntitiesConfig):
        return QuerySampler(parts.loss.sides, truth, with_known=parts.loss.mask_known)
    return parts.negatives.build(truth)
