"""A pair of graphs says what does not fit, and gives its graphs back."""

from dataclasses import replace

import numpy as np
import pytest

from snag_dist.errors import DataError
from snag_dist.kg.alignment import LEFT, RIGHT, GraphPair, find_repeat
from snag_dist.kg.truth import Ragged

# Left: a, c. Right: b, d, e.
PAIR = GraphPair(
    keys=("a", "b", "c", "d", "e"),
    ids=np.array([0, 1, 2, 3, 7]),
    graph=np.array([0, 1, 0, 1, 1], dtype=np.int8),
    relations=("r", "s"),
    triples=np.array([[0, 0, 2], [2, 0, 0], [1, 1, 3], [3, 1, 4]]),
    links=np.array([[0, 3], [2, 1]]),
    attributes=Ragged(np.array([0, 2, 2, 2, 3, 3]), np.array([0, 1, 1])),
    attribute_names=("height", "weight"),
    surface_names=("A", "B", "C", "D", "E"),
)


def test_sides_and_names() -> None:
    assert (PAIR.num_entities, PAIR.num_relations) == (5, 2)
    assert PAIR.entities_of(LEFT).tolist() == [0, 2]
    assert PAIR.entities_of(RIGHT).tolist() == [1, 3, 4]
    assert PAIR.triples_of(LEFT).tolist() == [[0, 0, 2], [2, 0, 0]]
    assert PAIR.triples_of(RIGHT).tolist() == [[1, 1, 3], [3, 1, 4]]
    assert PAIR.names == PAIR.surface_names
    translated = ("1", "2", "3", "4", "5")
    assert replace(PAIR, translated_names=translated).names == translated


def test_as_one_graph() -> None:
    graph = PAIR.to_graph()
    assert graph.entities == PAIR.keys
    assert graph.split("train").tolist() == PAIR.triples.tolist()
    assert graph.entity_names == ("A", "B", "C", "D", "E")


def test_the_first_repeat() -> None:
    assert find_repeat(np.array([4, 2, 9, 2, 4])) == (1, 3)
    assert find_repeat(np.array([4, 2, 9])) is None
    assert find_repeat(np.array([], dtype=np.int64)) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keys": ("a", "b", "c", "d", "a")}, "entity 4: key 'a' is already entity 0"),
        (
            {"graph": np.array([0, 1], dtype=np.int8)},
            "graph: expected 5, one per key, got 2; leave none out",
        ),
        (
            {"graph": np.array([0, 1, 0, 1, 2], dtype=np.int8)},
            "graph: expected 0 (left) or 1 (right), got 2 for entity 4; an entity is of one of the two graphs",
        ),
        ({"surface_names": ("A",)}, "surface_names: expected 5, one per key, got 1; leave none out"),
        ({"translated_names": ()}, "translated_names: expected 5, one per key, got 0; leave none out"),
        (
            {"links": np.array([[0, 3, 1]])},
            "links: expected a (n, 2) int64 array, got (1, 3) int64; pass 2 int64 columns",
        ),
        (
            {"triples": np.array([[0, 0, 2], [0, 2, 2]])},
            "triples row 1: relation id 2 is not an id of the pair (5 entities, 2 relations); mend the triple",
        ),
        (
            {"triples": np.array([[0, 0, 2], [0, 1, 1]])},
            "triples row 1: expected head and tail in one graph, got [0, 1, 1] across both; what joins the graphs "
            "belongs to the links",
        ),
        (
            {"attributes": Ragged(np.array([0, 1, 1, 1, 1, 1]), np.array([2]))},
            "attributes: expected ids in [0, 2), got 2 to 2; name every attribute",
        ),
        ({"links": np.array([[0, 3], [2, 5]])}, "links row 1: link [2, 5] names an entity outside [0, 5); mend"),
        (
            {"links": np.array([[3, 0]])},
            "links row 0: expected a left entity, then a right one, got them the other way round; swap the columns",
        ),
        (
            {"links": np.array([[0, 3], [1, 4]])},
            "links row 1: expected a left and a right entity, got two of the right graph; a link joins the two graphs",
        ),
        (
            {"links": np.array([[0, 3], [2, 1], [0, 3]])},
            "links row 2: the same link stands 2 further up; remove one of them",
        ),
        (
            {"links": np.array([[0, 3], [2, 1], [0, 4]])},
            "links row 2: the left entity already has a link, 2 further up; ranks need one right answer, so keep one",
        ),
        (
            {"links": np.array([[0, 3], [2, 3]])},
            "links row 1: the right entity already has a link, 1 further up",
        ),
    ],
)
def test_what_does_not_fit_is_told(changes: dict[str, object], message: str) -> None:
    with pytest.raises(DataError) as caught:
        replace(PAIR, **changes)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
