"""The known-true index against hand numbers, against sets, and on a published graph."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from snag_dist.errors import DataError
from snag_dist.kg.formats import read_openke
from snag_dist.kg.truth import Ragged, TruthIndex

# Relation 0: 0 -> 1, 2, 3 and 4 -> 1. Relation 1: 1 -> 0. Relation 2 has no triple.
TRIPLES = np.array([[0, 0, 3], [0, 0, 1], [4, 0, 1], [0, 0, 2], [1, 1, 0], [0, 0, 1]], dtype=np.int64)


def ids(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def as_lists(ragged: Ragged) -> list[list[int]]:
    return [ragged[query].tolist() for query in range(len(ragged))]


@pytest.fixture(scope="module")
def truth() -> TruthIndex:
    return TruthIndex.build(TRIPLES, num_entities=5, num_relations=3)


def test_tails_and_heads_by_hand(truth: TruthIndex) -> None:
    assert as_lists(truth.tails(ids(0, 1, 4, 0, 0), ids(0, 1, 0, 2, 0))) == [
        [1, 2, 3],
        [0],
        [1],
        [],
        [1, 2, 3],
    ]
    assert as_lists(truth.heads(ids(0, 0, 1, 2), ids(1, 4, 0, 0))) == [[0, 4], [], [1], []]
    assert truth.num_triples == 5


def test_answers_of_mixed_direction_keep_the_order_of_the_queries(truth: TruthIndex) -> None:
    queries = np.array([[0, 0, 1], [0, 0, 1], [1, 1, 0], [2, 2, 2], [4, 0, 1]], dtype=np.int64)
    find_tail = np.array([True, False, False, True, True])
    answers = truth.answers(queries, find_tail)
    assert as_lists(answers) == [[1, 2, 3], [0, 4], [1], [], [1]]
    assert answers.offsets.tolist() == [0, 3, 5, 6, 6, 7]
    assert answers.queries().tolist() == [0, 0, 0, 1, 1, 2, 4]


def test_contains_by_hand(truth: TruthIndex) -> None:
    known = truth.contains(ids(0, 0, 1, 1, 4, 4), ids(0, 0, 1, 0, 0, 2), ids(3, 4, 0, 0, 1, 1))
    assert known.tolist() == [True, False, True, False, True, False]


def test_share_of_corrupted_tails_by_hand(truth: TruthIndex) -> None:
    # Relation 0: 4 triples, 3 distinct tails, 2 distinct heads: hpt 4/3, tph 2, 4/3 / (4/3 + 2) = 0.4.
    # Relation 1: 1 triple: 0.5. Relation 2: none: 0.5.
    np.testing.assert_allclose(truth.bernoulli_tail_share(), [0.4, 0.5, 0.5], rtol=1e-15)


def test_an_index_of_nothing_knows_nothing() -> None:
    truth = TruthIndex.build(np.empty((0, 3), dtype=np.int64), num_entities=2, num_relations=1)
    assert as_lists(truth.tails(ids(0, 1), ids(0, 0))) == [[], []]
    assert truth.contains(ids(0), ids(0), ids(1)).tolist() == [False]
    assert as_lists(truth.answers(np.array([[0, 0, 1]]), np.array([False]))) == [[]]
    assert truth.bernoulli_tail_share().tolist() == [0.5]


def test_no_queries_give_no_answers(truth: TruthIndex) -> None:
    assert len(truth.tails(ids(), ids())) == 0
    assert truth.contains(ids(), ids(), ids()).shape == (0,)


def test_lists_are_counted_from_the_front_only(truth: TruthIndex) -> None:
    tails = truth.tails(ids(0), ids(0))
    for query in (-1, 1):
        with pytest.raises(IndexError, match=f"list {query} of 1"):
            tails[query]


def test_equals_python_sets_on_a_random_graph() -> None:
    generator = np.random.default_rng(3)
    num_entities, num_relations = 12, 4
    triples = np.stack([generator.integers(0, high, 150) for high in (12, 4, 12)], axis=1)
    truth = TruthIndex.build(triples, num_entities, num_relations)
    known = set(map(tuple, triples.tolist()))
    grid = np.stack(np.meshgrid(*map(np.arange, (12, 4, 12)), indexing="ij"), axis=-1).reshape(-1, 3)
    expected = [tuple(row) in known for row in grid.tolist()]
    assert truth.contains(grid[:, 0], grid[:, 1], grid[:, 2]).tolist() == expected
    tails = truth.tails(grid[:, 0], grid[:, 1])
    heads = truth.heads(grid[:, 1], grid[:, 2])
    for query, (head, relation, tail) in enumerate(grid.tolist()):
        assert tails[query].tolist() == [t for t in range(12) if (head, relation, t) in known]
        assert heads[query].tolist() == [h for h in range(12) if (h, relation, tail) in known]


def test_ids_of_a_ninety_million_entity_graph_do_not_overflow() -> None:
    last = 90_999_999
    triples = np.array([[last, 1399, last - 1], [last, 1399, last], [last, 1398, 7], [0, 0, last]])
    truth = TruthIndex.build(triples, num_entities=last + 1, num_relations=1400)
    assert as_lists(truth.tails(ids(last, last), ids(1399, 1398))) == [[last - 1, last], [7]]
    assert as_lists(truth.heads(ids(1399, 0), ids(last, last))) == [[last], [0]]
    assert truth.contains(ids(last, last), ids(1399, 1399), ids(last, last - 2)).tolist() == [True, False]


def test_a_foreign_triple_is_refused() -> None:
    with pytest.raises(DataError, match="triple 1: tail id 5 is not in the graph of 5 entities and 3 relations"):
        TruthIndex.build(np.array([[0, 0, 1], [0, 0, 5]]), num_entities=5, num_relations=3)


def test_survives_pickling(truth: TruthIndex) -> None:
    copy = pickle.loads(pickle.dumps(truth))
    assert as_lists(copy.heads(ids(0), ids(1))) == [[0, 4]]


@pytest.mark.data
def test_share_of_corrupted_tails_on_db15k(published: Callable[[str], Path]) -> None:
    graph = read_openke(published("DB15K"))
    train = graph.split("train")
    truth = TruthIndex.build(train, graph.num_entities, graph.num_relations)
    assert truth.num_triples == 79_222
    share = truth.bernoulli_tail_share()
    # The published reference is 0.711. Exactly, it is 0.7095 over the train triples and 0.7109 over the test
    # triples; the share among the corruptions drawn in one epoch of 77 x 1024 scatters by 0.0016.
    assert share[train[:, 1]].mean() == pytest.approx(0.711, abs=0.002)
    assert share[train[:, 1]].mean() == pytest.approx(0.70948, abs=5e-6)
    assert share[graph.split("test")[:, 1]].mean() == pytest.approx(0.711, abs=5e-4)


@pytest.mark.data
def test_every_train_triple_of_db15k_is_known_and_no_test_triple_is(published: Callable[[str], Path]) -> None:
    graph = read_openke(published("DB15K"))
    truth = TruthIndex.build(graph.split("train"), graph.num_entities, graph.num_relations)
    assert truth.contains(*graph.split("train").T).all()
    assert not truth.contains(*graph.split("test").T).any()
    every = truth.answers(graph.split("train"), np.arange(79_222) % 2 == 0)
    own = np.where(np.arange(79_222) % 2 == 0, graph.split("train")[:, 2], graph.split("train")[:, 0])
    # Each list holds its own triple's answer.
    assert np.isin(np.arange(79_222), every.queries()[every.values == own[every.queries()]]).all()
