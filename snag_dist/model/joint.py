"""The joint code of an entity: its modality tokens, each at unit length, weighted and laid side by side.

Two weightings: one for the whole graph, learned (GMI of SNAG; also EVA and MCLEA), and one for each entity, the
confidence of its tokens (SNAG, MEAformer).
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from snag_dist.shapes import match_shape

Combination = Literal["concat", "mean"]


class GlobalMix(nn.Module):
    """Weights softmax(w)_m, the same for all entities.

    Source: SNAG, global modality integration; EVA; MCLEA, joint embedding.
    """

    def __init__(self, num_tokens: int, combination: Combination = "concat"):
        """Start with equal weights; `combination` lays the weighted tokens side by side or takes their mean."""
        super().__init__()
        self._combination = combination
        self.weight = nn.Parameter(torch.ones(num_tokens))

    def shares(self, present: Tensor) -> Tensor:
        """Weights (N, M) of the present tokens, summing to 1 for each entity; absent ones have 0."""
        logits = self.weight.expand(present.shape).masked_fill(~present, float("-inf"))
        return torch.softmax(logits, dim=-1)

    def weights(self, present: Tensor) -> Tensor:
        """Weights (N, M) as they enter joint codes: the same for all entities, 0 for absent tokens."""
        weights = torch.softmax(self.weight, dim=0)
        return weights * present.to(weights.dtype)

    def forward(self, tokens: Tensor, present: Tensor) -> Tensor:
        """Join the tokens of each entity.

        Args:
            tokens: (N, M, D).
            present: (N, M) bool; an absent token enters as zeros, and the weights of the others stay as they are.

        Returns:
            (N, M * D), or (N, D) for the mean; not of unit length.
        """
        pieces = _at_unit_length(tokens, self.weights(present).to(tokens.dtype))
        return pieces.mean(dim=1) if self._combination == "mean" else pieces.flatten(1)


def join_by_confidence(tokens: Tensor, confidence: Tensor) -> Tensor:
    """Join the tokens of each entity by its own weights.

    Args:
        tokens: (N, M, D).
        confidence: (N, M), 0 where a token is absent.

    Returns:
        (N, M * D), not of unit length; differentiable in both.

    Source: MEAformer, joint embedding by entity-level weights; SNAG's released code.
    """
    match_shape(confidence, "confidence", *tokens.shape[:2])
    return _at_unit_length(tokens, confidence.to(tokens.dtype)).flatten(1)


def _at_unit_length(tokens: Tensor, weights: Tensor) -> Tensor:
    return functional.normalize(tokens, dim=-1) * weights.unsqueeze(-1)
