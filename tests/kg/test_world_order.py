"""Orders of popularity by arithmetic, against lists written out."""

import numpy as np
import pytest

from snag_dist.kg.world_order import Order, draw_place

# Twelve members with digits a (2) and b (3): local index = a + 2 * (b + 3 * rank), so there are two ranks.
DIGITS = {"a": 2, "b": 3}


def members(count: int, shared: tuple[str, ...], **values: int) -> list[int]:
    order = Order(count, DIGITS, shared)
    places = np.arange(order.length)
    given = {name: np.full(order.length, value) for name, value in values.items()}
    return order.member(given, places).tolist()


def test_members_share_the_digits_asked_for():
    # a = 0 is turned by 0: b runs 0, 1, 2 within each rank.
    assert members(12, ("a",), a=0) == [0, 2, 4, 6, 8, 10]
    # a = 1 is turned by 5, which is 2 modulo 3: b runs 2, 0, 1.
    assert members(12, ("a",), a=1) == [5, 1, 3, 11, 7, 9]
    assert members(12, ("b",), b=0) == [0, 1, 6, 7]
    assert members(12, ("a", "b"), a=1, b=2) == [5, 11]
    assert members(12, ()) == list(range(12))


def test_an_incomplete_rank_falls_back_on_the_rank_before():
    assert members(8, ("a",), a=0) == [0, 2, 4, 6, 2, 4]
    # Five members hold no a = 1, b = 2 (local index 5): the index goes around.
    assert members(5, ("a", "b"), a=1, b=2) == [0]


def test_place_undoes_member():
    order = Order(12, DIGITS, ("a",))
    local = np.arange(12)
    digits = {"a": local % 2, "b": local // 2 % 3}
    np.testing.assert_array_equal(order.member(digits, order.place(local, digits)), local)


def test_the_first_places_are_drawn_as_often_as_the_formula_says():
    places = draw_place((np.arange(100_000) + 0.5) / 100_000, 3)
    # Roots of ln 2 / ln 4 = .5 and of ln 3 / ln 4 = .79248.
    assert (places == 0).mean() == pytest.approx(0.70711, abs=1e-4)
    assert (places <= 1).mean() == pytest.approx(0.89021, abs=1e-4)
    assert places.max() == 2
    np.testing.assert_array_equal(draw_place(np.array([0.0, 0.999]), np.array([0, 1])), [0, 0])
