"""Every scorer against hand numbers, and what all scorers promise. A new kind, or a new choice of one, is picked up."""

from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from scorer_variants import variants
from torch import Tensor

from snag_dist.errors import ConfigError
from snag_dist.model.scorer import ComplExConfig, Factorisation, RotatE, RotatEConfig, Scorer, ScorerConfig, TuckER

WIDTH = 8
ADAPTER: TypeAdapter[Any] = TypeAdapter(ScorerConfig)
VARIANTS = variants()
FLAT = [1.0, 2.0, 3.0, 4.0], [2.0, -1.0, -1.0, 1.0], [1.0, 3.0, 1.0, -2.0]
TURNED = [0.1, 0.2, 0.3, 0.4], [1.0, -2.0], [0.5, -0.5, 0.25, 0.75]
# Head, relation, tail and the score, worked out by hand; options beside the choices.
HAND: dict[str, tuple[list[float], list[float], list[float], float, dict[str, Any]]] = {
    "rotate-modulus": (*TURNED, 10.3114696, {"relation_range": 7}),  # G1
    "rotate-frobenius": (*TURNED, 10.7326741403, {"relation_range": 7}),
    "complex": (*FLAT, -4.0, {}),
    "distmult": (*FLAT, -15.0, {}),
    "transe-l1": (*FLAT, -3.0, {}),
    "transe-l2": (*FLAT, 9 - 58**0.5, {}),
    "tucker": ([1.0, 2.0], [2.0, 1.0], [3.0, -1.0], 29.0, {"relation_width": 2}),
}


def build(name: str) -> Scorer:
    torch.manual_seed(3)
    return VARIANTS[name].build(WIDTH).double()


def draw(rows: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_every_variant_has_a_hand_number() -> None:
    assert HAND.keys() == VARIANTS.keys()


@pytest.mark.parametrize("name", HAND)
def test_hand_numbers(name: str) -> None:
    *sides, expected, options = HAND[name]
    head, relation, tail = (torch.tensor([side], dtype=torch.float64) for side in sides)
    scorer = VARIANTS[name].model_copy(update=options).build(head.shape[1]).double()
    if isinstance(scorer, TuckER):
        core = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[0.0, -1.0], [1.0, 0.0]]], dtype=torch.float64)
        scorer.core = torch.nn.Parameter(core)
    assert scorer.score(scorer.tail_query(head, relation), tail).item() == pytest.approx(expected, abs=1e-7)
    assert scorer.score(scorer.head_query(relation, tail), head).item() == pytest.approx(expected, abs=1e-7)


def test_rotate_ranges_are_the_published_ones() -> None:
    scorer = RotatEConfig().build(256)
    assert isinstance(scorer, RotatE)
    assert scorer.entity_bound == pytest.approx(14 / 256)
    assert scorer.relation_bound == pytest.approx(0.109375)
    half_turn = torch.full((1, 128), 0.109375)
    ones = torch.cat([torch.ones(1, 128), torch.zeros(1, 128)], dim=1)
    torch.testing.assert_close(scorer.tail_query(ones, half_turn), -ones, atol=1e-6, rtol=0)
    assert scorer.score(ones, -ones).item() == pytest.approx(12 - 2 * 128)


def test_the_default_is_rotate_with_the_sum_of_moduli() -> None:
    assert ADAPTER.validate_python({}) == RotatEConfig(norm="modulus")
    assert ADAPTER.validate_python({"norm": "frobenius"}).norm == "frobenius"


@pytest.mark.parametrize("kind", ["rotate", "complex"])
def test_halves_of_an_odd_width_are_refused(kind: str) -> None:
    message = rf"method.encoder.width: expected an even number for the scorer '{kind}'.*, got 7; change the width"
    with pytest.raises(ConfigError, match=message):
        ADAPTER.validate_python({"kind": kind}).build(7)


def test_moduli_of_complex_coordinates() -> None:
    scorer = ComplExConfig().build(4)
    assert isinstance(scorer, Factorisation)
    factors = torch.tensor([[3.0, 0.0, -4.0, 0.0]], requires_grad=True)
    moduli = scorer.moduli(factors)
    assert moduli.tolist() == [[5.0, 0.0]]
    moduli.sum().backward()
    torch.testing.assert_close(factors.grad, torch.tensor([[0.6, 0.0, -0.8, 0.0]]))


@pytest.mark.parametrize("name", VARIANTS)
class TestEveryScorer:
    def test_scoring_own_candidates_equals_scoring_all(self, name: str) -> None:
        scorer, queries, candidates = build(name), draw(3, WIDTH), draw(5, WIDTH, 1)
        index = torch.tensor([[0, 4], [1, 1], [3, 2]])
        everything = scorer.score(queries, candidates)
        assert everything.shape == (3, 5)
        torch.testing.assert_close(scorer.score_own(queries, candidates, index), everything.gather(1, index))

    def test_a_triple_scores_alike_from_both_sides(self, name: str) -> None:
        scorer, heads, tails = build(name), draw(4, WIDTH), draw(4, WIDTH, 1)
        relations = draw(4, scorer.relation_width, 2)
        from_head = scorer.score(scorer.tail_query(heads, relations), tails).diagonal()
        from_tail = scorer.score(scorer.head_query(relations, tails), heads).diagonal()
        torch.testing.assert_close(from_head, from_tail)

    def test_mixed_queries_equal_queries_of_one_side(self, name: str) -> None:
        scorer, known = build(name), draw(4, WIDTH)
        relations = draw(4, scorer.relation_width, 1)
        for find_tail in (torch.tensor([True, False, False, True]), torch.zeros(4, dtype=torch.bool)):
            mixed = scorer.query(known, relations, find_tail)
            torch.testing.assert_close(mixed[find_tail], scorer.tail_query(known, relations)[find_tail])
            torch.testing.assert_close(mixed[~find_tail], scorer.head_query(relations, known)[~find_tail])

    def test_gradients_are_those_of_finite_differences(self, name: str) -> None:
        scorer, codes = build(name), draw(5, WIDTH)
        relations = draw(2, scorer.relation_width, 1)
        find_tail, index = torch.tensor([True, False]), torch.tensor([[2, 4], [3, 3]])

        def score(codes: Tensor, relations: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
            queries = scorer.query(codes[:2], relations, find_tail)
            return scorer.score(queries, codes[2:]), scorer.score_own(queries, codes, index)

        inputs = (codes.requires_grad_(), relations.requires_grad_(), *scorer.parameters())
        assert torch.autograd.gradcheck(score, inputs)

    def test_a_perfect_match_has_a_gradient_without_nan(self, name: str) -> None:
        scorer, codes = build(name), draw(2, WIDTH).requires_grad_()
        (scorer.score(codes, codes).sum() + scorer.score_own(codes, codes, torch.tensor([[0], [1]])).sum()).backward()
        assert bool(codes.grad.isfinite().all())

    def test_bfloat16_is_near_double(self, name: str) -> None:
        scorer, queries, candidates = build(name), draw(3, WIDTH), draw(5, WIDTH, 1)
        exact = scorer.score(queries, candidates)
        rough = scorer.score(queries.bfloat16(), candidates.bfloat16())
        assert rough.dtype == torch.bfloat16
        torch.testing.assert_close(rough.double(), exact, rtol=0.03, atol=0.1)

    def test_bounds_are_positive_and_scores_start_small(self, name: str) -> None:
        scorer = build(name)
        assert scorer.entity_bound > 0
        assert scorer.relation_bound > 0
        # Codes as the layer norm of the encoder leaves them, relation rows as drawn.
        known, relations = draw(50, WIDTH), (2 * torch.rand(50, scorer.relation_width).double() - 1)
        queries = scorer.tail_query(known, relations * scorer.relation_bound)
        assert scorer.score(queries, draw(50, WIDTH, 1)).std() < 4
