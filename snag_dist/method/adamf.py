"""AdaMF: modalities weighted anew for every entity; with an adversary it is AdaMF-MAT.

What differs from the released code:
- Feature tables are frozen: raw vectors stay as stored, and only the maps to tokens learn. There they are parameters,
  which start at the raw vectors and are trained along.
- The players step at once: both gradients are taken of the same weights, on the same batch, before either moves. There
  they take turns, and the second one plays against what the first one has just become.
- With an adversary its weight mu is above 0 unless a recipe says otherwise; the released commands pass 0, which leaves
  the model plain AdaMF.

Source: Zhang et al., "Unleashing the Power of Imbalanced Modality Information for Multi-modal Knowledge Graph
Completion" (LREC-COLING 2024, arXiv 2402.15444).
"""

from typing import Annotated, Literal, Self

import torch
from pydantic import model_validator

from snag_dist.config import Config
from snag_dist.kg.truth import TruthIndex
from snag_dist.method.assembly import over
from snag_dist.method.facts import GraphFacts, draw_completion, draw_sampler
from snag_dist.model.encoder import EncoderConfig
from snag_dist.model.fusion import AttentiveSumFusionConfig
from snag_dist.model.noise import NoiseConfig, NoNoiseConfig
from snag_dist.model.scorer import RotatEConfig, ScorerConfig
from snag_dist.objective.choices import LossConfig
from snag_dist.objective.cubes import CubePenaltyConfig
from snag_dist.objective.losses import SelfAdversarialConfig
from snag_dist.sampling.negatives import NegativeSampler, NegativesConfig, SharedConfig
from snag_dist.task.adversarial import Adversary, AdversaryConfig
from snag_dist.task.completion import CompletionTask


class AdamfConfig(Config):
    """AdaMF, and AdaMF-MAT where there is an adversary."""

    kind: Literal["adamf"] = "adamf"
    encoder: Annotated[EncoderConfig, over({"fusion": {"kind": "attentive_sum"}})] = EncoderConfig(
        fusion=AttentiveSumFusionConfig()
    )
    """Modalities to codes: softmax_m(w^T tanh(e_m)) over the tokens."""
    noise: NoiseConfig = NoNoiseConfig()
    """`gaussian` puts GMNM on all inputs."""
    scorer: ScorerConfig = RotatEConfig()
    """Codes to scores."""
    loss: LossConfig = SelfAdversarialConfig()
    """Scores to loss."""
    reciprocal: bool = False
    """Every relation has an inverse of its own, and heads are sought as its tails."""
    penalty: CubePenaltyConfig | None = None
    """N3 beside the loss, with scorers that multiply codes (complex, distmult)."""
    negatives: NegativesConfig = SharedConfig()
    """Which false triples are drawn; none are where the loss looks at all entities."""
    adversary: AdversaryConfig | None = None
    """Given, generators play against the model (AdaMF-MAT)."""

    @model_validator(mode="after")
    def _check_loss(self) -> Self:
        if self.adversary is not None and self.loss.kind == "all_entities":
            raise ValueError("adversary: it plays on sampled negatives; leave it out, or set loss.kind to another loss")
        return self

    def build_completion(self, facts: GraphFacts, seed: int) -> CompletionTask:
        """Build the task, the same on every worker: initial weights are a function of the seed."""
        return draw_completion(self, facts, seed)

    def build_adversary(self, facts: GraphFacts, seed: int) -> Adversary | None:
        """Build the second player, None for plain AdaMF; the same on every worker."""
        if self.adversary is None:
            return None
        with torch.random.fork_rng(devices=[]):  # pyright: ignore[reportUnknownMemberType]
            torch.manual_seed(seed + 1)  # pyright: ignore[reportUnknownMemberType]
            return Adversary(self.adversary, tuple(facts.modalities), self.encoder.width)

    def build_sampler(self, truth: TruthIndex) -> NegativeSampler:
        """Build the sampler over the known-true training triples."""
        return draw_sampler(self, truth)
