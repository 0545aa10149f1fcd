"""Two graphs and the links between them: the data of entity alignment, in one space of ids.

The published datasets number the entities of both graphs together, interleaved, so there is one list of keys,
one list of triples and one feature table; which graph an entity is of is a column beside its key.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from snag_dist.errors import DataError
from snag_dist.kg.columns import check_distinct
from snag_dist.kg.graph import COLUMNS, Graph, find_bad_id
from snag_dist.kg.truth import Ids, Ragged

LEFT, RIGHT = 0, 1
SIDES = ("left", "right")


@dataclass(frozen=True)
class GraphPair:
    """Two graphs with dense ids over both: id i is the i-th key.

    Attributes:
        keys: (E,) of the entities, distinct over both graphs.
        ids: (E,) int64 the numbers the files give the entities, ascending: image vectors are filed under them.
        graph: (E,) int8, `LEFT` or `RIGHT`.
        relations: (R,) keys, distinct; the graphs may share relations.
        triples: (T, 3) int64 of both graphs, columns head, relation, tail; both ends are of one graph.
        links: (L, 2) int64, columns left and right entity; an entity has at most one link.
        attributes: E lists of attributes, each attribute of an entity once.
        attribute_names: (A,) distinct.
        surface_names: (E,) what the keys call the entities.
        translated_names: (E,) the same in one language; None where the source has none.

    Raises:
        DataError: at construction, if a length, an id or a graph does not fit.
    """

    keys: tuple[str, ...]
    ids: Ids
    graph: NDArray[np.int8]
    relations: tuple[str, ...]
    triples: Ids
    links: Ids
    attributes: Ragged
    attribute_names: tuple[str, ...]
    surface_names: tuple[str, ...]
    translated_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        check_distinct(self.keys, "entity")
        check_distinct(self.relations, "relation")
        check_distinct(self.attribute_names, "attribute")
        self._check_lengths()
        bad = find_bad_id(self.triples, self.num_entities, self.num_relations)
        if bad is not None:
            row, column = bad
            raise DataError(
                f"triples row {row}: {COLUMNS[column]} id {self.triples[row, column]} is not an id of the pair "
                f"({self.num_entities} entities, {self.num_relations} relations); mend the triple"
            )
        crossing = self.graph[self.triples[:, 0]] != self.graph[self.triples[:, 2]]
        if crossing.any():
            row = int(crossing.argmax())
            raise DataError(
                f"triples row {row}: expected head and tail in one graph, got {self.triples[row].tolist()} across "
                "both; what joins the graphs belongs to the links"
            )
        wrong = find_bad_link(self.links, self.graph)
        if wrong is not None:
            raise DataError(f"links row {wrong[0]}: {wrong[1]}")

    @property
    def num_entities(self) -> int:
        return len(self.keys)

    @property
    def num_relations(self) -> int:
        return len(self.relations)

    @property
    def names(self) -> tuple[str, ...]:
        """(E,) the text channel: translated names where there are any, else surface names."""
        return self.surface_names if self.translated_names is None else self.translated_names

    def entities_of(self, side: int) -> Ids:
        """Return the entities of one graph (`LEFT` or `RIGHT`), ascending."""
        return np.flatnonzero(self.graph == side).astype(np.int64, copy=False)

    def triples_of(self, side: int) -> Ids:
        """Return the (T', 3) triples of one graph."""
        return self.triples[self.graph[self.triples[:, 0]] == side]

    def to_graph(self) -> Graph:
        """Return both graphs as one whose triples are all for training: alignment holds out links, not triples."""
        return Graph(self.keys, self.relations, {"train": self.triples}, entity_names=self.names)

    def _check_lengths(self) -> None:
        names = self.translated_names
        lengths = {
            "ids": len(self.ids),
            "graph": len(self.graph),
            "attributes": len(self.attributes),
            "surface_names": len(self.surface_names),
            "translated_names": self.num_entities if names is None else len(names),
        }
        for name, length in lengths.items():
            if length != self.num_entities:
                raise DataError(f"{name}: expected {self.num_entities}, one per key, got {length}; leave none out")
        strange = (self.graph != LEFT) & (self.graph != RIGHT)
        if strange.any():
            row = int(strange.argmax())
            raise DataError(
                f"graph: expected {LEFT} (left) or {RIGHT} (right), got {self.graph[row]} for entity {row}; an entity "
                "is of one of the two graphs"
            )
        for name, array, width in (("triples", self.triples, 3), ("links", self.links, 2)):
            if array.ndim != 2 or array.shape[1] != width or array.dtype != np.int64:
                raise DataError(
                    f"{name}: expected a (n, {width}) int64 array, got {array.shape} {array.dtype}; "
                    f"pass {width} int64 columns"
                )
        values = self.attributes.values
        if len(values) and not 0 <= int(values.min()) <= int(values.max()) < len(self.attribute_names):
            raise DataError(
                f"attributes: expected ids in [0, {len(self.attribute_names)}), got {int(values.min())} to "
                f"{int(values.max())}; name every attribute"
            )


def find_bad_link(links: Ids, graph: NDArray[np.int8]) -> tuple[int, str] | None:
    """Return (row, what is wrong and what to do) of the first link that cannot stand, None if all can.

    Args:
        links: (L, 2) int64, columns left and right entity.
        graph: (E,) graph of each entity.
    """
    outside = ((links < 0) | (links >= len(graph))).any(axis=1)
    if outside.any():
        row = int(outside.argmax())
        return row, f"link {links[row].tolist()} names an entity outside [0, {len(graph)}); mend or remove the link"
    misplaced = (graph[links] != np.array([LEFT, RIGHT])).any(axis=1)
    if misplaced.any():
        row = int(misplaced.argmax())
        sides = graph[links[row]].tolist()
        if sides == [RIGHT, LEFT]:
            return row, "expected a left entity, then a right one, got them the other way round; swap the columns"
        return row, (
            f"expected a left and a right entity, got two of the {SIDES[sides[0]]} graph; a link joins the two "
            "graphs, so mend or remove it"
        )
    for column in (LEFT, RIGHT):
        repeat = find_repeat(links[:, column])
        if repeat is not None:
            first, row = repeat
            if (links[first] == links[row]).all():
                return row, f"the same link stands {row - first} further up; remove one of them"
            return row, (
                f"the {SIDES[column]} entity already has a link, {row - first} further up; ranks need one right "
                "answer, so keep one of them"
            )
    return None


def find_repeat(values: Ids) -> tuple[int, int] | None:
    """Return the positions of the first value (n,) that stood before and of where it stood: (before, repeat)."""
    firsts, inverse = np.unique(values, return_index=True, return_inverse=True)[1:]
    first_of_each = firsts[inverse]
    repeated = first_of_each != np.arange(len(values))
    if not repeated.any():
        return None
    row = int(repeated.argmax())
    return int(first_of_each[row]), row
