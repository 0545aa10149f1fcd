"""Euclidean and L1 distances of many pairs; the sum of moduli is in `snag_dist.model.modulus`."""

import torch
from torch import Tensor

from snag_dist.model.scorer.products import take_own


def euclidean_distance(queries: Tensor, candidates: Tensor) -> Tensor:
    """Euclidean distance of every query to every candidate, by one matrix product.

    |q - c|^2 = |q|^2 + |c|^2 - 2 q.c loses digits where the two are close: the distance is right to about the square
    root of the format's precision times |q|, 3e-4 |q| in float32. Two points that agree to that have distance 0.

    Args:
        queries: (Q, D).
        candidates: (K, D).

    Returns:
        (Q, K) non-negative distances; the gradient is zero where the distance is.
    """
    # In half formats the difference of large squares would be noise.
    left, right = _widen(queries), _widen(candidates)
    squares = left.square().sum(1, keepdim=True) + right.square().sum(1)
    return _root(torch.addmm(squares, left, right.T, alpha=-2.0)).to(queries.dtype)


def euclidean_distance_own(queries: Tensor, candidates: Tensor, index: Tensor) -> Tensor:
    """Euclidean distance (Q, K) of each query (Q, D) to rows `index` (Q, K) of candidates (N, D), by differences."""
    return _root((queries.unsqueeze(1) - take_own(candidates, index)).square().sum(2))


def l1_distance(queries: Tensor, candidates: Tensor) -> Tensor:
    """Sum of absolute differences (Q, K) of every query (Q, D) to every candidate (K, D); none of (Q, K, D) is made."""
    # cdist knows no half formats.
    return torch.cdist(_widen(queries), _widen(candidates), p=1.0).to(queries.dtype)


def l1_distance_own(queries: Tensor, candidates: Tensor, index: Tensor) -> Tensor:
    """Sum of absolute differences (Q, K) of each query (Q, D) to rows `index` (Q, K) of candidates (N, D)."""
    return (queries.unsqueeze(1) - take_own(candidates, index)).abs().sum(2)


def _widen(codes: Tensor) -> Tensor:
    return codes if codes.dtype == torch.float64 else codes.float()


def _root(squares: Tensor) -> Tensor:
    # The root has no finite slope at 0: there the square is replaced by a constant, whose slope is 0.
    positive = squares > 0
    return torch.where(positive, squares.masked_fill(~positive, 1.0).sqrt(), torch.zeros_like(squares))
