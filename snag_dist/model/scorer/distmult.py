"""DistMult: relations stretch coordinates."""

from typing import Literal

from pydantic import Field
from torch import Tensor

from snag_dist.config import Config
from snag_dist.model.scorer.products import Factorisation, unit_bound
from snag_dist.model.scorer.rounding import ProductRounding
from snag_dist.model.scorer.seam import Scorer


class DistMult(Factorisation):
    """score = sum_k h_k r_k t_k; every relation is symmetric.

    Source: Yang et al., "Embedding Entities and Relations for Learning and Inference in Knowledge Bases" (ICLR 2015).
    """

    def __init__(self, config: "DistMultConfig", width: int):
        super().__init__()
        self.relation_width = width
        self.entity_bound = config.entity_bound or unit_bound(width)
        self.relation_bound = config.relation_bound or unit_bound(width)
        self.rounding = ProductRounding(width)

    def tail_query(self, heads: Tensor, relations: Tensor) -> Tensor:
        """See `Scorer.tail_query`."""
        return heads * relations

    def head_query(self, relations: Tensor, tails: Tensor) -> Tensor:
        """See `Scorer.head_query`."""
        return tails * relations

    def query(self, known: Tensor, relations: Tensor, find_tail: Tensor) -> Tensor:
        """See `Scorer.query`; both sides are alike."""
        return known * relations

    def moduli(self, factors: Tensor) -> Tensor:
        """See `Factorisation.moduli`."""
        return factors.abs()


class DistMultConfig(Config):
    """Product of three, coordinate by coordinate."""

    kind: Literal["distmult"] = "distmult"
    entity_bound: float | None = Field(default=None, gt=0)
    """Bound of the initial values of entity rows; unset: rows start at length 1."""
    relation_bound: float | None = Field(default=None, gt=0)
    """The same of relation rows."""

    def build(self, width: int) -> Scorer:
        """Build for entity codes of `width`."""
        return DistMult(self, width)
