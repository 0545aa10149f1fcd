"""Edges by hand, and their normalised values against the whole matrix."""

import numpy as np
import pytest

from snag_dist.kg.adjacency import Adjacency

GOLDEN = np.array([[0, 0, 1], [1, 1, 2], [0, 5, 1], [2, 1, 2]])


def dense(adjacency: Adjacency, values: np.ndarray) -> np.ndarray:
    matrix = np.zeros((adjacency.num_entities,) * 2)
    matrix[adjacency.targets(), adjacency.sources.values] = values
    return matrix


def test_golden() -> None:
    adjacency = Adjacency.build(GOLDEN, 3)
    assert adjacency.sources.offsets.tolist() == [0, 2, 5, 7]
    assert adjacency.sources.values.tolist() == [0, 1, 0, 1, 2, 1, 2]
    # Two triples join 0 and 1; the triple from 2 to itself adds nothing to its self-loop.
    assert adjacency.counts.tolist() == [1, 2, 2, 1, 1, 1, 1]
    assert adjacency.targets().tolist() == [0, 0, 1, 1, 1, 2, 2]
    assert adjacency.degrees().tolist() == [2, 3, 2]
    assert adjacency.weights().tolist() == [3, 4, 2]
    expected = [[0.333333, 0.577350, 0], [0.577350, 0.25, 0.353553], [0, 0.353553, 0.5]]
    np.testing.assert_allclose(dense(adjacency, adjacency.normalised()), expected, atol=1e-6)


def test_triples_in_both_directions_are_one_edge() -> None:
    adjacency = Adjacency.build(np.array([[0, 0, 1], [1, 0, 0], [1, 3, 0]]), 2)
    assert adjacency.num_edges == 4
    assert adjacency.counts.tolist() == [1, 3, 3, 1]


def test_entities_without_triples_keep_their_self_loop() -> None:
    adjacency = Adjacency.build(np.empty((0, 3), dtype=np.int64), 3)
    assert adjacency.sources.values.tolist() == adjacency.targets().tolist() == [0, 1, 2]
    assert adjacency.normalised().tolist() == [1.0, 1.0, 1.0]
    assert Adjacency.build(np.empty((0, 3), dtype=np.int64), 0).num_edges == 0


def test_equals_the_whole_matrix() -> None:
    generator = np.random.default_rng(0)
    triples = np.stack([generator.integers(0, high, 400) for high in (50, 4, 50)], axis=1)
    matrix = np.zeros((50, 50))
    for head, _, tail in triples:
        if head != tail:
            matrix[head, tail] += 1
            matrix[tail, head] += 1
    matrix += np.eye(50)
    scale = np.diag(matrix.sum(axis=1) ** -0.5)
    adjacency = Adjacency.build(triples, 50)
    np.testing.assert_allclose(dense(adjacency, adjacency.counts), matrix)
    np.testing.assert_allclose(dense(adjacency, adjacency.normalised()), scale @ matrix @ scale)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_order_of_triples_does_not_matter(seed: int) -> None:
    shuffled = np.random.default_rng(seed).permutation(GOLDEN)
    one, other = Adjacency.build(GOLDEN, 3), Adjacency.build(shuffled, 3)
    assert one.sources.values.tolist() == other.sources.values.tolist()
    assert one.counts.tolist() == other.counts.tolist()
