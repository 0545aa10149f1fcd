"""EVA: a GCN beside the modalities, aligned by neighbourhood component analysis; joint codes learn their weights only.

Source: Liu et al., "Visual Pivoting for (Unsupervised) Entity Alignment" (AAAI 2021), as run beside SNAG: every
modality 300 wide.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from snag_dist.config import Config
from snag_dist.method.assembly import AlignmentNoise, build_task, over
from snag_dist.method.facts import GraphFacts
from snag_dist.model.joint import GlobalMix
from snag_dist.model.noise import NoNoiseConfig
from snag_dist.model.structure import GcnConfig
from snag_dist.model.views import EntityViews, ViewsConfig
from snag_dist.objective.contrastive import neighbourhood_loss
from snag_dist.objective.losses import LossReport
from snag_dist.task.alignment import AlignmentObjective, AlignmentTask, joint_pairs, modality_pairs

IDLE_IN_RELEASE: Mapping[str, int] = {"global weights of names and characters": 2}
"""As in `snag_alignment`. The published count of ja_en, 13,274,106: rows 11,878,200; projections 1,215,300; GCN two
times 300 x 300 + 300 = 180,600; 4 global weights; and these 2."""


class EvaObjective(AlignmentObjective):
    """L = NCA(joint, its pieces without gradient) + sum_m NCA(modality m)."""

    def __init__(self, config: "EvaConfig", num_tokens: int):
        super().__init__()
        self._config = config
        self.mix = GlobalMix(num_tokens)

    def joint(self, views: EntityViews) -> Tensor:
        """See `AlignmentObjective.joint`."""
        return self.mix(views.tokens.detach(), views.present)

    def weights(self, views: EntityViews) -> Tensor:
        """See `AlignmentObjective.weights`: those of the joint code, the same for all entities."""
        return self.mix.shares(views.present)

    def forward(self, left: EntityViews, right: EntityViews, start: int, stop: int) -> LossReport:
        """See `AlignmentObjective.forward`."""
        config = self._config
        joint = neighbourhood_loss(joint_pairs(self.joint, left, right, start, stop), config.alpha, config.beta)
        graph, *others = modality_pairs(left, right, start, stop)
        modalities = neighbourhood_loss(graph, config.graph_alpha, config.beta)
        for pairs in others:
            modalities = modalities + neighbourhood_loss(pairs, config.alpha, config.beta)
        return LossReport(joint + modalities, {"joint": joint.detach(), "modalities": modalities.detach()})


class EvaConfig(Config):
    """EVA."""

    kind: Literal["eva"] = "eva"
    encoder: Annotated[ViewsConfig, over({"structure": {"kind": "gcn"}})] = ViewsConfig(structure=GcnConfig())
    """Rows and raw vectors to tokens."""
    noise: AlignmentNoise = NoNoiseConfig()
    """`gaussian` puts GMNM on all inputs."""
    alpha: float = Field(default=15.0, gt=0)
    """Sharpness of the losses on joint codes and on all modalities but the graph."""
    graph_alpha: float = Field(default=5.0, gt=0)
    """Sharpness of the loss on graph tokens."""
    beta: float = Field(default=10.0, ge=0)
    """Weight of the linked pairs."""

    def build_alignment(self, facts: GraphFacts, seed: int) -> AlignmentTask:
        """Build the task, the same on every worker: initial weights are a function of the seed."""
        # Xavier, for rows and projections.
        row_std = (2.0 / (facts.num_entities + self.encoder.width)) ** 0.5
        return build_task(
            self.encoder, self.noise, facts, seed, lambda num: EvaObjective(self, num), row_std=row_std, prepare=_xavier
        )


def _xavier(encoder: nn.Module) -> None:
    for module in encoder.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_normal_(module.weight)
