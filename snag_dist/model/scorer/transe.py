"""TransE: relations move codes."""

from typing import Literal

from pydantic import Field
from torch import Tensor

from snag_dist.config import Config
from snag_dist.model.scorer.distances import euclidean_distance, euclidean_distance_own, l1_distance, l1_distance_own
from snag_dist.model.scorer.rounding import DistanceRounding
from snag_dist.model.scorer.seam import Scorer


class TransE(Scorer):
    """score = margin - |h + r - t|. Since |h + r - t| = |h - (t - r)|, a query for heads is t - r.

    Source: Bordes et al., "Translating Embeddings for Modeling Multi-relational Data" (NIPS 2013); margin and ranges as
    in the released code of RotatE, which trains TransE the same way.
    """

    def __init__(self, config: "TransEConfig", width: int):
        super().__init__()
        self._margin = config.margin
        self._norm = config.norm
        self.relation_width = width
        self.entity_bound = self.relation_bound = (config.margin + config.epsilon_range) / width
        # As of RotatE: no bound of use for the Euclidean norm.
        self.rounding = DistanceRounding(width, config.margin, halved=False) if config.norm == "l1" else None

    def tail_query(self, heads: Tensor, relations: Tensor) -> Tensor:
        """See `Scorer.tail_query`."""
        return heads + relations

    def head_query(self, relations: Tensor, tails: Tensor) -> Tensor:
        """See `Scorer.head_query`."""
        return tails - relations

    def score(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """See `Scorer.score`."""
        distance = l1_distance if self._norm == "l1" else euclidean_distance
        return self._margin - distance(queries, candidates)

    def score_own(self, queries: Tensor, candidates: Tensor, index: Tensor) -> Tensor:
        """See `Scorer.score_own`."""
        distance = l1_distance_own if self._norm == "l1" else euclidean_distance_own
        return self._margin - distance(queries, candidates, index)


class TransEConfig(Config):
    """Distance of the moved head to the tail."""

    kind: Literal["transe"] = "transe"
    norm: Literal["l1", "l2"] = "l1"
    """`l1` sums absolute differences; `l2` is the Euclidean distance, by a matrix product."""
    margin: float = Field(default=9.0, gt=0)
    """Score of a perfect match; 9 in RotatE's released TransE on FB15k-237."""
    epsilon_range: float = Field(default=2.0, ge=0)
    """Added to the margin in the range of the initial values."""

    def build(self, width: int) -> Scorer:
        """Build for entity codes of `width`."""
        return TransE(self, width)
