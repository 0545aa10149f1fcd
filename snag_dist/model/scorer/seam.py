"""What all scorers promise."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from snag_dist.errors import ConfigError
from snag_dist.model.scorer.rounding import Rounding


class Scorer(nn.Module, ABC):
    """Scores of triples from entity codes (width D) and relation rows.

    Attributes:
        relation_width: columns of a relation row.
        relation_bound: relation rows start uniform in [-bound, bound].
        entity_bound: learned entity rows start uniform in [-bound, bound].
        rounding: bounds the error of scores; None where there is no bound that is of use.
    """

    relation_width: int
    relation_bound: float
    entity_bound: float
    rounding: Rounding | None = None

    @abstractmethod
    def tail_query(self, heads: Tensor, relations: Tensor) -> Tensor:
        """Queries (Q, D) for the tails of heads (Q, D) and relation rows (Q, relation_width)."""

    @abstractmethod
    def head_query(self, relations: Tensor, tails: Tensor) -> Tensor:
        """Queries (Q, D) for the heads of relation rows and tails."""

    @abstractmethod
    def score(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """Scores (Q, K) of every query (Q, D) with every candidate (K, D); higher is more plausible.

        A pair's score may round differently in calls of another shape, as matrix products do; exact ranking keeps to
        fixed shapes.
        """

    @abstractmethod
    def score_own(self, queries: Tensor, candidates: Tensor, index: Tensor) -> Tensor:
        """Scores (Q, K) of each query with its own candidates, rows `index` (Q, K) of candidates (N, D)."""

    def query(self, known: Tensor, relations: Tensor, find_tail: Tensor) -> Tensor:
        """Queries (Q, D) of known entities (Q, D): for the tail where `find_tail` (Q,) holds, else for the head."""
        tails = self.tail_query(known, relations)
        heads = self.head_query(relations, known)
        return torch.where(find_tail.unsqueeze(1), tails, heads)


def check_even(width: int, kind: str) -> int:
    """Return `width` if codes of it can be halved into real and imaginary parts.

    Raises:
        ConfigError: it is odd.
    """
    if width % 2:
        raise ConfigError(
            f"method.encoder.width: expected an even number for the scorer {kind!r}, whose codes are halves of real "
            f"and imaginary parts, got {width}; change the width or the scorer"
        )
    return width
