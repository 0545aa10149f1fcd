"""How far a computed score may lie from the true one: bounds that always hold, from the sizes of the codes alone.

A format rounds to a relative half of its `eps`, u. By the standard model, n such steps together change a sum of
non-negative terms by a share of n u / (1 - n u) at most, in whatever order it is added and with fused additions or
without. What underflows, also where the machine replaces it by zero, adds a multiple of the smallest normal number.
Where a sum could overflow, and where codes are not finite, the bound is infinite. It covers that codes and queries of
another format were rounded first. A hundredth is added for the rounding of the bound itself.

Source: Higham, "Accuracy and Stability of Numerical Algorithms" (2nd ed., 2002), Lemma 3.1 and section 3.1.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

# Share that matrix products of float32 round their factors to, by torch's setting; on a GPU "high" cuts to 10 bits.
_FACTORS = {"highest": 2.0**-24, "high": 2.0**-10, "medium": 2.0**-8}
# Share that a step of a sum in float32 rounds to, where a unit for matrices cuts off instead of rounding.
_CUT_OFF = 2.0**-22
_SLACK = 1.01


class Rounding(ABC):
    """What rounding may do to a scorer's scores.

    Attributes:
        first_passes: formats in which a first look at all candidates may be worth while.
    """

    first_passes: frozenset[torch.dtype]

    @abstractmethod
    def size(self, codes: Tensor) -> Tensor:
        """How large codes or queries (N, D) are: (N,) float64 that the bounds grow with."""

    @abstractmethod
    def error(self, sizes: Tensor, largest: float, dtype: torch.dtype) -> Tensor:
        """Bound the error of scores computed in a format, by `score` or `score_own`.

        Args:
            sizes: (Q,) of queries.
            largest: size of the largest candidate.
            dtype: the format.

        Returns:
            (Q,) float64, most that a score of the query with any candidate may lie off the score of exact arithmetic.
        """


class ProductRounding(Rounding):
    """Of an inner product of D coordinates: |q| |c| bounds the sum of its terms' moduli (Cauchy and Schwarz).

    Factors of bfloat16 are multiplied exactly and added in float32, and the sum is rounded to bfloat16.
    """

    first_passes = frozenset({torch.float32, torch.bfloat16})

    def __init__(self, width: int):
        self._width = width

    def size(self, codes: Tensor) -> Tensor:
        """See `Rounding.size`: the Euclidean length."""
        # Squares of numbers below 2^-511 underflow.
        return codes.to(torch.float64).square().sum(1).sqrt() + math.sqrt(self._width) * 2.0**-510

    def error(self, sizes: Tensor, largest: float, dtype: torch.dtype) -> Tensor:
        """See `Rounding.error`."""
        info = torch.finfo(dtype)
        unit = info.eps / 2
        factor, step = {
            torch.float64: (unit, unit),
            torch.float32: (_FACTORS[torch.get_float32_matmul_precision()], unit),
            torch.bfloat16: (unit, _CUT_OFF),
        }[dtype]
        if factor > 2.0**-24:
            step = max(step, _CUT_OFF)
        total = sizes * largest
        share = _share(2 * factor + unit + (self._width + 4) * step)
        lost = info.tiny * (math.sqrt(self._width) * (sizes + largest) + 2 * self._width + 2)
        fits = (2 * total < info.max / 8) & (sizes + largest < info.max / 8)
        return torch.where(fits, _SLACK * (share * total + lost), torch.inf)


class DistanceRounding(Rounding):
    """Of margin - sum_k |q_k - c_k| over coordinates, which are real (L1) or complex, real half then imaginary half.

    A distance is at most the sum of both sizes. A modulus takes no more than six steps; squares that underflow add the
    root of what is lost.
    """

    first_passes = frozenset({torch.float32})

    def __init__(self, width: int, margin: float, *, halved: bool):
        self._terms = width // 2 if halved else width
        self._margin = margin
        self._halved = halved

    def size(self, codes: Tensor) -> Tensor:
        """See `Rounding.size`: the sum of the moduli of the coordinates."""
        wide = codes.to(torch.float64)
        return torch.hypot(*wide.chunk(2, dim=1)).sum(1) if self._halved else wide.abs().sum(1)

    def error(self, sizes: Tensor, largest: float, dtype: torch.dtype) -> Tensor:
        """See `Rounding.error`."""
        info = torch.finfo(dtype)
        unit = info.eps / 2
        total = sizes + largest
        share = _share((self._terms + 16) * unit)
        lost = self._terms * 3 * math.sqrt(info.tiny)
        fits = (total < math.sqrt(info.max / 8)) & (self._margin < info.max / 8)
        return torch.where(fits, _SLACK * (share * total + 3 * unit * self._margin + lost), torch.inf)


def _share(steps: float) -> float:
    return steps / (1 - steps) if steps < 1 else math.inf
