"""RotatE: relations turn coordinates."""

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from snag_dist.config import Config
from snag_dist.model.modulus import modulus_distance, modulus_distance_own
from snag_dist.model.scorer.distances import euclidean_distance, euclidean_distance_own
from snag_dist.model.scorer.rounding import DistanceRounding
from snag_dist.model.scorer.seam import Scorer, check_even


class RotatE(Scorer):
    """Relations rotate: score = margin - |h exp(i phase) - t| over D/2 complex coordinates.

    |.| is one of two norms, which give other scores and other rankings: the sum over coordinates of the modulus, as
    published, or the Frobenius norm, the root of the sum of squared moduli, as PyKEEN has it. Turning keeps either:
    |h r - t| = |h - conj(r) t|, so a query for heads is conj(r) t.

    Source: Sun et al., RotatE (ICLR 2019); margins and ranges as in SNAG's released training.
    """

    def __init__(self, config: "RotatEConfig", width: int):
        super().__init__()
        self._margin = config.margin
        self._norm = config.norm
        self.relation_width = check_even(width, config.kind) // 2
        self.entity_bound = (config.margin + config.epsilon_range) / width
        self.relation_bound = (config.margin + config.epsilon_range) / self.relation_width
        # The root of a difference of squares has no bound that would tell candidates apart.
        modulus = config.norm == "modulus"
        self.rounding = DistanceRounding(width, config.margin, halved=True) if modulus else None
        self._radians = math.pi / (config.relation_range or self.relation_bound)

    def tail_query(self, heads: Tensor, relations: Tensor) -> Tensor:
        """See `Scorer.tail_query`."""
        return self._rotate(heads, relations * self._radians)

    def head_query(self, relations: Tensor, tails: Tensor) -> Tensor:
        """See `Scorer.head_query`."""
        return self._rotate(tails, relations * -self._radians)

    def query(self, known: Tensor, relations: Tensor, find_tail: Tensor) -> Tensor:
        """See `Scorer.query`; turning back is turning by the negative phase."""
        sign = torch.where(find_tail, self._radians, -self._radians).to(relations.dtype)
        return self._rotate(known, relations * sign.unsqueeze(1))

    def score(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """See `Scorer.score`."""
        distance = modulus_distance if self._norm == "modulus" else euclidean_distance
        return self._margin - distance(queries, candidates)

    def score_own(self, queries: Tensor, candidates: Tensor, index: Tensor) -> Tensor:
        """See `Scorer.score_own`."""
        distance = modulus_distance_own if self._norm == "modulus" else euclidean_distance_own
        return self._margin - distance(queries, candidates, index)

    @staticmethod
    def _rotate(codes: Tensor, phases: Tensor) -> Tensor:
        real, imaginary = codes.chunk(2, dim=-1)
        cosine, sine = torch.cos(phases), torch.sin(phases)
        return torch.cat([real * cosine - imaginary * sine, real * sine + imaginary * cosine], dim=-1)


class RotatEConfig(Config):
    """Distance of the turned head to the tail."""

    kind: Literal["rotate"] = "rotate"
    norm: Literal["modulus", "frobenius"] = "modulus"
    """`modulus` sums the moduli of the coordinates (RotatE, SNAG); `frobenius` is the root of their summed squares, by
    a matrix product."""
    margin: float = Field(default=12.0, gt=0)
    """Score of a perfect match; 12 in SNAG."""
    epsilon_range: float = Field(default=2.0, ge=0)
    """Added to the margin in the range of the initial values."""
    relation_range: float | None = None
    """Relation value that stands for the phase pi; unset: the bound of the initial values, so that phases start uniform
    over the circle."""

    def build(self, width: int) -> Scorer:
        """Build for entity codes of `width`."""
        return RotatE(self, width)
