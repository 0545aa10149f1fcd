"""Cross-entropy over every entity of the graph, exact, in blocks, over any number of owners.

    loss_q = (1 - a) (log Z_q - s_q,true) + a (log Z_q - mean_e s_qe),    log Z_q = log sum_e exp(s_qe)

Of several right answers of a query, the one of the triple at hand is the target. The others are wrong answers like any
entity (Lacroix et al.), or left out of both sums (`mask_known`), as filtered ranking leaves them out.

Forward, every owner goes once over the codes of its rows, block after block, and keeps four numbers a query; those
merge over blocks and owners. Backward, the slope of every block

    d log Z_q / d s_qe = exp(s_qe - log Z_q)

is formed and used up. Scores are kept for that up to a stated number; blocks beyond it are scored again, so that no
(Q, E) tensor need be made. Between owners travel the queries, four numbers a query, and the gradient of the queries.

With several owners, each calls `score_all` with the queries of the whole batch and a `combine` that merges statistics
over owners. All get the same sums and must differentiate the same loss of all queries; then the gradient of an
owner's codes is complete, and the gradient of the queries is the sum of those of the owners.

Source: Lacroix, Usunier and Obozinski, "Canonical Tensor Decomposition for Knowledge Base Completion" (ICML 2018), for
the loss; the running maximum is that of Milakov and Gimelshein, "Online normalizer calculation for softmax" (2018).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from snag_dist.config import Config
from snag_dist.objective.losses import LossReport
from snag_dist.objective.score_statistics import Excluded, ScoreStatistics
from snag_dist.shapes import match_shape

TILE_SCORES = 1 << 20
"""Scores made at once: 2^20 float32 are 4 MiB, which a cache holds from one pass to the next."""

Score = Callable[[Tensor, Tensor], Tensor]
"""Scores (q, n) of queries (q, D) with candidates (n, D)."""
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
    kept_scores: int = 0,
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
        kept_scores: how many scores may stay for the backward pass; the others are made again.

    Returns:
        Statistics over all entities, differentiable in queries and code blocks; what `score` itself learns collects
        its gradient directly.

    Raises:
        ShapeError: shapes do not fit.
    """
    match_shape(queries, "queries", -1, -1)
    match_shape(answers, "answers", len(queries))
    for number, block in enumerate(code_blocks):
        match_shape(block, f"code block {number}", -1, queries.shape[1])
    plan = _Plan(score, answers, num_entities, combine, excluded, kept_scores)
    results = cast(Any, _AllEntities).apply(plan, queries, *code_blocks)
    return AllScores(*cast("tuple[Tensor, Tensor, Tensor]", results))


@dataclass(frozen=True)
class _Plan:
    score: Score
    answers: Tensor
    num_entities: int | Tensor
    combine: Combine
    excluded: Excluded | None
    kept_scores: int


@dataclass(frozen=True)
class _Tile:
    """Some queries against a block of entities.

    Attributes:
        rows: the queries.
        answers: (q,) columns of their right answers, or outside.
        excluded: pairs within the tile that do not count.
    """

    rows: slice
    answers: Tensor
    excluded: Excluded | None

    @property
    def num_queries(self) -> int:
        return self.rows.stop - self.rows.start


class _AllEntities(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: _Plan, queries: Tensor, *codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # Scores are taken of leaves, whose gradients are gathered tile after tile.
        leaf = queries.detach().requires_grad_()
        blocks = [block.detach().requires_grad_() for block in codes]
        tiles = [_cut(plan, len(queries), first, len(block)) for first, block in _with_first(blocks)]
        kept: dict[tuple[int, int], Tensor] = {}
        budget = plan.kept_scores if any(ctx.needs_input_grad) else 0
        own = ScoreStatistics.of_none(len(queries), queries)
        for number, block in enumerate(blocks):
            parts: list[ScoreStatistics] = []
            for place, tile in enumerate(tiles[number]):
                keep = tile.num_queries * len(block) <= budget
                with torch.set_grad_enabled(keep):
                    scores = plan.score(leaf[tile.rows], block)
                if keep:
                    kept[number, place] = scores
                    budget -= scores.numel()
                parts.append(ScoreStatistics.of_scores(scores.detach(), tile.answers, tile.excluded))
            own = own.merge(_stack(parts)) if parts else own
        whole = plan.combine(own)
        log_partition = whole.log_partition()
        ctx.plan, ctx.leaf, ctx.blocks, ctx.tiles, ctx.kept = plan, leaf, blocks, tiles, kept
        ctx.save_for_backward(log_partition)
        return log_partition, whole.true, whole.linear / plan.num_entities

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        plan: _Plan = ctx.plan
        (log_partition,) = ctx.saved_tensors
        slope = _Slope(log_partition, grads[0], grads[1], grads[2] / plan.num_entities)
        leaf: Tensor = ctx.leaf
        _begin_gradients(ctx.blocks)
        for number, block in enumerate(ctx.blocks):
            for place, tile in enumerate(ctx.tiles[number]):
                # Used up; a second pass over a retained graph makes them again.
                scores = ctx.kept.pop((number, place), None)
                if scores is None:
                    with torch.enable_grad():
                        scores = plan.score(leaf[tile.rows], block)
                torch.autograd.backward(scores, slope.at(scores.detach(), tile))
        return None, _take_grad(leaf), *(_take_grad(block) for block in ctx.blocks)


def _with_first(blocks: Sequence[Tensor]) -> Iterator[tuple[int, Tensor]]:
    first = 0
    for block in blocks:
        yield first, block
        first += len(block)


def _cut(plan: _Plan, num_queries: int, first: int, num_codes: int) -> list[_Tile]:
    # Tiles of all queries with the codes of entities [first, first + num_codes).
    if not num_codes:
        return []
    side = max(1, TILE_SCORES // num_codes)
    slices = [slice(row, min(row + side, num_queries)) for row in range(0, num_queries, side)]
    return [
        _Tile(
            rows,
            plan.answers[rows] - first,
            None if plan.excluded is None else plan.excluded.within(rows, first, first + num_codes),
        )
        for rows in slices
    ]


def _begin_gradients(blocks: Sequence[Tensor]) -> None:
    # One large tensor for all: many small ones that stay, in the midst of what comes and goes, leave holes in the heap.
    if not blocks:
        return
    whole = blocks[0].new_zeros(sum(len(block) for block in blocks), blocks[0].shape[1])
    for first, block in _with_first(blocks):
        block.grad = whole[first : first + len(block)]


def _take_grad(leaf: Tensor) -> Tensor:
    grad, leaf.grad = leaf.grad, None
    return torch.zeros_like(leaf) if grad is None else grad


@dataclass(frozen=True)
class _Slope:
    """d loss / d score_qe = softmax_qe of_log_partition_q + [e is q's answer] of_true_q + of_each_q; all (Q,)."""

    log_partition: Tensor
    of_log_partition: Tensor
    of_true: Tensor
    of_each: Tensor

    def at(self, scores: Tensor, tile: _Tile) -> Tensor:
        """Slope (q, n) of the scores (q, n) of a tile."""
        rows, answers = tile.rows, tile.answers
        wide = scores.to(self.log_partition.dtype)
        slope = torch.exp(wide - self.log_partition[rows, None]).mul_(self.of_log_partition[rows, None])
        slope += self.of_each[rows, None]
        if tile.excluded is not None:
            slope[tile.excluded.query, tile.excluded.entity] = 0.0
        here = ((answers >= 0) & (answers < scores.shape[1])).nonzero().squeeze(1)
        slope[here, answers[here]] += self.of_true[rows][here]
        return slope.to(scores.dtype)


def _stack(tiles: list[ScoreStatistics]) -> ScoreStatistics:
    return ScoreStatistics(
        torch.cat([tile.maximum for tile in tiles]),
        torch.cat([tile.total for tile in tiles]),
        torch.cat([tile.true for tile in tiles]),
        torch.cat([tile.linear for tile in tiles]),
    )


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
    """Rows encoded and scored at a time; memory holds the encoder's inner values of one block, and what follows."""
    kept_rows: int = Field(default=16_384, ge=0)
    """Rows of a worker whose inner values stay for the backward pass; those of the others are made again."""
    kept_scores: int = Field(default=1 << 25, ge=0)
    """Scores of a worker that stay for the backward pass (2^25 are 134 MB); the others are made again."""
    candidates: Literal["fresh", "cached"] = "fresh"
    """Encode every entity in every step; or keep codes as constants for some steps, where only the heads and tails of
    the batch are encoded, and only they learn."""
    refresh_every: int = Field(default=20, ge=1)
    """Steps after which cached codes are made anew; an epoch begins with new ones."""

    def build(self) -> AllEntitiesLoss:
        """Build the loss."""
        return AllEntitiesLoss(self)
