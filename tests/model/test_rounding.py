"""Bounds on rounding: they hold for every scorer that has them, on codes chosen against them, and are not idle."""

from typing import Any

import numpy as np
import pytest
import torch
from scorer_variants import variants
from torch import Tensor

from snag_dist.model.scorer import Rounding, Scorer

WIDTH, NUM = 64, 96
VARIANTS = {name: config for name, config in variants().items() if config.build(WIDTH).rounding is not None}


def build(name: str) -> tuple[Scorer, Rounding]:
    scorer = VARIANTS[name].build(WIDTH)
    assert scorer.rounding is not None
    return scorer, scorer.rounding


def draw(seed: int) -> Tensor:
    return torch.randn(NUM, WIDTH, generator=torch.Generator().manual_seed(seed))


def hostile(seed: int) -> dict[str, Tensor]:
    """float32 codes that rounding treats badly, by name."""
    codes = draw(seed)
    exponents = torch.randint(-30, 12, codes.shape, generator=torch.Generator().manual_seed(seed + 1))
    # Just above half of bfloat16's step, so that every coordinate is rounded by as much as can be, one way.
    halves = torch.full_like(codes, 1.0 + 2.0**-8 + 2.0**-20)
    return {
        "drawn": codes,
        "uneven": codes * 2.0**exponents,
        "halves": halves,
        "cancelling": halves * torch.tensor([1.0, -1.0]).repeat(WIDTH // 2),
        "large": codes * 1e8,
        "denormal": codes * 1e-40,
        "squares that underflow": codes * 1e-24,
        "zero": torch.zeros_like(codes),
        "one large row": torch.cat([codes[:1] * 1e6, codes[1:]]),
    }


def bound(rounding: Rounding, queries: Tensor, candidates: Tensor, dtype: torch.dtype) -> Tensor:
    return rounding.error(rounding.size(queries), rounding.size(candidates).max().item(), dtype).unsqueeze(1)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("queries_of", hostile(0))
@pytest.mark.parametrize("candidates_of", hostile(2))
def test_no_score_is_farther_off_than_the_bound(name: str, queries_of: str, candidates_of: str) -> None:
    scorer, rounding = build(name)
    queries, candidates = hostile(0)[queries_of], hostile(2)[candidates_of]
    index = torch.arange(NUM).expand(NUM, NUM)
    truth = scorer.score_own(queries.double(), candidates.double(), index)
    slack = bound(rounding, queries, candidates, torch.float64)
    for dtype in {torch.float32, *rounding.first_passes}:
        limit = bound(rounding, queries, candidates, dtype)
        assert limit.isfinite().all()
        left, right = queries.to(dtype), candidates.to(dtype)
        for found in (scorer.score(left, right), scorer.score_own(left, right, index)):
            assert ((found.double() - truth).abs() <= limit + slack).all()


@pytest.mark.parametrize("name", VARIANTS)
def test_double_is_within_its_bound_of_longer_numbers(name: str) -> None:
    scorer, rounding = build(name)
    queries, candidates = draw(0).double() * 1.1, draw(2).double() * 1.3
    left, right = (part.numpy().astype(np.longdouble) for part in (queries, candidates))
    pairs = left[:, None] - right[None]
    truth: Any = {
        "rotate": lambda: 12 - np.hypot(*np.split(pairs, 2, axis=2)).sum(2),
        "transe": lambda: 9 - np.abs(pairs).sum(2),
    }.get(name.partition("-")[0], lambda: left @ right.T)()
    off = np.abs(scorer.score(queries, candidates).detach().numpy() - truth).astype(np.float64)
    assert (torch.from_numpy(off) <= bound(rounding, queries, candidates, torch.float64)).all()
    assert off.max() > 0


@pytest.mark.parametrize("name", VARIANTS)
def test_bounds_tell_candidates_apart(name: str) -> None:
    scorer, rounding = build(name)
    spread = scorer.score(draw(0), draw(2)).std()
    for dtype in rounding.first_passes:
        # Measured: 5e-4 (float32) and 0.3 (bfloat16) of the spread at most.
        assert bound(rounding, draw(0), draw(2), dtype).max() < spread * (1e-3 if dtype == torch.float32 else 0.5)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 3e38])
def test_no_bound_where_a_score_may_be_no_number(name: str, value: float) -> None:
    _, rounding = build(name)
    broken = draw(0)
    broken[3, 5] = value
    for queries, candidates in ((broken, draw(2)), (draw(2), broken)):
        sizes, largest = rounding.size(queries), rounding.size(candidates).nan_to_num(nan=torch.inf).max().item()
        for dtype in rounding.first_passes:
            limit = rounding.error(sizes, largest, dtype)
            assert not limit.isnan().any()
            assert limit.isinf().tolist() == [largest > 1e30 or row == 3 for row in range(NUM)]


def test_products_that_torch_may_cut_are_bounded_as_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    _, rounding = build("complex")
    before = bound(rounding, draw(0), draw(2), torch.float32).max()
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "medium")
    assert bound(rounding, draw(0), draw(2), torch.float32).max() > 100 * before
