"""Losses over scores of true and false triples."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from snag_dist.config import Config


@dataclass(frozen=True)
class LossReport:
    """What a batch cost.

    Attributes:
        loss: scalar to differentiate.
        terms: scalars to log, detached; their meaning is their name.
    """

    loss: Tensor
    terms: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])

    def detach(self) -> "LossReport":
        """Return the same numbers without the way they were made."""
        return replace(self, loss=self.loss.detach())


class RankingLoss(nn.Module, ABC):
    """Pushes true triples above false ones."""

    @abstractmethod
    def forward(self, true_scores: Tensor, false_scores: Tensor, excluded: Tensor) -> LossReport:
        """Sum the loss over queries.

        Args:
            true_scores: (Q,).
            false_scores: (Q, K).
            excluded: (Q, K) bool, candidates that are no false triples.

        Returns:
            The *sum* over the queries, so that slices of a batch add up to the batch at any number of workers.
        """


class SelfAdversarialLoss(RankingLoss):
    """-1/2 [log s(true) + sum_k w_k log s(-false_k)], w = softmax_k(temperature * false) without gradient.

    Hard negatives weigh more, as in the released code; eq. (9) of the paper prints the opposite sign.

    Source: Sun et al., RotatE, eq. (5)-(6); SNAG, eq. (9).
    """

    def __init__(self, config: "SelfAdversarialConfig"):
        super().__init__()
        self._temperature = config.temperature
        self._sign = 1.0 if config.weight_on == "hard" else -1.0

    def forward(self, true_scores: Tensor, false_scores: Tensor, excluded: Tensor) -> LossReport:
        """See `RankingLoss.forward`."""
        logits = false_scores.detach() * (self._sign * self._temperature)
        logits = logits.masked_fill(excluded, torch.finfo(logits.dtype).min)
        weights = torch.softmax(logits, dim=1)
        negative = -(weights * functional.logsigmoid(-false_scores)).masked_fill(excluded, 0.0).sum(dim=1)
        positive = -functional.logsigmoid(true_scores)
        terms = {"positive": positive.detach().sum(), "negative": negative.detach().sum()}
        return LossReport(0.5 * (positive + negative).sum(), terms)


class SelfAdversarialConfig(Config):
    """Self-adversarial negative sampling."""

    kind: Literal["self_adversarial"] = "self_adversarial"
    temperature: float = Field(default=2.0, ge=0.0)
    """Sharpness of the weights over negatives; 0 weighs all alike."""
    weight_on: Literal["hard", "easy"] = "hard"
    """Which negatives weigh more: `hard` (released code) or `easy` (the paper's eq. (9) as printed)."""

    def build(self) -> RankingLoss:
        """Build the loss."""
        return SelfAdversarialLoss(self)
