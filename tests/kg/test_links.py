"""The split of links: exact sizes, disjoint, and the same whatever the order of the file."""

from pathlib import Path

import numpy as np
import pytest

from snag_dist.errors import ConfigError
from snag_dist.kg.alignment_formats import read_alignment
from snag_dist.kg.links import LinkSplit, split_links

LINKS = np.stack([np.arange(1000) * 2, np.random.default_rng(0).permutation(1000) * 2 + 1], axis=1)


def as_set(links: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(link) for link in links.tolist()}


def split(links: np.ndarray = LINKS, seed: int = 0, train: float = 0.3, dev: float = 0.1) -> LinkSplit:
    return split_links(links, train_share=train, dev_share=dev, seed=seed)


def test_sizes_are_exact_and_nothing_is_lost() -> None:
    found = split()
    assert [len(part) for part in (found.train, found.dev, found.test)] == [270, 30, 700]
    assert as_set(found.train) | as_set(found.dev) | as_set(found.test) == as_set(LINKS)
    assert found.train[:, 0].tolist() == sorted(found.train[:, 0].tolist())


def test_the_order_of_the_links_does_not_matter() -> None:
    one, other = split(), split(LINKS[np.random.default_rng(1).permutation(1000)])
    for name in ("train", "dev", "test"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_test_links_do_not_depend_on_dev() -> None:
    without = split(dev=0.0)
    assert len(without.dev) == 0
    assert as_set(without.test) == as_set(split().test)
    assert as_set(without.train) == as_set(split().train) | as_set(split().dev)


def test_a_link_keeps_its_place_in_line_when_others_join() -> None:
    # With half of the links, those for training are still the first of their order.
    half = split(LINKS[:500], train=0.5, dev=0.0)
    whole = split(train=0.9, dev=0.0)
    assert as_set(half.train) - as_set(whole.train) == set()


def test_seeds_give_other_splits_and_one_seed_the_same() -> None:
    assert as_set(split(seed=1).train) != as_set(split(seed=2).train)
    assert as_set(split(seed=1).train) == as_set(split(seed=1).train)
    # Chance: 270 of 1000 twice share about 73.
    assert 40 < len(as_set(split(seed=1).train) & as_set(split(seed=2).train)) < 110


def test_a_larger_share_for_training_takes_links_from_test_alone() -> None:
    small, large = split(train=0.3), split(train=0.6)
    assert as_set(large.test) < as_set(small.test)


@pytest.mark.parametrize(
    ("train", "dev", "message"),
    [
        (0.0, 0.1, "train_share: expected a share above 0 and below 1, got 0.0; set it to e.g. 0.3"),
        (1.0, 0.1, "train_share: expected a share above 0 and below 1, got 1.0; set it to e.g. 0.3"),
        (0.3, 1.0, "dev_share: expected a share of at least 0 and below 1, got 1.0; set it to e.g. 0.1"),
        (0.3, -0.1, "dev_share: expected a share of at least 0 and below 1, got -0.1; set it to e.g. 0.1"),
        (
            0.0001,
            0.0,
            "train_share, dev_share: expected links for train and for test, got 0 and 1000 of 1000; set other shares "
            "or bring more links",
        ),
        (
            0.9999,
            0.1,
            "train_share, dev_share: expected links for train and for test, got 900 and 0 of 1000; set other shares or "
            "bring more links",
        ),
    ],
)
def test_impossible_shares_are_told(train: float, dev: float, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        split(train=train, dev=dev)
    assert str(caught.value) == message


@pytest.mark.data
def test_published_shares(data_root: Path) -> None:
    for name, train, sizes in (
        ("DBP15K/fr_en", 0.3, [4050, 450, 10500]),
        ("OpenEA_EN_FR_15K_V1", 0.2, [2700, 300, 12000]),
    ):
        found = split(read_alignment(data_root / name).links, train=train)
        assert [len(part) for part in (found.train, found.dev, found.test)] == sizes
