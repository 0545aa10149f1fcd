"""The graph refuses what is not a graph, and numbers triples so that equal ones are equal."""

import pickle

import numpy as np
import pytest

from snag_dist.errors import DataError
from snag_dist.kg.graph import Graph, encode_triples, find_bad_id


def ids(*rows: tuple[int, int, int]) -> np.ndarray:
    return np.array(rows, dtype=np.int64).reshape(-1, 3)


def test_counts_and_order_of_all_triples() -> None:
    graph = Graph(("a", "b"), ("r",), {"test": ids((1, 0, 1)), "train": ids((0, 0, 1), (0, 0, 1))})
    assert (graph.num_entities, graph.num_relations) == (2, 1)
    assert graph.all_triples().tolist() == [[0, 0, 1], [0, 0, 1], [1, 0, 1]]
    assert graph.split("valid").shape == (0, 3)


def test_survives_pickling() -> None:
    graph = Graph(("a", "b"), ("r",), {"train": ids((0, 0, 1))}, entity_names=("A", "B"))
    copy = pickle.loads(pickle.dumps(graph))
    assert copy.entity_names == ("A", "B")
    assert copy.split("train").tolist() == [[0, 0, 1]]


@pytest.mark.parametrize(
    ("triple", "message"),
    [
        ((2, 0, 0), "split 'train' row 1: head id 2 is not in [0, 2); mend the triple or add its entity"),
        (
            (0, 1, 0),
            "split 'train' row 1: relation id 1 is not in [0, 1); mend the triple or add its relation",
        ),
        ((0, 0, -1), "split 'train' row 1: tail id -1 is not in [0, 2); mend the triple or add its entity"),
    ],
)
def test_id_out_of_range(triple: tuple[int, int, int], message: str) -> None:
    with pytest.raises(DataError) as caught:
        Graph(("a", "b"), ("r",), {"train": ids((0, 0, 1), triple)})
    assert str(caught.value) == message


def test_wrong_shape_split_or_labels() -> None:
    with pytest.raises(DataError, match=r"split 'train': expected a \(T, 3\) int64 array .* got \(1, 2\) int64"):
        Graph(("a",), ("r",), {"train": np.zeros((1, 2), dtype=np.int64)})
    with pytest.raises(DataError, match=r"got \(1, 3\) int32"):
        Graph(("a",), ("r",), {"train": np.zeros((1, 3), dtype=np.int32)})  # pyright: ignore
    with pytest.raises(DataError, match="split 'dev': expected one of train, valid, test"):
        Graph(("a",), ("r",), {"dev": ids((0, 0, 0))})
    with pytest.raises(DataError, match="relation_names: expected 1 labels, one per key, got 2"):
        Graph(("a",), ("r",), {"train": ids((0, 0, 0))}, relation_names=("R", "S"))


def test_first_bad_id_is_named() -> None:
    triples = ids((0, 0, 1), (0, 3, 5), (9, 0, 0))
    assert find_bad_id(triples, 2, 1) == (1, 1)
    assert find_bad_id(triples[:1], 2, 1) is None
    assert find_bad_id(triples[:0], 2, 1) is None


def test_codes_are_equal_exactly_for_equal_triples() -> None:
    generator = np.random.default_rng(0)
    splits = {name: generator.integers(0, 3, (40, 3)) for name in ("train", "valid")}
    codes = encode_triples(Graph(("a", "b", "c"), ("r", "s", "t"), splits))
    seen: dict[int, tuple[int, ...]] = {}
    for split, triples in splits.items():
        for code, triple in zip(codes[split].tolist(), map(tuple, triples.tolist()), strict=True):
            assert seen.setdefault(code, triple) == triple
    assert len(seen) == len(set(seen.values()))
    assert len(codes["test"]) == 0


def test_codes_fit_int64_at_ninety_million_entities() -> None:
    # (head * R + relation) * E + tail is 1.16e19 here and would pass 2^63.
    last = 90_999_999
    triples = ids((last, 1399, last), (last, 1399, 0), (0, 0, last))
    # Only the number of keys matters here, so a range stands for 91 million of them.
    graph = Graph(range(last + 1), range(1400), {"train": triples})  # pyright: ignore[reportArgumentType]
    codes = encode_triples(graph)["train"]
    assert codes.min() >= 0
    assert np.argsort(codes).tolist() == [2, 1, 0]
