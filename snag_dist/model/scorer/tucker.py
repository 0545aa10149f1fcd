"""TuckER: relations mix the coordinates of head and tail through a core that all of them share."""

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from snag_dist.config import Config
from snag_dist.model.scorer.products import all_products, own_products, unit_bound
from snag_dist.model.scorer.rounding import ProductRounding
from snag_dist.model.scorer.seam import Scorer


class TuckER(Scorer):
    """score = sum_kij W_kij r_k h_i t_j with a learned core W (relation_width, D, D).

    The released code normalises h and the query over the batch and drops some of both. Neither is done here: statistics
    of a batch depend on how it is cut over workers, and the encoder has its own dropout. The core therefore starts
    small, in [-sqrt(3)/D, sqrt(3)/D], so that first scores are as large as those of DistMult; the released one starts
    in [-1, 1].

    Source: Balazevic, Allen and Hospedales, "TuckER: Tensor Factorization for Knowledge Graph Completion" (EMNLP 2019).
    """

    def __init__(self, config: "TuckERConfig", width: int):
        super().__init__()
        self.relation_width = config.relation_width
        self.entity_bound = config.entity_bound or unit_bound(width)
        self.relation_bound = config.relation_bound or unit_bound(config.relation_width)
        self.rounding = ProductRounding(width)
        bound = config.core_bound or math.sqrt(3.0) / width
        self.core = nn.Parameter((2.0 * torch.rand(config.relation_width, width, width) - 1.0) * bound)

    def tail_query(self, heads: Tensor, relations: Tensor) -> Tensor:
        """See `Scorer.tail_query`."""
        return self._mix(heads, relations, self.core)

    def head_query(self, relations: Tensor, tails: Tensor) -> Tensor:
        """See `Scorer.head_query`."""
        return self._mix(tails, relations, self.core.transpose(1, 2))

    def query(self, known: Tensor, relations: Tensor, find_tail: Tensor) -> Tensor:
        """See `Scorer.query`; each side is computed for its own queries alone, since the core makes it costly."""
        tails, heads = find_tail.nonzero().squeeze(1), (~find_tail).nonzero().squeeze(1)
        parts = [
            self.tail_query(known.index_select(0, tails), relations.index_select(0, tails)),
            self.head_query(relations.index_select(0, heads), known.index_select(0, heads)),
        ]
        return torch.cat(parts).index_select(0, torch.cat([tails, heads]).argsort())

    def score(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """See `Scorer.score`."""
        return all_products(queries, candidates)

    def score_own(self, queries: Tensor, candidates: Tensor, index: Tensor) -> Tensor:
        """See `Scorer.score_own`."""
        return own_products(queries, candidates, index)

    @staticmethod
    def _mix(codes: Tensor, relations: Tensor, core: Tensor) -> Tensor:
        # (Q, relation_width * D) products of relation and code, then one matrix product with the core.
        outer = (relations.unsqueeze(2) * codes.unsqueeze(1)).flatten(1)
        return outer @ core.to(codes.dtype).flatten(0, 1)


class TuckERConfig(Config):
    """Product of three through a learned core."""

    kind: Literal["tucker"] = "tucker"
    relation_width: int = Field(default=32, ge=1)
    """Columns of a relation row. A query costs relation_width * D^2 multiplications and holds relation_width * D
    numbers; 200 at D = 200 on FB15k-237, 30 on WN18RR as published."""
    entity_bound: float | None = Field(default=None, gt=0)
    """Bound of the initial values of entity rows; unset: rows start at length 1."""
    relation_bound: float | None = Field(default=None, gt=0)
    """The same of relation rows."""
    core_bound: float | None = Field(default=None, gt=0)
    """Bound of the initial values of the core; unset: sqrt(3) / D."""

    def build(self, width: int) -> Scorer:
        """Build for entity codes of `width`; the core is drawn from torch's generator."""
        return TuckER(self, width)
