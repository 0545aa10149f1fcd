"""What learned rows are before training: a function of (seed, row id)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from snag_dist.random import Stream


@dataclass(frozen=True)
class InitialRows:
    """What rows are before training.

    Attributes:
        distribution: `uniform` in [-scale, scale], or `normal` with standard deviation `scale`.
        scale: of it.
    """

    distribution: Literal["uniform", "normal"]
    scale: float

    def draw(self, stream: Stream, ids: Tensor, width: int) -> Tensor:
        """Draw (N, width) float64 rows of `ids` (N,)."""
        if self.distribution == "normal":
            return stream.normal(ids, width, torch.float64) * self.scale
        return (2.0 * stream.uniform(ids, width, torch.float64) - 1.0) * self.scale
