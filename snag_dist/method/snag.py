"""SNAG: a transformer layer over modality tokens, trained under Gaussian modality noise masking.

Source: Chen et al., "Noise-powered Multi-modal Knowledge Graph Representation Framework" (COLING 2025,
arXiv 2403.06832).
"""

from typing import Literal

from snag_dist.config import Config
from snag_dist.kg.truth import TruthIndex
from snag_dist.method.facts import GraphFacts, draw_completion, draw_sampler
from snag_dist.model.encoder import EncoderConfig
from snag_dist.model.noise import GaussianNoiseConfig, NoiseConfig
from snag_dist.model.scorer import RotatEConfig, ScorerConfig
from snag_dist.objective.choices import LossConfig
from snag_dist.objective.cubes import CubePenaltyConfig
from snag_dist.objective.losses import SelfAdversarialConfig
from snag_dist.sampling.negatives import NegativeSampler, NegativesConfig, SharedConfig
from snag_dist.task.adversarial import Adversary
from snag_dist.task.completion import CompletionTask


class SnagConfig(Config):
    """SNAG on completion; every departure of paper and released code from one another is a choice here."""

    kind: Literal["snag"] = "snag"
    encoder: EncoderConfig = EncoderConfig()
    """Modalities to codes."""
    noise: NoiseConfig = GaussianNoiseConfig()
    """GMNM, or what replaces it."""
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

    def build_completion(self, facts: GraphFacts, seed: int) -> CompletionTask:
        """Build the task, the same on every worker: initial weights are a function of the seed."""
        return draw_completion(self, facts, seed)

    def build_adversary(self, facts: GraphFacts, seed: int) -> Adversary | None:
        """SNAG plays alone."""
        return None

    def build_sampler(self, truth: TruthIndex) -> NegativeSampler:
        """Build the sampler over the known-true training triples."""
        return draw_sampler(self, truth)
