"""Metrics by hand, and that those of parts add up to those of the whole."""

import math

import numpy as np
import pytest

from snag_dist.ranking.metrics import RankMetrics, RankSums
from snag_dist.ranking.ranks import RankTable


def table(better: list[int], equal: list[int]) -> RankTable:
    zeros = np.zeros(len(better), dtype=np.int64)
    return RankTable(zeros, zeros, zeros, zeros.astype(bool), np.array(better), np.array(equal))


def test_means_by_hand() -> None:
    sums = RankSums.of(np.array([1, 2, 4, 10], dtype=np.int64))
    assert sums.mrr == pytest.approx((1 + 0.5 + 0.25 + 0.1) / 4)
    assert sums.mean_rank == 4.25
    assert [sums.hits(k) for k in (1, 3, 10)] == [0.25, 0.5, 1.0]


def test_the_three_kinds_of_rank_by_hand() -> None:
    # Realistic ranks 1, 2 and 4.5; optimistic 1, 1, 4; pessimistic 1, 3, 5.
    metrics = RankMetrics.of(table([0, 0, 3], [0, 2, 1]))
    assert metrics.mrr == metrics.realistic.mrr == pytest.approx((1 + 1 / 2 + 1 / 4.5) / 3)
    assert metrics.optimistic.mrr == pytest.approx((1 + 1 + 1 / 4) / 3)
    assert metrics.pessimistic.mrr == pytest.approx((1 + 1 / 3 + 1 / 5) / 3)
    assert (metrics.hits(1), metrics.optimistic.hits(1), metrics.pessimistic.hits(1)) == (1 / 3, 2 / 3, 1 / 3)
    assert metrics.mean_rank == 2.5


def test_a_tie_for_the_first_place_is_no_hit_at_one() -> None:
    assert RankMetrics.of(table([0], [1])).hits(1) == 0.0


def test_parts_add_up_to_the_whole() -> None:
    draw = np.random.default_rng(0)
    whole = table(draw.integers(0, 40, 100).tolist(), draw.integers(0, 5, 100).tolist())
    added = RankMetrics.of(whole.take(np.arange(37))) + RankMetrics.of(whole.take(np.arange(37, 100)))
    at_once = RankMetrics.of(whole)
    assert added.count == at_once.count == 100
    for name in ("realistic", "optimistic", "pessimistic"):
        left, right = getattr(added, name), getattr(at_once, name)
        assert left.to_dict() == pytest.approx(right.to_dict(), rel=1e-12)


def test_the_plain_tree_holds_all_three() -> None:
    tree = RankMetrics.of(table([0, 1], [0, 0])).to_dict()
    assert tree["num_queries"] == 2
    assert tree["realistic"] == {"mrr": 0.75, "mean_rank": 1.5, "hits@1": 0.5, "hits@3": 1.0, "hits@10": 1.0}
    assert tree["optimistic"] == tree["pessimistic"] == tree["realistic"]


def test_no_queries_have_no_mean() -> None:
    sums = RankSums.of(np.empty(0, dtype=np.int64))
    assert all(math.isnan(value) for value in (sums.mrr, sums.mean_rank, sums.hits(1)))


def test_hits_that_were_not_counted_are_refused() -> None:
    with pytest.raises(ValueError):
        RankSums.of(np.array([1], dtype=np.int64)).hits(5)
