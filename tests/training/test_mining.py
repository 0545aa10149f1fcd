"""The iterative stage by hand: streaks, promotion, and what dev links say of precision."""

from typing import Any

import numpy as np
import pytest

from snag_dist.training.mining import Mining

DEV = np.array([[10, 20], [11, 21], [12, 22]])


def check(mining: Mining, mutual: list[tuple[int, int]], checks: int = 3, dev: Any = DEV) -> Mining:
    return mining.check(np.array(mutual, dtype=np.int64).reshape(-1, 2), dev, checks)


def test_a_pair_is_promoted_after_checks_in_a_row() -> None:
    mining = check(Mining(), [(0, 5), (1, 6)])
    assert (mining.waiting.tolist(), mining.streaks.tolist()) == ([[0, 5], [1, 6]], [1, 1])
    mining = check(mining, [(1, 6), (0, 5)])
    assert (mining.waiting.tolist(), mining.streaks.tolist()) == ([[1, 6], [0, 5]], [2, 2])
    assert mining.promoted.shape == (0, 2)
    mining = check(mining, [(0, 5), (2, 7)])
    assert mining.promoted.tolist() == [[0, 5]]
    assert (mining.waiting.tolist(), mining.streaks.tolist()) == ([[2, 7]], [1])
    # Promoted pairs stay, later ones join behind them.
    for _ in range(2):
        mining = check(mining, [(2, 7)])
    assert mining.promoted.tolist() == [[0, 5], [2, 7]]
    assert [record.num_promoted for record in mining.records] == [0, 0, 1, 1, 2]
    assert [record.num_candidates for record in mining.records] == [2, 2, 1, 1, 0]
    assert [record.check for record in mining.records] == [1, 2, 3, 4, 5]


def test_a_pair_that_lapses_starts_anew() -> None:
    mining = Mining()
    for mutual in ([(0, 5)], [(0, 5)], [], [(0, 5)], [(0, 5)]):
        mining = check(mining, mutual)
    assert mining.promoted.tolist() == []
    assert mining.streaks.tolist() == [2]
    assert check(mining, [(0, 5)]).promoted.tolist() == [[0, 5]]


def test_another_partner_is_another_pair() -> None:
    mining = check(check(Mining(), [(0, 5)]), [(0, 5)])
    mining = check(mining, [(0, 6)])
    assert (mining.waiting.tolist(), mining.streaks.tolist()) == ([[0, 6]], [1])
    assert len(mining.promoted) == 0


def test_one_check_promotes_at_once() -> None:
    assert check(Mining(), [(0, 5), (3, 4)], checks=1).promoted.tolist() == [[0, 5], [3, 4]]


def test_a_check_leaves_the_earlier_state_as_it_was() -> None:
    before = check(Mining(), [(0, 5)])
    check(before, [(0, 5)])
    assert (before.streaks.tolist(), len(before.records)) == ([1], 1)


# Right, the left end in another pair's place, both ends of dev but not of one link, the right end with a stranger.
TOUCHING = [(10, 20), (11, 5), (12, 20), (3, 22)]


def test_pairs_with_a_dev_end_are_never_promoted_and_tell_the_precision() -> None:
    mining = Mining()
    for number in range(1, 5):
        mining = check(mining, [*TOUCHING, (0, 6)], checks=2)
        # Of two checks in a row, and by ends: two of the right pair, and one, two, one of the others.
        assert mining.records[-1].dev_precision == (None if number == 1 else pytest.approx(2 / 6))
        assert mining.promoted.tolist() == ([] if number == 1 else [[0, 6]] * (number // 2))
    assert set(map(tuple, TOUCHING)) <= set(map(tuple, mining.waiting.tolist()))


@pytest.mark.parametrize(
    ("mutual", "precision"), [([(10, 20), (11, 21)], 1.0), ([(10, 21)], 0.0), ([(0, 5)], None), ([], None)]
)
def test_precision_is_known_of_dev_pairs_alone(mutual: list[tuple[int, int]], precision: float | None) -> None:
    assert check(Mining(), mutual, checks=1).records[0].dev_precision == precision


def test_the_estimate_is_the_precision_of_what_is_promoted() -> None:
    # 2,000 linked pairs found with 60 % right, others swapped among themselves; a tenth of the links are dev.
    generator = np.random.default_rng(0)
    links = np.stack([np.arange(2000), 5000 + np.arange(2000)], axis=1)
    found = links.copy()
    wrong = np.arange(1200, 2000)
    found[wrong, 1] = np.roll(found[wrong, 1], 1)
    dev = links[np.sort(generator.choice(2000, size=200, replace=False))]
    record = check(Mining(), found.tolist(), checks=1, dev=dev).records[0]
    # 400 ends, of which 60 % are right by expectation: four standard errors.
    assert record.dev_precision == pytest.approx(0.6, abs=4 * (0.6 * 0.4 / 200) ** 0.5)


@pytest.mark.parametrize("checks", [2, 3])
def test_precision_is_unknown_before_a_pair_has_lasted(checks: int) -> None:
    mining = Mining()
    for number in range(1, checks + 1):
        mining = check(mining, [(10, 20), (11, 21)], checks=checks)
        assert mining.records[-1].dev_precision == (1.0 if number == checks else None)


def test_without_dev_links_everything_may_be_promoted() -> None:
    mining = check(Mining(), [(10, 20)], checks=1, dev=DEV[:0])
    assert mining.promoted.tolist() == [[10, 20]]
    assert mining.records[0].dev_precision is None


def test_state_goes_round_and_the_stage_goes_on_alike() -> None:
    mining = Mining()
    stranger = [(11, 21), (10, 23)]
    for mutual in ([(0, 5), (10, 21)], [(10, 21), (1, 6)], [], [(1, 6), *stranger], [(2, 7), *stranger]):
        mining = check(mining, mutual, checks=2)
        again = Mining.of_state(mining.state())
        assert again.records == mining.records
        for name in ("waiting", "streaks", "promoted"):
            one, other = getattr(mining, name), getattr(again, name)
            assert (one.dtype, one.shape, one.tolist()) == (other.dtype, other.shape, other.tolist())
        mutual = [(1, 6), (2, 7)]
        one, other = check(mining, mutual, checks=2), check(again, mutual, checks=2)
        assert one.records == other.records
        assert one.promoted.tolist() == other.promoted.tolist()
    assert [record.dev_precision for record in mining.records] == [None, 0.0, None, None, pytest.approx(2 / 3)]


def test_an_empty_state_goes_round() -> None:
    again = Mining.of_state(Mining().state())
    assert (again.waiting.shape, again.streaks.shape, again.promoted.shape, again.records) == ((0, 2), (0,), (0, 2), ())
