"""The all-entity loss against torch's own cross-entropy: one owner, several owners, scores kept or made again."""

from collections.abc import Callable
from functools import reduce
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from snag_dist.errors import ShapeError
from snag_dist.model.scorer import ComplExConfig, RotatEConfig
from snag_dist.objective import all_entities
from snag_dist.objective.all_entities import (
    AllEntitiesConfig,
    AllScores,
    score_all,
)
from snag_dist.objective.score_statistics import Excluded, ScoreStatistics

WIDTH, NUM_ENTITIES, NUM_QUERIES = 6, 23, 9
SCORES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "complex": ComplExConfig().build(WIDTH).score,
    "rotate": RotatEConfig().build(WIDTH).score,
}


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    # Four queries at a time with blocks of 10: every path over tiles is walked.
    monkeypatch.setattr(all_entities, "TILE_SCORES", 40)


def draw(rows: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    drawn = torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (3.0 * drawn).to(dtype).requires_grad_()


ANSWERS = torch.tensor([0, 22, 5, 10, 9, 19, 20, 5, 11])


def loss_of(scores: AllScores, smoothing: float = 0.0) -> Tensor:
    # Weights differ from query to query, so that no gradient is right by symmetry.
    parts = [
        AllEntitiesConfig(label_smoothing=smoothing).build()(
            AllScores(scores.log_partition[q : q + 1], scores.true[q : q + 1], scores.mean[q : q + 1])
        )
        for q in range(len(scores.true))
    ]
    return torch.stack([(1.0 + 0.1 * q) * part.loss for q, part in enumerate(parts)]).sum()


def plain_loss(scores: Tensor, smoothing: float = 0.0) -> Tensor:
    losses = functional.cross_entropy(scores, ANSWERS, reduction="none", label_smoothing=smoothing)
    return (losses * (1.0 + 0.1 * torch.arange(len(losses), dtype=losses.dtype))).sum()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("name", SCORES)
def test_one_owner_equals_cross_entropy(name: str, smoothing: float) -> None:
    queries, codes = draw(NUM_QUERIES, 0), draw(NUM_ENTITIES, 1)
    plain = SCORES[name](queries, codes)
    expected = plain_loss(plain, smoothing)
    wanted = torch.autograd.grad(expected, (queries, codes))
    scores = score_all(queries, codes.split(10), SCORES[name], ANSWERS, NUM_ENTITIES)
    torch.testing.assert_close(scores.log_partition, torch.logsumexp(plain, 1))
    found = loss_of(scores, smoothing)
    torch.testing.assert_close(found, expected)
    for got, want in zip(torch.autograd.grad(found, (queries, codes)), wanted, strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_excluded_entities_take_no_part(smoothing: float) -> None:
    queries, codes = draw(NUM_QUERIES, 0), draw(NUM_ENTITIES, 1)
    # The whole third block of query 8, several pairs in a tile, none of query 3.
    pairs = [(8, 20), (8, 21), (8, 22), (1, 2), (2, 4), (0, 7), (6, 21), (4, 10), (5, 3), (8, 0), (7, 6), (7, 13)]
    pairs = sorted(pairs, key=lambda pair: pair[1])
    excluded = Excluded(torch.tensor([q for q, _ in pairs]), torch.tensor([e for _, e in pairs]))
    kept = torch.ones(NUM_QUERIES, NUM_ENTITIES, dtype=torch.bool)
    kept[excluded.query, excluded.entity] = False
    plain = SCORES["complex"](queries, codes)
    losses = [
        (1.0 + 0.1 * q)
        * functional.cross_entropy(plain[q, kept[q]], kept[q, : ANSWERS[q]].sum(), label_smoothing=smoothing)
        for q in range(NUM_QUERIES)
    ]
    expected = torch.stack(losses).sum()
    wanted = torch.autograd.grad(expected, (queries, codes))
    scores = score_all(queries, codes.split(10), SCORES["complex"], ANSWERS, kept.sum(1), excluded=excluded)
    found = loss_of(scores, smoothing)
    torch.testing.assert_close(found, expected)
    for got, want in zip(torch.autograd.grad(found, (queries, codes)), wanted, strict=True):
        torch.testing.assert_close(got, want)


def test_each_output_has_the_gradient_of_finite_differences() -> None:
    def run(queries: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scores = score_all(queries, (first, second), SCORES["complex"], ANSWERS[:3], 14)
        return scores.log_partition, scores.true, scores.mean

    assert torch.autograd.gradcheck(run, (draw(3, 0), draw(8, 1), draw(6, 2)))


@pytest.mark.parametrize("bounds", [(0, 11, 23), (0, 5, 5, 20, 23)])
def test_several_owners_equal_cross_entropy(bounds: tuple[int, ...]) -> None:
    """Every owner sees its own rows; one of four has none."""
    queries, codes = draw(NUM_QUERIES, 0), draw(NUM_ENTITIES, 1)
    score = SCORES["complex"]
    expected = plain_loss(score(queries, codes), 0.1)
    wanted = torch.autograd.grad(expected, (queries, codes))
    owners = list(pairwise(bounds))
    own: list[ScoreStatistics] = []

    def run(owner: int, combine: Any) -> tuple[AllScores, Tensor, Tensor]:
        start, stop = owners[owner]
        seen, rows = queries.detach().requires_grad_(), codes[start:stop].detach().requires_grad_()
        return score_all(seen, rows.split(4), score, ANSWERS - start, NUM_ENTITIES, combine), seen, rows

    def keep(statistics: ScoreStatistics) -> ScoreStatistics:
        own.append(statistics)
        return statistics

    for owner in range(len(owners)):
        run(owner, keep)
    # As a collective does it: the maximum of all, then sums.
    maximum = torch.stack([part.maximum for part in own]).amax(0)
    whole = ScoreStatistics(
        maximum,
        torch.stack([part.total_at(maximum) for part in own]).sum(0),
        torch.stack([part.true for part in own]).sum(0),
        torch.stack([part.linear for part in own]).sum(0),
    )
    torch.testing.assert_close(reduce(ScoreStatistics.merge, own).log_partition(), whole.log_partition())
    grad_queries, grad_codes = torch.zeros_like(queries), []
    for owner in range(len(owners)):
        scores, seen, rows = run(owner, lambda _own: whole)
        found = loss_of(scores, 0.1)
        torch.testing.assert_close(found, expected)
        found.backward()
        grad_queries += seen.grad
        grad_codes.append(rows.grad if len(rows) else rows.detach())
    torch.testing.assert_close(grad_queries, wanted[0])
    torch.testing.assert_close(torch.cat(grad_codes), wanted[1])


@pytest.mark.parametrize("name", SCORES)
def test_kept_scores_change_nothing(name: str) -> None:
    """Tiles are kept in turn as the number allows, and scored again beyond it, all to the bit."""
    calls: list[bool] = []

    def score(queries: Tensor, codes: Tensor) -> Tensor:
        calls.append(torch.is_grad_enabled())
        return SCORES[name](queries, codes)

    def run(kept: int) -> tuple[Tensor, ...]:
        queries, codes = draw(NUM_QUERIES, 0), draw(NUM_ENTITIES, 1)
        scores = score_all(queries, codes.split(10), score, ANSWERS, NUM_ENTITIES, kept_scores=kept)
        loss = loss_of(scores, 0.1)
        return loss, *torch.autograd.grad(loss, (queries, codes))

    wanted = run(0)
    # Nine queries with 10, 10 and 3 entities, four or all of them at a time: 7 tiles, scored twice.
    assert calls == [False] * 7 + [True] * 7
    # 40 + 40 + 10 scores of the first block and 40 of the second; of its other tiles 10 fit still.
    for kept, num_kept in ((40, 1), (150, 5), (NUM_QUERIES * NUM_ENTITIES, 7)):
        calls.clear()
        for got, want in zip(run(kept), wanted, strict=True):
            assert torch.equal(got, want)
        assert len(calls) == 7 + 7 - num_kept
        assert sum(calls) == 7


def test_without_gradients_no_score_is_kept() -> None:
    calls: list[bool] = []

    def score(queries: Tensor, codes: Tensor) -> Tensor:
        calls.append(torch.is_grad_enabled())
        return SCORES["complex"](queries, codes)

    queries, codes = draw(NUM_QUERIES, 0).detach(), draw(NUM_ENTITIES, 1).detach()
    score_all(queries, codes.split(10), score, ANSWERS, NUM_ENTITIES, kept_scores=1000)
    assert not any(calls)


def test_large_scores_do_not_overflow() -> None:
    scores = torch.tensor([[1e4, 0.0], [-1e4, -1e4 + 1]])
    halves = [ScoreStatistics.of_scores(scores[:, i : i + 1], torch.tensor([-i, 1 - i])) for i in range(2)]
    none = ScoreStatistics.of_none(2, scores)
    merged = none.merge(halves[0]).merge(none).merge(halves[1])
    torch.testing.assert_close(merged.log_partition(), torch.logsumexp(scores, 1))
    assert merged.true.tolist() == [1e4, -1e4 + 1]
    assert none.merge(none).total.tolist() == [0.0, 0.0]


def test_bfloat16_scores_are_summed_in_float32() -> None:
    queries, codes = draw(NUM_QUERIES, 0, torch.bfloat16), draw(NUM_ENTITIES, 1, torch.bfloat16)
    scores = score_all(queries, codes.split(10), SCORES["complex"], ANSWERS, NUM_ENTITIES)
    assert scores.log_partition.dtype == torch.float32
    plain = SCORES["complex"](queries, codes).float()
    torch.testing.assert_close(scores.log_partition, torch.logsumexp(plain, 1))
    loss_of(scores).backward()
    assert queries.grad.dtype == codes.grad.dtype == torch.bfloat16


def test_no_queries() -> None:
    queries, codes = draw(0, 0), draw(NUM_ENTITIES, 1)
    report = AllEntitiesConfig().build()(score_all(queries, (codes,), SCORES["rotate"], ANSWERS[:0], NUM_ENTITIES))
    report.loss.backward()
    assert report.loss.item() == 0.0
    assert queries.grad.shape == (0, WIDTH)


def test_terms_are_sums_over_queries() -> None:
    queries, codes = draw(NUM_QUERIES, 0), draw(NUM_ENTITIES, 1)
    report = AllEntitiesConfig().build()(score_all(queries, (codes,), SCORES["complex"], ANSWERS, NUM_ENTITIES))
    torch.testing.assert_close(report.loss.detach(), report.terms["log_partition"] - report.terms["true_score"])


def test_shapes_that_do_not_fit_are_refused() -> None:
    queries, codes = draw(NUM_QUERIES, 0), draw(NUM_ENTITIES, 1)
    with pytest.raises(ShapeError, match=r"answers: expected shape \(9,\).*got \(8,\)"):
        score_all(queries, (codes,), SCORES["complex"], ANSWERS[:8], NUM_ENTITIES)
    with pytest.raises(ShapeError, match=r"code block 1: expected shape \(-1, 6\).*got \(23, 5\)"):
        score_all(queries, (codes, codes[:, :5]), SCORES["complex"], ANSWERS, NUM_ENTITIES)
