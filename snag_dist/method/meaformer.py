"""MEAformer: attention over modality tokens; joint codes weighted by each entity's own confidence.

Source: Chen et al., "MEAformer: Multi-modal Entity Alignment Transformer for Meta Modality Hybrid" (ACM MM 2023).
"""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field
from torch import Tensor

from snag_dist.config import Config
from snag_dist.method.assembly import (
    ALIGNMENT_ATTENTION,
    UNCERTAINTY_LR_SCALE,
    AlignmentAttention,
    AlignmentNoise,
    build_task,
)
from snag_dist.method.facts import GraphFacts
from snag_dist.model.joint import join_by_confidence
from snag_dist.model.noise import NoNoiseConfig
from snag_dist.model.views import EntityViews, ViewsConfig
from snag_dist.objective.contrastive import UncertaintyWeights, contrast_tokens
from snag_dist.objective.gram import MIN_TEMPERATURE
from snag_dist.objective.losses import LossReport
from snag_dist.task.alignment import AlignmentObjective, AlignmentTask, token_pairs

IDLE_IN_RELEASE: Mapping[str, int] = {
    "projection of names, 300 to 300": 300 * 300 + 300,
    "projection of characters, 100 to 300": 100 * 300 + 300,
    "uncertainty weights of names and characters": 2,
}
"""As in `snag_alignment`; its count on ja_en would be 13,820,806."""


class MeaformerObjective(AlignmentObjective):
    """L = ICL(joint) + ICL of the modalities before attention + ICL after it, the latter under uncertainty weights."""

    def __init__(self, config: "MeaformerConfig", num_tokens: int):
        super().__init__()
        self._temperature = config.temperature
        self.uncertainty = UncertaintyWeights(num_tokens, config.uncertainty_lr_scale)

    def joint(self, views: EntityViews) -> Tensor:
        """See `AlignmentObjective.joint`."""
        return join_by_confidence(views.tokens, views.confidence)

    def forward(self, left: EntityViews, right: EntityViews, start: int, stop: int) -> LossReport:
        """See `AlignmentObjective.forward`."""
        share = (stop - start) / len(left.tokens)
        pairs = token_pairs(left, right, start, stop, weights=[lambda views: views.confidence])
        (joint,), each = contrast_tokens(pairs, self._temperature)
        _, after = contrast_tokens(token_pairs(left, right, start, stop, outputs=True), self._temperature)
        sums = [self.uncertainty(losses, share) for losses in (each, after)]
        terms = {"joint": joint.detach(), "before": sums[0].detach(), "after": sums[1].detach()}
        return LossReport(joint + sums[0] + sums[1], terms)


class MeaformerConfig(Config):
    """MEAformer."""

    kind: Literal["meaformer"] = "meaformer"
    encoder: ViewsConfig = ViewsConfig()
    """Rows and raw vectors to tokens."""
    attention: AlignmentAttention = ALIGNMENT_ATTENTION
    """The layer over the tokens, FFN 300 to 400 to 300."""
    noise: AlignmentNoise = NoNoiseConfig()
    """`gaussian` puts GMNM on all inputs."""
    temperature: float = Field(default=0.1, ge=MIN_TEMPERATURE)
    """tau of all contrasts."""
    uncertainty_lr_scale: float = Field(default=UNCERTAINTY_LR_SCALE, gt=0)
    """Factor on the learning rate of the uncertainty weights; the released code lets them learn five times as fast, the
    paper does not say so."""

    def build_alignment(self, facts: GraphFacts, seed: int) -> AlignmentTask:
        """Build the task, the same on every worker: initial weights are a function of the seed."""
        return build_task(
            self.encoder, self.noise, facts, seed, lambda num: MeaformerObjective(self, num), attention=self.attention
        )
