"""The k-core by hand, and against networkx where the graph is simple."""

import networkx
import numpy as np
import pytest

from snag_dist.kg.core import Blocks, choose_core, find_core
from snag_dist.kg.truth import Ids

# A square 0 1 2 3 with a diagonal, a tail 4 5 hanging off it, and 6 alone.
SQUARE = [(0, 1), (1, 2), (2, 3), (3, 0), (0, 2), (3, 4), (4, 5)]


def blocks_of(pairs: list[tuple[int, int]], size: int = 2) -> Blocks:
    triples = np.array([(head, 0, tail) for head, tail in pairs], dtype=np.int64).reshape(-1, 3)
    return lambda: (triples[start : start + size] for start in range(0, len(triples), size))


def members(pairs: list[tuple[int, int]], k: int, num_entities: int = 7) -> list[int]:
    return np.flatnonzero(find_core(blocks_of(pairs), num_entities, k).members).tolist()


def test_cores_of_a_square_with_a_tail() -> None:
    assert members(SQUARE, 0) == [0, 1, 2, 3, 4, 5, 6]
    assert members(SQUARE, 1) == [0, 1, 2, 3, 4, 5]
    # Without 5, entity 4 has one triple left, so it goes too.
    assert members(SQUARE, 2) == [0, 1, 2, 3]
    assert members(SQUARE, 3) == []


def test_parallel_triples_count_and_triples_of_an_entity_with_itself_do_not() -> None:
    assert members([*SQUARE, (4, 5)], 2) == [0, 1, 2, 3, 4, 5]
    assert members([*SQUARE, (6, 6), (6, 6)], 1) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("share", "k", "num_entities"),
    [(1.0, 0, 7), (0.9, 0, 7), (6 / 7, 1, 6), (0.6, 1, 6), (4 / 7, 2, 4), (0.01, 2, 4)],
)
def test_the_smallest_core_with_a_share_of_the_entities(share: float, k: int, num_entities: int) -> None:
    core = choose_core(blocks_of(SQUARE), 7, share)
    assert (core.k, core.num_entities) == (k, num_entities)
    assert core.share == pytest.approx(num_entities / 7)


def test_a_core_has_the_highest_k_that_it_is_the_core_of() -> None:
    # Four entities, all next to one another: the 1-, 2- and 3-core at once.
    everyone = [(a, b) for a in range(4) for b in range(a)]
    assert choose_core(blocks_of(everyone), 4, 1.0).k == 3


def test_a_graph_without_triples_has_no_core_but_itself() -> None:
    assert choose_core(blocks_of([]), 5, 0.5).k == 0
    assert find_core(blocks_of([]), 5, 1).num_entities == 0


@pytest.mark.parametrize("size", [97, 5000])
def test_the_same_as_networkx_on_a_random_simple_graph(size: int) -> None:
    graph = networkx.barabasi_albert_graph(300, 4, seed=2)
    graph.add_edges_from(networkx.gnm_random_graph(120, 900, seed=3).edges)
    numbers = networkx.core_number(graph)
    pairs = list(graph.edges)
    assert max(numbers.values()) > 8
    for k in range(max(numbers.values()) + 2):
        wanted: Ids = np.array(sorted(node for node, number in numbers.items() if number >= k), dtype=np.int64)
        assert np.array_equal(np.flatnonzero(find_core(blocks_of(pairs, size), 300, k).members), wanted)
