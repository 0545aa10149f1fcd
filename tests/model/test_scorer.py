"""Every scorer against hand numbers, and what all scorers promise."""

import math
from typing import get_args

import pytest
import torch

from snag_dist.config import Config
from snag_dist.model.scorer import RotatE, RotatEConfig, ScorerConfig

# A closed union of one is the class itself.
CONFIGS: list[type[Config]] = list(get_args(ScorerConfig)) or [ScorerConfig]


def test_rotate_hand_number() -> None:
    # G1: margin 12, relation range 7, two complex coordinates.
    scorer = RotatEConfig(relation_range=7).build(4)
    head = torch.tensor([[0.1, 0.2, 0.3, 0.4]], dtype=torch.float64)
    relation = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    tail = torch.tensor([[0.5, -0.5, 0.25, 0.75]], dtype=torch.float64)
    assert scorer.score(scorer.tail_query(head, relation), tail).item() == pytest.approx(10.3114696, abs=1e-7)
    assert scorer.score(scorer.head_query(relation, tail), head).item() == pytest.approx(10.3114696, abs=1e-7)


def test_rotate_ranges_are_the_published_ones() -> None:
    scorer = RotatEConfig().build(256)
    assert isinstance(scorer, RotatE)
    assert scorer.entity_bound == pytest.approx(14 / 256)
    assert scorer.relation_bound == pytest.approx(0.109375)
    half_turn = torch.full((1, 128), 0.109375)
    ones = torch.cat([torch.ones(1, 128), torch.zeros(1, 128)], dim=1)
    torch.testing.assert_close(scorer.tail_query(ones, half_turn), -ones, atol=1e-6, rtol=0)
    assert scorer.score(ones, -ones).item() == pytest.approx(12 - 2 * 128)


@pytest.mark.parametrize("config", CONFIGS)
class TestEveryScorer:
    def test_scoring_own_candidates_equals_scoring_all(self, config: type[Config]) -> None:
        scorer = config().build(8)  # type: ignore[attr-defined]
        queries, candidates = torch.randn(3, 8), torch.randn(5, 8)
        index = torch.tensor([[0, 4], [1, 1], [3, 2]])
        everything = scorer.score(queries, candidates)
        torch.testing.assert_close(scorer.score_own(queries, candidates, index), everything.gather(1, index))

    def test_a_triple_scores_alike_from_both_sides(self, config: type[Config]) -> None:
        scorer = config().build(8)  # type: ignore[attr-defined]
        heads, tails = torch.randn(4, 8), torch.randn(4, 8)
        relations = torch.randn(4, scorer.relation_width) * 0.1
        from_head = scorer.score(scorer.tail_query(heads, relations), tails).diagonal()
        from_tail = scorer.score(scorer.head_query(relations, tails), heads).diagonal()
        torch.testing.assert_close(from_head, from_tail, rtol=1e-5, atol=1e-5)

    def test_mixed_queries_equal_queries_of_one_side(self, config: type[Config]) -> None:
        scorer = config().build(8)  # type: ignore[attr-defined]
        known, relations = torch.randn(4, 8), torch.randn(4, scorer.relation_width)
        find_tail = torch.tensor([True, False, False, True])
        mixed = scorer.query(known, relations, find_tail)
        torch.testing.assert_close(mixed[find_tail], scorer.tail_query(known, relations)[find_tail])
        torch.testing.assert_close(mixed[~find_tail], scorer.head_query(relations, known)[~find_tail])

    def test_bounds_are_positive(self, config: type[Config]) -> None:
        scorer = config().build(8)  # type: ignore[attr-defined]
        assert scorer.entity_bound > 0
        assert scorer.relation_bound > 0
        assert math.isfinite(scorer.entity_bound)
