"""SNAG on alignment: attention over modality tokens under Gaussian noise masking, and three contrastive terms.

GMI compares joint codes, ECIA each modality with pairs weighted by confidence, IIR each modality after attention.

Source: Chen et al., "Noise-powered Multi-modal Knowledge Graph Representation Framework" (COLING 2025,
arXiv 2403.06832), section 3.4.
"""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field
from torch import Tensor

from snag_dist.config import Config
from snag_dist.method.assembly import (
    ALIGNMENT_ATTENTION,
    ALIGNMENT_GMNM,
    UNCERTAINTY_LR_SCALE,
    AlignmentAttention,
    AlignmentNoise,
    build_task,
)
from snag_dist.method.facts import GraphFacts
from snag_dist.model.joint import GlobalMix
from snag_dist.model.views import EntityViews, ViewsConfig
from snag_dist.objective.contrastive import UncertaintyWeights, WeightPlace, contrast_tokens, pair_confidence
from snag_dist.objective.gram import MIN_TEMPERATURE
from snag_dist.objective.losses import LossReport
from snag_dist.task.alignment import AlignmentObjective, AlignmentTask, token_pairs

IDLE_IN_RELEASE: Mapping[str, int] = {
    "projection of names, 300 to 300": 300 * 300 + 300,
    "projection of characters, 100 to 300": 100 * 300 + 300,
    "global weights of names and characters": 2,
    "uncertainty weights of names and characters": 2,
    "weights between the loss terms": 7,
}
"""Parameters the released code registers and does not use on graph, relations, attributes and vision. The published
count of ja_en, 13,820,819, includes them: 39,594 rows x 300 = 11,878,200; projections of 1000, 1000 and 2048 columns
1,215,300; GAT 3,600; attention 361,200 + LayerNorm 600; FFN 240,700 + LayerNorm 600; 4 global and 4 uncertainty
weights; and these 120,611."""


class SnagObjective(AlignmentObjective):
    """L = GMI + ECIA + IIR."""

    def __init__(self, config: "SnagAlignmentConfig", num_tokens: int):
        super().__init__()
        self._config = config
        self.mix = GlobalMix(num_tokens)
        # The released code weighs ECIA and IIR by the same learned weights.
        self.uncertainty = (
            UncertaintyWeights(num_tokens, config.uncertainty_lr_scale)
            if config.modality_weights == "uncertainty"
            else None
        )

    def joint(self, views: EntityViews) -> Tensor:
        """See `AlignmentObjective.joint`: globally weighted."""
        return self.mix(views.tokens, views.present)

    def forward(self, left: EntityViews, right: EntityViews, start: int, stop: int) -> LossReport:
        """See `AlignmentObjective.forward`."""
        config, tau = self._config, self._config.temperature
        weights = [self._global_weights, _confidence] if config.entity_weighted else [self._global_weights]
        phi = pair_confidence(left.confidence[start:stop], right.confidence[start:stop], left.tokens.shape[1])
        joint, before = contrast_tokens(token_pairs(left, right, start, stop, weights=weights), tau, phi, config.phi)
        _, after = contrast_tokens(token_pairs(left, right, start, stop, outputs=True), tau)
        gmi = sum(joint[1:], joint[0])
        share = (stop - start) / len(left.tokens)
        ecia, iir = self._combined(before, share), self._combined(after, share)
        terms = {"gmi": gmi.detach(), "ecia": ecia.detach(), "iir": iir.detach()}
        return LossReport(gmi + ecia + iir, terms)

    def _global_weights(self, views: EntityViews) -> Tensor:
        return self.mix.weights(views.present)

    def _combined(self, losses: list[Tensor], share: float) -> Tensor:
        if self.uncertainty is None:
            return sum(losses[1:], losses[0])
        return self.uncertainty(losses, share)


def _confidence(views: EntityViews) -> Tensor:
    return views.confidence


class SnagAlignmentConfig(Config):
    """SNAG on alignment; every departure of paper and released code from one another is a choice here."""

    kind: Literal["snag_alignment"] = "snag_alignment"
    encoder: ViewsConfig = ViewsConfig()
    """Rows and raw vectors to tokens."""
    attention: AlignmentAttention = ALIGNMENT_ATTENTION
    """The layer over the tokens, FFN 300 to 400 to 300; `gelu` as released, the paper says ReLU."""
    noise: AlignmentNoise = ALIGNMENT_GMNM
    """GMNM, or what replaces it."""
    temperature: float = Field(default=0.1, ge=MIN_TEMPERATURE)
    """tau of all contrasts."""
    entity_weighted: bool = True
    """Contrast the joint codes weighted by confidence too: released code only."""
    phi: WeightPlace = "factor"
    """Where the confidence of a pair enters ECIA: a `factor` on -log p (released), or `inside_log` (printed)."""
    modality_weights: Literal["uncertainty", "sum"] = "uncertainty"
    """How the modalities of ECIA and IIR add up: by learned uncertainty weights (released), or plainly (paper)."""
    uncertainty_lr_scale: float = Field(default=UNCERTAINTY_LR_SCALE, gt=0)
    """Factor on the learning rate of the uncertainty weights; the released code lets them learn five times as fast, the
    paper does not say so."""

    def build_alignment(self, facts: GraphFacts, seed: int) -> AlignmentTask:
        """Build the task, the same on every worker: initial weights are a function of the seed."""
        return build_task(
            self.encoder, self.noise, facts, seed, lambda num: SnagObjective(self, num), attention=self.attention
        )
