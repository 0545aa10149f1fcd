"""MCLEA: contrast within each modality, and the neighbourhoods of each drawn towards those of the joint code.

Source: Lin et al., "Multi-modal Contrastive Representation Learning for Entity Alignment" (COLING 2022).
"""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field
from torch import Tensor

from snag_dist.config import Config
from snag_dist.method.assembly import UNCERTAINTY_LR_SCALE, AlignmentNoise, build_task
from snag_dist.method.facts import GraphFacts
from snag_dist.model.joint import Combination, GlobalMix
from snag_dist.model.noise import NoNoiseConfig
from snag_dist.model.views import EntityViews, ViewsConfig
from snag_dist.objective.contrastive import UncertaintyWeights, draw_tokens
from snag_dist.objective.gram import MIN_TEMPERATURE
from snag_dist.objective.losses import LossReport
from snag_dist.task.alignment import AlignmentObjective, AlignmentTask, token_pairs

IDLE_IN_RELEASE: Mapping[str, int] = {
    "projection of names, 300 to 300": 300 * 300 + 300,
    "projection of characters, 100 to 300": 100 * 300 + 300,
    "global weights of names and characters": 2,
    "uncertainty weights of names and characters, twice": 4,
}
"""As in `snag_alignment`. The published count of ja_en, 13,217,718: rows 11,878,200; projections 1,215,300; GAT 3,600;
4 global weights and twice 4 uncertainty weights; and these 120,606."""


class McleaObjective(AlignmentObjective):
    """L = ICL(joint) + ICL of the modalities + factor * IAL of the modalities, both under uncertainty weights."""

    def __init__(self, config: "McleaConfig", num_tokens: int):
        super().__init__()
        self._config = config
        self.mix = GlobalMix(num_tokens, config.combination)
        self.contrast_weights = UncertaintyWeights(num_tokens, config.uncertainty_lr_scale)
        self.divergence_weights = UncertaintyWeights(num_tokens, config.uncertainty_lr_scale)

    def joint(self, views: EntityViews) -> Tensor:
        """See `AlignmentObjective.joint`."""
        return self.mix(views.tokens, views.present)

    def weights(self, views: EntityViews) -> Tensor:
        """See `AlignmentObjective.weights`: those of the joint code, the same for all entities."""
        return self.mix.shares(views.present)

    def forward(self, left: EntityViews, right: EntityViews, start: int, stop: int) -> LossReport:
        """See `AlignmentObjective.forward`."""
        config, share = self._config, (stop - start) / len(left.tokens)
        if config.combination == "concat":
            pairs = token_pairs(left, right, start, stop, weights=[lambda views: self.mix.weights(views.present)])
        else:
            pairs = token_pairs(left, right, start, stop, joint=self.joint)
        joint, each, drawn = draw_tokens(pairs, config.temperature, config.teacher_temperature, config.zoom)
        contrast = self.contrast_weights(each, share)
        divergence = config.zoom * self.divergence_weights(drawn, share)
        terms = {"joint": joint.detach(), "contrast": contrast.detach(), "divergence": divergence.detach()}
        return LossReport(joint + contrast + divergence, terms)


class McleaConfig(Config):
    """MCLEA."""

    kind: Literal["mclea"] = "mclea"
    encoder: ViewsConfig = ViewsConfig()
    """Rows and raw vectors to tokens."""
    noise: AlignmentNoise = NoNoiseConfig()
    """`gaussian` puts GMNM on all inputs; the code released with SNAG noises the learned rows alone."""
    combination: Combination = "concat"
    """How weighted tokens become the joint code: `concat` (MCLEA), or their `mean` (the code released with SNAG)."""
    temperature: float = Field(default=0.1, ge=MIN_TEMPERATURE)
    """tau of the contrasts."""
    teacher_temperature: float = Field(default=4.0, ge=MIN_TEMPERATURE)
    """tau of the divergences."""
    zoom: float = Field(default=0.1, ge=0)
    """Factor on every divergence, and once more on their weighted sum."""
    uncertainty_lr_scale: float = Field(default=UNCERTAINTY_LR_SCALE, gt=0)
    """Factor on the learning rate of the uncertainty weights; the released code lets them learn five times as fast, the
    paper does not say so."""

    def build_alignment(self, facts: GraphFacts, seed: int) -> AlignmentTask:
        """Build the task, the same on every worker: initial weights are a function of the seed."""
        return build_task(self.encoder, self.noise, facts, seed, lambda num: McleaObjective(self, num))
