"""N3: keeps small what a score multiplies.

Source: Lacroix, Usunier and Obozinski, "Canonical Tensor Decomposition for Knowledge Base Completion" (ICML 2018)
prints a third of the sum; the released code takes the whole, as here.
"""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from snag_dist.config import Config


class CubePenalty(nn.Module):
    """weight * sum of the cubes of the moduli of head, relation and tail."""

    def __init__(self, config: "CubePenaltyConfig"):
        super().__init__()
        self._weight = config.weight

    def forward(self, moduli: Sequence[Tensor]) -> Tensor:
        """Sum the penalty over queries.

        Args:
            moduli: (Q, width) of each factor, non-negative.

        Returns:
            Scalar; the *sum* over the queries, as losses have it.
        """
        return self._weight * sum((part.pow(3).sum() for part in moduli[1:]), moduli[0].pow(3).sum())


class CubePenaltyConfig(Config):
    """N3, for scorers that multiply codes coordinate by coordinate (complex, distmult)."""

    kind: Literal["n3"] = "n3"
    weight: float = Field(default=0.05, gt=0.0)
    """Of the cubes, beside a loss that is a mean over queries; 0.005 to 0.1 in the released code, 0.05 on FB15k-237."""

    def build(self) -> CubePenalty:
        """Build the penalty."""
        return CubePenalty(self)
