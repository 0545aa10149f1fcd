"""Who loses a modality: exact ratios, nested, the same for an entity whoever else is there."""

import numpy as np
import pytest

from snag_dist.errors import ConfigError
from snag_dist.kg.missing import Missing, choose_missing

# 1000 entities, of which 800 have pictures.
PRESENT = np.arange(1000) % 5 != 0
LINKED = np.arange(0, 1000, 2)


def choose(ratio: float, **changes: object) -> Missing:
    arguments: dict[str, object] = {"ratio": ratio, "modality": "vision", "seed": 0}
    return choose_missing(**({"present": PRESENT} | arguments | changes))  # type: ignore[arg-type]


def test_the_ratio_holds_over_all_entities() -> None:
    found = choose(0.4)
    assert (found.kept, found.counted, found.ratio) == (400, 1000, 0.4)
    assert len(found.dropped) == 400
    assert PRESENT[found.dropped].all()
    assert found.dropped.tolist() == sorted(set(found.dropped.tolist()))


def test_the_ratio_holds_over_linked_entities_and_others_keep_theirs() -> None:
    found = choose(0.6, among=LINKED)
    assert (found.kept, found.counted, found.ratio) == (300, 500, 0.6)
    assert len(found.dropped) == 100
    assert set(found.dropped.tolist()) <= set(LINKED.tolist())


def test_a_ratio_above_the_natural_one_drops_none() -> None:
    found = choose(1.0)
    assert len(found.dropped) == 0
    assert found.ratio == 0.8


def test_zero_takes_it_from_all() -> None:
    assert choose(0.0).dropped.tolist() == np.flatnonzero(PRESENT).tolist()


def test_what_is_missing_stays_missing_at_lower_ratios() -> None:
    dropped = [set(choose(ratio).dropped.tolist()) for ratio in (0.7, 0.6, 0.4, 0.2, 0.05)]
    for more, less in zip(dropped[1:], dropped[:-1], strict=True):
        assert less < more


def test_the_order_of_the_counted_entities_does_not_matter() -> None:
    shuffled = np.random.default_rng(0).permutation(LINKED)
    assert choose(0.3, among=shuffled).dropped.tolist() == choose(0.3, among=LINKED).dropped.tolist()


def test_seeds_and_modalities_differ() -> None:
    first = set(choose(0.4).dropped.tolist())
    for other in (choose(0.4, seed=1), choose(0.4, modality="text")):
        # Chance: two halves of 800 share about 200.
        assert 150 < len(first & set(other.dropped.tolist())) < 250


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan")])
def test_impossible_ratios_are_told(ratio: float) -> None:
    with pytest.raises(ConfigError) as caught:
        choose(ratio)
    assert str(caught.value) == f"missing.vision: expected a ratio in [0, 1], got {ratio}; 0.4 keeps 40 %"


def test_nobody_to_count_is_told() -> None:
    with pytest.raises(ConfigError) as caught:
        choose(0.4, among=np.empty(0, dtype=np.int64))
    assert str(caught.value) == ("missing.vision: expected entities to count, got none; name those with a link, or all")
