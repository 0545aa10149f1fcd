"""ComplEx: relations stretch and turn coordinates."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from snag_dist.config import Config
from snag_dist.model.scorer.products import Factorisation, unit_bound
from snag_dist.model.scorer.rounding import ProductRounding
from snag_dist.model.scorer.seam import Scorer, check_even


class ComplEx(Factorisation):
    """score = Re sum_k h_k r_k conj(t_k) over D/2 complex coordinates, real half then imaginary half.

    Re(a conj(b)) is the inner product of a and b as vectors of the plane, so a query for tails is h r, and one for
    heads is conj(r) t.

    Source: Trouillon et al., "Complex Embeddings for Simple Link Prediction" (ICML 2016).
    """

    def __init__(self, config: "ComplExConfig", width: int):
        super().__init__()
        self.relation_width = check_even(width, config.kind)
        self.entity_bound = config.entity_bound or unit_bound(width)
        self.relation_bound = config.relation_bound or unit_bound(width)
        self.rounding = ProductRounding(width)

    def tail_query(self, heads: Tensor, relations: Tensor) -> Tensor:
        """See `Scorer.tail_query`."""
        return _multiply(heads, *relations.chunk(2, dim=1))

    def head_query(self, relations: Tensor, tails: Tensor) -> Tensor:
        """See `Scorer.head_query`."""
        real, imaginary = relations.chunk(2, dim=1)
        return _multiply(tails, real, -imaginary)

    def query(self, known: Tensor, relations: Tensor, find_tail: Tensor) -> Tensor:
        """See `Scorer.query`; for heads the relation is conjugated."""
        real, imaginary = relations.chunk(2, dim=1)
        return _multiply(known, real, torch.where(find_tail.unsqueeze(1), imaginary, -imaginary))

    def moduli(self, factors: Tensor) -> Tensor:
        """See `Factorisation.moduli`; the gradient is zero where a coordinate is."""
        real, imaginary = factors.chunk(2, dim=1)
        squares = real.square() + imaginary.square()
        return torch.where(squares > 0, squares, 1.0).sqrt() * (squares > 0)


def _multiply(codes: Tensor, factor_real: Tensor, factor_imaginary: Tensor) -> Tensor:
    real, imaginary = codes.chunk(2, dim=1)
    return torch.cat(
        [
            real * factor_real - imaginary * factor_imaginary,
            real * factor_imaginary + imaginary * factor_real,
        ],
        dim=1,
    )


class ComplExConfig(Config):
    """Product of three complex numbers, coordinate by coordinate."""

    kind: Literal["complex"] = "complex"
    entity_bound: float | None = Field(default=None, gt=0)
    """Bound of the initial values of entity rows; unset: rows start at length 1."""
    relation_bound: float | None = Field(default=None, gt=0)
    """The same of relation rows."""

    def build(self, width: int) -> Scorer:
        """Build for entity codes of `width`."""
        return ComplEx(self, width)
