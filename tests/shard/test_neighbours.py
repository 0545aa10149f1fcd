"""Edges into a worker's rows against those of the whole graph, and keyed draws of neighbours."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from snag_dist.kg.adjacency import Adjacency
from snag_dist.random import Stream
from snag_dist.shard.neighbours import Block, OwnedEdges

Ids = NDArray[np.int64]
NUM = 40
STREAM = Stream(3, "neighbours", epoch=1, step=5)


def draw_triples() -> Ids:
    """Hubs, parallel triples, self-loops, and entities without any triple (from 36 on)."""
    draw = np.random.default_rng(0)
    heads, tails = (np.floor(36 * draw.random(260) ** 2).astype(np.int64) for _ in range(2))
    triples = np.stack([heads, draw.integers(0, 4, 260), tails], axis=1)
    return np.concatenate([triples, triples[:20], np.array([[7, 0, 7]])])


def build(first_row: int = 0, stop: int = NUM) -> OwnedEdges:
    return OwnedEdges.build(draw_triples(), NUM, first_row, stop)


def all_rows() -> Ids:
    return np.arange(NUM)


def by_target(block: Block, targets: Ids) -> dict[int, dict[int, float]]:
    """Row id of a target to row ids of its sources, each with the value of its edge."""
    edges = block.edges
    assert edges.value is not None
    found: dict[int, dict[int, float]] = {int(target): {} for target in targets}
    for source, target, value in zip(edges.source.tolist(), edges.target.tolist(), edges.value.tolist(), strict=True):
        found[int(targets[target])][int(block.sources[source])] = value
    return found


def test_golden() -> None:
    triples = np.array([[0, 0, 1], [1, 1, 2], [0, 5, 1], [2, 1, 2]])
    expected = [[0.333333, 0.577350, 0], [0.577350, 0.25, 0.353553], [0, 0.353553, 0.5]]
    for row in range(3):
        owned = OwnedEdges.build(triples, 3, row, row + 1)
        found = np.zeros(3)
        found[owned.sources] = owned.values
        np.testing.assert_allclose(found, expected[row], atol=1e-6)


@pytest.mark.parametrize(("first_row", "stop"), [(0, NUM), (0, 11), (11, 30), (30, NUM), (38, NUM), (12, 12)])
def test_a_slice_holds_the_rows_of_the_whole_graph(first_row: int, stop: int) -> None:
    whole = Adjacency.build(draw_triples(), NUM)
    bounds = whole.sources.offsets
    span = slice(int(bounds[first_row]), int(bounds[stop]))
    owned = build(first_row, stop)
    assert owned.first_row == first_row
    assert owned.offsets.tolist() == (bounds[first_row : stop + 1] - bounds[first_row]).tolist()
    assert owned.sources.tolist() == whole.sources.values[span].tolist()
    np.testing.assert_allclose(owned.values, whole.normalised()[span], rtol=1e-14)


def test_a_block_of_all_neighbours_is_the_graph_around_its_targets() -> None:
    targets = np.array([12, 15, 20, 29])
    block = build(11, 30).block(targets)
    whole = Adjacency.build(draw_triples(), NUM)
    values = whole.normalised()
    expected = {
        int(row): dict(
            zip(
                whole.sources.values[span := slice(*whole.sources.offsets[row : row + 2])].tolist(),
                values[span].tolist(),
                strict=True,
            )
        )
        for row in targets
    }
    found = by_target(block, targets)
    assert {row: list(edges) for row, edges in found.items()} == {row: list(edges) for row, edges in expected.items()}
    for row, edges in expected.items():
        assert found[row] == pytest.approx(edges, rel=1e-14)
    assert block.sources.tolist() == sorted({source for edges in expected.values() for source in edges})
    assert (block.edges.num_sources, block.edges.num_targets) == (len(block.sources), 4)


@pytest.mark.parametrize("fanout", [None, 1, 3])
def test_targets_are_sources_and_keep_their_own_edge(fanout: int | None) -> None:
    full = by_target(build().block(all_rows()), all_rows())
    for targets in (all_rows(), np.array([2, 9, 38])):
        block = build().block(targets, fanout, STREAM)
        assert set(targets.tolist()) <= set(block.sources.tolist())
        assert (np.diff(block.sources) > 0).all()
        for row, edges in by_target(block, targets).items():
            assert edges[row] == full[row][row]
            assert edges.keys() <= full[row].keys()


@pytest.mark.parametrize("fanout", [1, 3, 6])
def test_a_fanout_bounds_neighbours_and_those_with_fewer_keep_all(fanout: int) -> None:
    full = by_target(build().block(all_rows()), all_rows())
    drawn = by_target(build().block(all_rows(), fanout, STREAM), all_rows())
    few = [row for row, edges in full.items() if len(edges) - 1 <= fanout]
    assert 0 < len(few) < NUM
    for row in few:
        assert drawn[row] == full[row]
    for row in set(full) - set(few):
        scale = (len(full[row]) - 1) / fanout
        assert len(drawn[row]) == fanout + 1
        for source, value in drawn[row].items():
            assert value == pytest.approx(full[row][source] * (1.0 if source == row else scale), rel=1e-14)


def test_a_draw_depends_on_neither_worker_nor_other_targets() -> None:
    drawn = by_target(build().block(all_rows(), 2, STREAM), all_rows())
    for first_row, stop in ((0, 10), (10, 33), (33, NUM)):
        owned = build(first_row, stop)
        for targets in (np.arange(first_row, stop), np.arange(first_row, stop, 3), np.array([stop - 1])):
            found = by_target(owned.block(targets, 2, STREAM), targets)
            assert {row: list(edges) for row, edges in found.items()} == {int(row): list(drawn[row]) for row in targets}
            for row, edges in found.items():
                assert edges == pytest.approx(drawn[row], rel=1e-14)


def test_another_layer_step_or_seed_draws_others() -> None:
    def draw(stream: Stream) -> list[tuple[int, int]]:
        found = by_target(build().block(all_rows(), 2, stream), all_rows())
        return [(row, source) for row, edges in found.items() for source in edges]

    layer = STREAM.child("layer0")
    others = [STREAM.child("layer1"), layer.at(epoch=1, step=6), layer.at(epoch=2, step=5), Stream(4, layer.name, 1, 5)]
    first = draw(layer)
    assert draw(STREAM.child("layer0")) == first
    for stream in others:
        # Of some 70 drawn neighbours, far from all are drawn again.
        assert len(set(draw(stream)) - set(first)) > 20


def test_sums_over_drawn_neighbours_are_right_on_average() -> None:
    fanout, num_draws = 2, 600
    owned, full = build(), by_target(build().block(all_rows()), all_rows())
    codes = torch.from_numpy(np.random.default_rng(1).standard_normal(NUM))
    sums = np.zeros((num_draws, NUM))
    for step in range(num_draws):
        block = owned.block(all_rows(), fanout, STREAM.at(step=step))
        assert block.edges.value is not None
        weighted = block.edges.value * codes[torch.from_numpy(block.sources)][block.edges.source]
        sums[step] = np.bincount(block.edges.target.numpy(), weighted.numpy(), minlength=NUM)
    ratios: list[float] = []
    for row, edges in full.items():
        parts = np.array([value * float(codes[source]) for source, value in edges.items() if source != row])
        exact = parts.sum() + edges[row] * float(codes[row])
        if len(parts) <= fanout:
            np.testing.assert_allclose(sums[:, row], exact, rtol=1e-12)
            continue
        # Of a sum estimated from `fanout` of n terms drawn without replacement.
        variance = len(parts) ** 2 / fanout * (1.0 - fanout / len(parts)) * parts.var(ddof=1)
        assert abs(sums[:, row].mean() - exact) < 5.0 * np.sqrt(variance / num_draws)
        ratios.append(sums[:, row].var(ddof=1) / variance)
    assert len(ratios) > 15
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.1)
