"""Cross-entropy over every entity of the graph, exact, in blocks, over any number of owners.

    loss_q = (1 - a) (log Z_q - s_q,true) + a (log Z_q - mean_e s_qe),    log Z_q = log sum_e exp(s_qe)

Of several right answers of a query, the one of the triple at hand is the target. The others are wrong answers like any
entity (Lacroix et al.), or left out of both sums (`mask_known`), as filtered ranking leaves them out.

No (Q, E) tensor is made. Forward, every owner goes once over the codes of its rows, block after block, and keeps four
numbers a query; those merge over blocks and owners. Backward, every block is scored again, and its slope

    d log Z_q / d s_qe = exp(s_qe - log Z_q)

is formed and used up. So between owners travel the queries, four numbers a query, and the gradient of the queries.

With several owners, each calls `score_all` with the queries of the whole batch and a `combine` that merges statistics
over owners. All get the same sums and must differentiate the same loss of all queries; then the gradient of an
owner's codes is complete, and the gradient of the queries is the sum of those of the owners.

Source: Lacroix, Usunier and Obozinski, "Canonical Tensor Decomposition for Knowledge Base Completion" (ICML 2018), for
the loss; the running maximum is that of Milakov and Gimelshein, "Online normalizer calculation for softmax" (2018).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from snag_dist.config import Config
from snag_dist.objective.losses import LossReport
from snag_dist.objective.score_statistics import Excluded, ScoreStatistics
from snag_dist.shapes import match_shape

# Scores held at once: 2^22 float32 are 16 MiB.
_TILE_SCORES = 1 << 22

Score = Callable[[Tensor, Tensor], Tensor]
"""Scores (q, n) of queries (q, D) with candidates (n, D)."""
Encode = Callable[[], Tensor]
"""Makes the codes (n, D) of a block: the same at every call, with a graph where gradients are enabled."""


Combine = Callable[[ScoreStatistics], ScoreStatistics]
"""Merges the statistics of this owner with those of all others: a collective, or nothing where there is one owner."""


@dataclass(frozen=True)
class AllScores:
    """What the loss is made of, differentiable.

    Attributes:
        log_partition: (Q,) log of the sum over all entities of exp(score).
        true: (Q,) score of the right answer.
        mean: (Q,) mean score over all entities.
    """

    log_partition: Tensor
    true: Tensor
    mean: Tensor


def _alone(statistics: ScoreStatistics) -> ScoreStatistics:
    return statistics


def score_all(
    queries: Tensor,
    code_blocks: Sequence[Tensor],
    score: Score,
    answers: Tensor,
    num_entities: int | Tensor,
    combine: Combine = _alone,
    excluded: Excluded | None = None,
) -> AllScores:
    """Score queries with all entities, whose codes are at hand.

    Args:
        queries: (Q, D), of all owners.
        code_blocks: (n, D) each, together the codes of this owner's rows, in order.
        score: of the scorer.
        answers: (Q,) int64 position of the right answer among this owner's rows; outside them where another has it.
        num_entities: over all owners: E, or (Q,) how many of them are not excluded for each query.
        combine: over the owners.
        excluded: entities of this owner that do not count for some queries.

    Returns:
        Statistics over all entities, differentiable in queries and code blocks; what `score` itself learns collects
        its gradient directly.

    Raises:
        ShapeError: shapes do not fit.
    """
    encoders = [_holding(codes) for codes in code_blocks]
    return _run(_Plan(encoders, score, answers, num_entities, combine, excluded, held=True), queries, *code_blocks)


def score_all_encoding(
    queries: Tensor,
    encoders: Sequence[Encode],
    score: Score,
    answers: Tensor,
    num_entities: int | Tensor,
    combine: Combine = _alone,
    excluded: Excluded | None = None,
) -> AllScores:
    """Score queries with all entities, whose codes are made block by block, forward and once more backward.

    Memory is that of one block with its graph, however many entities there are. On the way back each block is
    differentiated at once: what its encoder learns collects its gradient directly (`.grad`), as with a reentrant
    checkpoint. The queries must require a gradient, or nothing is differentiated.

    Args:
        queries, score, answers, num_entities, combine, excluded: as of `score_all`.
        encoders: of the blocks of this owner's rows, in order.
    """
    return _run(_Plan(list(encoders), score, answers, num_entities, combine, excluded, held=False), queries)


@dataclass(frozen=True)
class _Plan:
    encoders: list[Encode]
    score: Score
    answers: Tensor
    num_entities: int | Tensor
    combine: Combine
    excluded: Excluded | None
    held: bool

    def pairs(self, rows: slice, first: int, num: int) -> Excluded | None:
        return None if self.excluded is None else self.excluded.within(rows, first, first + num)


def _holding(codes: Tensor) -> Encode:
    return lambda: codes


def _run(plan: _Plan, queries: Tensor, *codes: Tensor) -> AllScores:
    match_shape(queries, "queries", -1, -1)
    match_shape(plan.answers, "answers", len(queries))
    for number, block in enumerate(codes):
        match_shape(block, f"code block {number}", -1, queries.shape[1])
    results = cast(Any, _AllEntities).apply(plan, queries, *codes)
    return AllScores(*cast("tuple[Tensor, Tensor, Tensor]", results))


class _AllEntities(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: _Plan, queries: Tensor, *codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        own = _gather_statistics(plan, queries)
        whole = plan.combine(own)
        log_partition = whole.log_partition()
        ctx.plan = plan
        ctx.save_for_backward(queries, log_partition, *codes)
        return log_partition, whole.true, whole.linear / plan.num_entities

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        plan: _Plan = ctx.plan
        queries, log_partition, *_ = ctx.saved_tensors
        slope = _Slope(log_partition, grads[0], grads[1], grads[2] / plan.num_entities)
        leaf = queries.detach().requires_grad_()
        grad_codes: list[Tensor | None] = []
        first = 0
        for encode in plan.encoders:
            with torch.enable_grad():
                codes = encode()
            block = codes.detach().requires_grad_()
            _differentiate(plan, slope, leaf, block, first)
            if plan.held:
                grad_codes.append(block.grad)
            elif codes.requires_grad and block.grad is not None:
                torch.autograd.backward(codes, block.grad)
            first += len(block)
        return None, leaf.grad if leaf.grad is not None else torch.zeros_like(leaf), *grad_codes


@dataclass(frozen=True)
class _Slope:
    """d loss / d score_qe = softmax_qe of_log_partition_q + [e is q's answer] of_true_q + of_each_q; all (Q,)."""

    log_partition: Tensor
    of_log_partition: Tensor
    of_true: Tensor
    of_each: Tensor

    def at(self, scores: Tensor, answers: Tensor, rows: slice, excluded: Excluded | None) -> Tensor:
        """Slope (q, n) of scores (q, n) of queries `rows`; `answers` (q,) are columns, or outside."""
        wide = scores.to(self.log_partition.dtype)
        slope = torch.exp(wide - self.log_partition[rows, None]).mul_(self.of_log_partition[rows, None])
        slope += self.of_each[rows, None]
        if excluded is not None:
            slope[excluded.query, excluded.entity] = 0.0
        here = ((answers >= 0) & (answers < scores.shape[1])).nonzero().squeeze(1)
        slope[here, answers[here]] += self.of_true[rows][here]
        return slope.to(scores.dtype)


def _gather_statistics(plan: _Plan, queries: Tensor) -> ScoreStatistics:
    total = ScoreStatistics.of_none(len(queries), queries)
    first = 0
    for encode in plan.encoders:
        codes = encode()
        if len(codes) and len(queries):
            tiles = [
                ScoreStatistics.of_scores(
                    plan.score(queries[rows], codes), plan.answers[rows] - first, plan.pairs(rows, first, len(codes))
                )
                for rows in _tiles(len(queries), len(codes))
            ]
            total = total.merge(_stack(tiles))
        first += len(codes)
    return total


def _differentiate(plan: _Plan, slope: _Slope, queries: Tensor, codes: Tensor, first: int) -> None:
    # Adds to the gradient of the leaves `queries` and `codes`, tile after tile.
    if not len(codes):
        return
    for rows in _tiles(len(queries), len(codes)):
        with torch.enable_grad():
            scores = plan.score(queries[rows], codes)
        excluded = plan.pairs(rows, first, len(codes))
        torch.autograd.backward(scores, slope.at(scores.detach(), plan.answers[rows] - first, rows, excluded))


def _stack(tiles: list[ScoreStatistics]) -> ScoreStatistics:
    return ScoreStatistics(
        torch.cat([tile.maximum for tile in tiles]),
        torch.cat([tile.total for tile in tiles]),
        torch.cat([tile.true for tile in tiles]),
        torch.cat([tile.linear for tile in tiles]),
    )


def _tiles(num_queries: int, num_codes: int) -> list[slice]:
    side = max(1, _TILE_SCORES // num_codes)
    return [slice(row, min(row + side, num_queries)) for row in range(0, num_queries, side)]


class AllEntitiesLoss(nn.Module):
    """Cross-entropy of the right answer against every entity that takes part."""

    def __init__(self, config: "AllEntitiesConfig"):
        super().__init__()
        self._smoothing = config.label_smoothing

    def forward(self, scores: AllScores) -> LossReport:
        """Sum the loss over queries.

        Returns:
            The *sum* over the Q queries; terms are the sums of `log_partition` and `true` scores.
        """
        smoothing = self._smoothing
        loss = (scores.log_partition - (1.0 - smoothing) * scores.true - smoothing * scores.mean).sum()
        terms = {"log_partition": scores.log_partition.detach().sum(), "true_score": scores.true.detach().sum()}
        return LossReport(loss, terms)


class AllEntitiesConfig(Config):
    """Cross-entropy over all entities; `negatives` of the method are not used."""

    kind: Literal["all_entities"] = "all_entities"
    """Tells this loss from the others."""
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the target spread evenly over all entities; 0.1 in TuckER on FB15k-237, 0 in ComplEx with N3."""
    mask_known: bool = False
    """Leave the other known-true training answers of a query out of the sums over entities; in ComplEx with N3 they
    stay in, as wrong answers."""
    sides: Literal["both", "bernoulli"] = "both"
    """Ask for the tail and the head of every triple (two queries), or for one of them, chosen by the Bernoulli rule."""
    block: int = Field(default=256, ge=1)
    """Rows encoded and scored at a time; memory holds the encoder's inner values of one block."""
    candidates: Literal["fresh", "cached"] = "fresh"
    """Encode every entity in every step; or keep codes as constants for some steps, where only the heads and tails of
    the batch are encoded, and only they learn."""
    refresh_every: int = Field(default=20, ge=1)
    """Steps after which cached codes are made anew; an epoch begins with new ones."""

    def build(self) -> AllEntitiesLoss:
        """Build the loss."""
        return AllEntitiesLoss(self)
