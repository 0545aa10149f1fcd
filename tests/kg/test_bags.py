"""Bags of relations and attributes, by hand and by a plain count."""

from pathlib import Path

import numpy as np
import pytest

from snag_dist.kg.alignment_formats import read_alignment
from snag_dist.kg.bags import Bag, attribute_bag, relation_bag
from snag_dist.kg.truth import Ragged

GOLDEN = np.array([[0, 0, 1], [1, 1, 2], [0, 5, 1], [2, 1, 2]])


def test_golden() -> None:
    bag = relation_bag(GOLDEN, 3)
    assert bag.columns.tolist() == [1, 0, 5]
    assert bag.dense().tolist() == [[0, 1, 1], [1, 1, 1], [3, 0, 0]]
    assert bag.dense().dtype == np.float32


def test_only_the_most_frequent_relations_are_kept() -> None:
    bag = relation_bag(GOLDEN, 4, num_columns=1)
    assert bag.columns.tolist() == [1]
    assert bag.dense().tolist() == [[0], [1], [3], [0]]
    assert bag.present.tolist() == [False, True, True, False]


def test_attributes_are_marked_not_counted() -> None:
    # Attribute 2 has three entities, 0 has two, 1 and 3 one each.
    attributes = Ragged(np.array([0, 2, 2, 4, 6]), np.array([0, 2, 2, 3, 0, 2]))
    bag = attribute_bag(attributes, num_columns=2)
    assert bag.columns.tolist() == [2, 0]
    assert bag.dense().tolist() == [[1, 1], [0, 0], [1, 0], [1, 1]]


def test_nothing_gives_a_bag_without_columns() -> None:
    for bag in (
        relation_bag(np.empty((0, 3), dtype=np.int64), 2),
        attribute_bag(Ragged(np.zeros(3, dtype=np.int64), np.empty(0, dtype=np.int64))),
    ):
        assert bag.dense().shape == (2, 0)
        assert not bag.present.any()


def random_bag() -> tuple[Bag, np.ndarray]:
    generator = np.random.default_rng(0)
    triples = np.stack([generator.integers(0, high, 500) for high in (40, 30, 40)], axis=1)
    return relation_bag(triples, 40, num_columns=7), triples


def test_equals_a_plain_count() -> None:
    bag, triples = random_bag()
    counts = np.bincount(triples[:, 1])
    assert bag.columns.tolist() == sorted(range(len(counts)), key=lambda relation: (-counts[relation], relation))[:7]
    expected = np.zeros((40, 7))
    for head, relation, tail in triples.tolist():
        if relation in bag.columns:
            column = bag.columns.tolist().index(relation)
            expected[head, column] += 1
            expected[tail, column] += 1
    np.testing.assert_array_equal(bag.dense(), expected)


@pytest.mark.parametrize("size", [1, 7, 40, 100])
def test_blocks_are_the_rows_in_order(size: int) -> None:
    bag, _ = random_bag()
    starts, blocks = zip(*bag.blocks(size), strict=True)
    assert list(starts) == list(range(0, 40, size))
    assert max(len(block) for block in blocks) <= size
    np.testing.assert_array_equal(np.concatenate(blocks), bag.dense())


@pytest.mark.data
def test_bags_of_zh_en(data_root: Path) -> None:
    pair = read_alignment(data_root / "DBP15K" / "zh_en")
    relations, attributes = relation_bag(pair.triples, pair.num_entities), attribute_bag(pair.attributes)
    assert relations.width == attributes.width == 1000
    counts = np.sort(np.bincount(pair.triples[:, 1]))[::-1]
    assert int(relations.counts.sum()) == 2 * int(counts[:1000].sum())
    assert attributes.counts.max() == 1
    assert len(attributes) == 38960
