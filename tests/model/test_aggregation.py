"""Sums over edges: the normalised adjacency, shares, and what wrong edges are told."""

import numpy as np
import pytest
import torch

from snag_dist.errors import ShapeError
from snag_dist.kg.adjacency import Adjacency
from snag_dist.model.aggregation import Edges, aggregate, attend, connect, connect_graph

# G9.
TRIPLES = np.array([[0, 0, 1], [1, 1, 2], [0, 5, 1], [2, 1, 2]])


def dense(edges: Edges) -> torch.Tensor:
    matrix = torch.zeros(edges.num_targets, edges.num_sources)
    assert edges.value is not None
    matrix[edges.target, edges.source] = edges.value
    return matrix


def test_adjacency_golden_numbers() -> None:
    expected = torch.tensor([[0.333333, 0.577350, 0], [0.577350, 0.25, 0.353553], [0, 0.353553, 0.5]])
    torch.testing.assert_close(dense(connect_graph(Adjacency.build(TRIPLES, 3))), expected, atol=1e-6, rtol=0)


def test_an_entity_without_triples_has_its_self_loop() -> None:
    edges = connect_graph(Adjacency.build(np.array([[0, 0, 1]]), 3))
    expected = torch.tensor([[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1.0]])
    torch.testing.assert_close(dense(edges), expected)


def test_shares_survive_large_scores() -> None:
    edges = connect_graph(Adjacency.build(TRIPLES, 3))
    shares = attend(torch.full((3, 1), -4000.0), torch.tensor([[0.0], [-10], [0]]), edges, 0.2)
    assert torch.isfinite(shares).all()
    # Entity 0 shares between itself (-LeakyReLU(-4000) = 800) and entity 1 (802).
    torch.testing.assert_close(shares[:2, 0], torch.tensor([0.119203, 0.880797]), atol=1e-4, rtol=0)


def test_a_target_without_edges_gets_zeros() -> None:
    edges = connect(torch.tensor([1, 0]), torch.tensor([1, 1]), 2, 3)
    codes = torch.tensor([[1.0, 2], [3, 4]], requires_grad=True)
    out = aggregate(torch.tensor([0.5, 2.0]), codes, edges)
    assert torch.equal(out, torch.tensor([[0.0, 0], [3.5, 6], [0, 0]]))
    out.sum().backward()
    assert torch.equal(codes.grad, torch.tensor([[2.0, 2], [0.5, 0.5]]))


BAD = {
    "order": (([0, 0], [1, 0]), r"targets of edges: expected them in ascending order, got a lower one after a higher"),
    "source": (([0, 2], [0, 1]), r"sources of edges: expected positions in \[0, 2\), got 0 to 2"),
    "target": (([0, 1], [-1, 1]), r"targets of edges: expected positions in \[0, 2\), got -1 to 1"),
    "length": (([0, 1], [1]), r"targets of edges: expected shape \(2,\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_edges_are_named(case: str) -> None:
    (source, target), message = BAD[case]
    with pytest.raises(ShapeError, match=message):
        connect(torch.tensor(source), torch.tensor(target), 2, 2)
