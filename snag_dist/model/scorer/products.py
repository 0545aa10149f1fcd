"""Inner products of queries with candidates, and the scorers that multiply codes coordinate by coordinate."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from snag_dist.model.scorer.seam import Scorer


def all_products(queries: Tensor, candidates: Tensor) -> Tensor:
    """Inner products (Q, K) of every query (Q, D) with every candidate (K, D): one matrix product."""
    return queries @ candidates.T


def own_products(queries: Tensor, candidates: Tensor, index: Tensor) -> Tensor:
    """Inner products (Q, K) of each query (Q, D) with rows `index` (Q, K) of candidates (N, D)."""
    return torch.bmm(take_own(candidates, index), queries.unsqueeze(2)).squeeze(2)


def take_own(candidates: Tensor, index: Tensor) -> Tensor:
    """Rows `index` (Q, K) of candidates (N, D), as (Q, K, D)."""
    return candidates.index_select(0, index.reshape(-1)).view(*index.shape, -1)


def unit_bound(width: int) -> float:
    """Bound of uniform values at which a row of `width` has length 1 in expectation of its square.

    Source: the variance 1 / width of Glorot and Bengio (AISTATS 2010), with fan-in and fan-out both `width`.
    """
    return math.sqrt(3.0 / width)


class Factorisation(Scorer, ABC):
    """A scorer whose score is a sum over coordinates of head times relation times tail.

    Relation rows are laid out like codes. Such scores factorise the tensor of all triples, and can be kept small by the
    cubes of the factors (N3).
    """

    @abstractmethod
    def moduli(self, factors: Tensor) -> Tensor:
        """Absolute values of the coordinates of codes or relation rows (Q, D): (Q, D) real or (Q, D/2) complex ones."""

    def score(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """See `Scorer.score`."""
        return all_products(queries, candidates)

    def score_own(self, queries: Tensor, candidates: Tensor, index: Tensor) -> Tensor:
        """See `Scorer.score_own`."""
        return own_products(queries, candidates, index)
