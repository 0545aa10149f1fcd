"""Generators of fake modality tokens: noise and the entity's own code in, a token that should pass for real out."""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from snag_dist.config import Config
from snag_dist.model.dropout import no_dropout
from snag_dist.model.fusion import Fused, Fusion
from snag_dist.random import Moment


class GeneratorConfig(Config):
    """The generators of AdaMF-MAT."""

    noise_width: int = Field(default=64, ge=1)
    """Columns of the noise."""
    hidden_width: int = Field(default=512, ge=1)
    """Columns between the two linear maps."""
    condition: Literal["joint", "graph"] = "joint"
    """What a fake is made for: the entity's joint code (paper), or its graph token (released code)."""


class Generators(nn.Module):
    """One generator a modality: [z; code] -> linear -> LeakyReLU(.01) -> linear -> token.

    Source: Zhang et al., "Unleashing the Power of Imbalanced Modality Information" (AdaMF-MAT, LREC-COLING 2024).
    """

    def __init__(self, config: GeneratorConfig, modalities: Sequence[str], width: int):
        super().__init__()
        self._config = config
        self._names = tuple(sorted(modalities))
        self.networks = nn.ModuleList(
            nn.Sequential(
                nn.Linear(config.noise_width + width, config.hidden_width),
                nn.LeakyReLU(0.01),
                nn.Linear(config.hidden_width, width),
            )
            for _ in self._names
        )

    def forward(self, fused: Fused, ids: Tensor, moment: Moment) -> Tensor:
        """Make fake tokens.

        Args:
            fused: of N entities, whose tokens are those before fusion, graph first.
            ids: (N,) row ids; with the step they key the noise.
            moment: of training.

        Returns:
            (N, M, D): the true graph token, then a fake one for each modality by name.
        """
        graph = fused.tokens[:, 0]
        condition = fused.codes if self._config.condition == "joint" else graph
        tokens = [graph]
        for name, network in zip(self._names, self.networks, strict=True):
            stream = moment.each_step(f"generate/{name}")
            noise = stream.normal(ids, self._config.noise_width, torch.float32).to(condition.dtype)
            tokens.append(network(torch.cat([noise, condition], dim=1)))
        return torch.stack(tokens, dim=1)

    def codes(self, fusion: Fusion, fused: Fused, ids: Tensor, moment: Moment) -> Tensor:
        """Fake codes (N, D): the fusion of the true graph token with fakes of all modalities."""
        tokens: Tensor = self(fused, ids, moment)
        everything = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        again: Fused = fusion(tokens, everything, no_dropout(ids))
        return again.codes
