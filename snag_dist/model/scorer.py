"""How plausible a triple is: a scorer turns (entity, relation) into a query and compares queries with candidates.

Every score is `similarity(query, candidate)`, where the query stands for the known entity and the relation. So one
query is compared with many candidates at once, in training and in ranking alike, and corrupting heads is no special
case.
"""

import math
from abc import ABC, abstractmethod
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from snag_dist.config import Config
from snag_dist.model.modulus import modulus_distance, modulus_distance_own


class Scorer(nn.Module, ABC):
    """Scores of triples from entity codes (width D) and relation rows.

    Attributes:
        relation_width: columns of a relation row.
        relation_bound: relation rows start uniform in [-bound, bound].
        entity_bound: learned entity rows start uniform in [-bound, bound].
    """

    relation_width: int
    relation_bound: float
    entity_bound: float

    @abstractmethod
    def tail_query(self, heads: Tensor, relations: Tensor) -> Tensor:
        """Queries (Q, D) for the tails of heads (Q, D) and relation rows (Q, relation_width)."""

    @abstractmethod
    def head_query(self, relations: Tensor, tails: Tensor) -> Tensor:
        """Queries (Q, D) for the heads of relation rows and tails."""

    @abstractmethod
    def score(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """Scores (Q, K) of every query (Q, D) with every candidate (K, D); higher is more plausible."""

    @abstractmethod
    def score_own(self, queries: Tensor, candidates: Tensor, index: Tensor) -> Tensor:
        """Scores (Q, K) of each query with its own candidates, rows `index` (Q, K) of candidates (N, D)."""

    def query(self, known: Tensor, relations: Tensor, find_tail: Tensor) -> Tensor:
        """Queries (Q, D) of known entities (Q, D): for the tail where `find_tail` (Q,) holds, else for the head."""
        tails = self.tail_query(known, relations)
        heads = self.head_query(relations, known)
        return torch.where(find_tail.unsqueeze(1), tails, heads)


class RotatE(Scorer):
    """Relations rotate: score = margin - sum_k |h_k exp(i phase_k) - t_k|.

    The sum of moduli over D/2 complex coordinates, not the Frobenius norm. Since |h r - t| = |h - conj(r) t|, a query
    for heads is conj(r) t.

    Source: Sun et al., RotatE (ICLR 2019); margins and ranges as in SNAG's released training.
    """

    def __init__(self, config: "RotatEConfig", width: int):
        super().__init__()
        self._margin = config.margin
        self.relation_width = width // 2
        self.entity_bound = (config.margin + config.epsilon_range) / width
        self.relation_bound = (config.margin + config.epsilon_range) / self.relation_width
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
        return self._margin - modulus_distance(queries, candidates)

    def score_own(self, queries: Tensor, candidates: Tensor, index: Tensor) -> Tensor:
        """See `Scorer.score_own`."""
        return self._margin - modulus_distance_own(queries, candidates, index)

    @staticmethod
    def _rotate(codes: Tensor, phases: Tensor) -> Tensor:
        real, imaginary = codes.chunk(2, dim=-1)
        cosine, sine = torch.cos(phases), torch.sin(phases)
        return torch.cat([real * cosine - imaginary * sine, real * sine + imaginary * cosine], dim=-1)


class RotatEConfig(Config):
    """RotatE with the sum of moduli."""

    kind: Literal["rotate"] = "rotate"
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


ScorerConfig = RotatEConfig
