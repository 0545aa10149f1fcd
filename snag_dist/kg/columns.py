"""Columns of triples become a `Graph`: the checks that every reader shares, whatever the file was.

A text reader and the Parquet reader of the store both end here, so that a wrong id is told in the same words.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snag_dist.errors import DataError
from snag_dist.kg.graph import COLUMNS, SPLITS, Graph, find_bad_id

# From this share of impossible relation ids on, the columns are taken to be in another order; below it, the
# single row is taken to be wrong.
_WRONG_ORDER_SHARE = 0.05


@dataclass(frozen=True)
class TripleColumns:
    """One split as a file holds it.

    Attributes:
        place: the file, for messages.
        heads, relations, tails: (T,) integer arrays of any integer dtype.
        lines: (T,) line of each row in a text file; None where rows are counted from 0 (Parquet).
        order: the order the columns have in the file.
    """

    place: str
    heads: NDArray[Any]
    relations: NDArray[Any]
    tails: NDArray[Any]
    lines: NDArray[np.int64] | None = None
    order: tuple[str, str, str] = COLUMNS

    def row_place(self, row: int) -> str:
        """Return where row `row` stands, for messages."""
        return f"{self.place} row {row}" if self.lines is None else f"{self.place} line {self.lines[row]}"


def graph_from_columns(
    entities: Sequence[str],
    relations: Sequence[str],
    columns: Mapping[str, TripleColumns],
    *,
    entity_names: tuple[str, ...] | None = None,
    relation_names: tuple[str, ...] | None = None,
    skipped_literals: Mapping[str, int] | None = None,
) -> Graph:
    """Check the columns of every split and build the graph.

    Args:
        entities: (E,) keys in the order of the ids.
        relations: (R,) keys in the order of the ids.
        columns: split name to its columns.
        entity_names, relation_names: labels, one per key.
        skipped_literals: see `Graph`.

    Raises:
        DataError: keys repeat; a split is empty; columns differ in length or are not integers; an id is out
            of range, with a hint where the columns look swapped.
    """
    check_distinct(entities, "entity")
    check_distinct(relations, "relation")
    triples = {split: _stack(columns[split], len(entities), len(relations)) for split in SPLITS if split in columns}
    return Graph(
        entities=tuple(entities),
        relations=tuple(relations),
        triples=triples,
        entity_names=entity_names,
        relation_names=relation_names,
        skipped_literals=dict(skipped_literals or {}),
    )


def check_distinct(keys: Sequence[str], what: str) -> None:
    """Refuse keys that repeat.

    Raises:
        DataError: naming the first repeated key and both its ids.
    """
    if len(set(keys)) == len(keys):
        return
    first: dict[str, int] = {}
    for position, key in enumerate(keys):
        if key in first:
            raise DataError(
                f"{what} {position}: key {key!r} is already {what} {first[key]}; "
                "keys must be distinct, so rename or merge them"
            )
        first[key] = position


def number_by_appearance(
    splits: Mapping[str, Iterable[tuple[str, str, str]]],
) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, NDArray[np.int64]]]:
    """Give keys ids in the order they first appear, over train, valid, test; the head before the tail.

    Args:
        splits: split name to its (head, relation, tail) keys.

    Returns:
        Entity keys, relation keys, and per split the (T, 3) ids, columns head, relation, tail.
    """
    entities: dict[str, int] = {}
    relations: dict[str, int] = {}
    triples: dict[str, NDArray[np.int64]] = {}
    for split in SPLITS:
        if split in splits:
            ids = [
                (
                    entities.setdefault(head, len(entities)),
                    relations.setdefault(relation, len(relations)),
                    entities.setdefault(tail, len(entities)),
                )
                for head, relation, tail in splits[split]
            ]
            triples[split] = np.array(ids, dtype=np.int64).reshape(-1, 3)
    return tuple(entities), tuple(relations), triples


def _stack(columns: TripleColumns, num_entities: int, num_relations: int) -> NDArray[np.int64]:
    parts = (columns.heads, columns.relations, columns.tails)
    if len({len(part) for part in parts}) != 1:
        lengths = ", ".join(f"{name} {len(part)}" for name, part in zip(COLUMNS, parts, strict=True))
        raise DataError(f"{columns.place}: expected columns of one length, got {lengths}; write it anew")
    for name, part in zip(COLUMNS, parts, strict=True):
        if not np.issubdtype(part.dtype, np.integer):
            raise DataError(
                f"{columns.place}: column {name}: expected integer ids, got {part.dtype}; "
                "cast the column, and drop rows without a value"
            )
    if not len(columns.heads):
        raise DataError(f"{columns.place}: expected triples, found none; an empty split cannot be used")
    triples = np.stack([part.astype(np.int64, copy=False) for part in parts], axis=1)
    if find_bad_id(triples, num_entities, num_relations) is not None:
        raise DataError(_explain_bad_id(columns, triples, num_entities, num_relations))
    return triples


def _explain_bad_id(columns: TripleColumns, triples: NDArray[np.int64], num_entities: int, num_relations: int) -> str:
    outside = (triples[:, 1] < 0) | (triples[:, 1] >= num_relations)
    if outside.mean() >= _WRONG_ORDER_SHARE:
        row = int(outside.argmax())
        position = columns.order.index("relation") + 1
        start = (
            f"{columns.row_place(row)}: relation id {triples[row, 1]} (column {position}) is not in "
            f"[0, {num_relations})"
        )
        looks = _guess_relation_column(columns, triples, num_relations)
        if looks is not None:
            return (
                f"{start}; this layout is {' '.join(columns.order)}, but column {looks} looks like the "
                "relation: reorder the columns or read the file in the other layout (OpenKE is head tail "
                "relation, TSV is head relation tail)"
            )
    bad = find_bad_id(triples, num_entities, num_relations)
    assert bad is not None, "called only for triples with an id out of range"
    row, column = bad
    found = (columns.heads, columns.relations, columns.tails)[column][row]
    what, limit = ("relation", num_relations) if column == 1 else ("entity", num_entities)
    return (
        f"{columns.row_place(row)}: {COLUMNS[column]} id {found} is not in [0, {limit}); "
        f"mend the triple or add its {what} to the list of {what} keys"
    )


def _guess_relation_column(columns: TripleColumns, triples: NDArray[np.int64], num_relations: int) -> int | None:
    """Return the position (from 1) in the file of the column that fits as the relation, None if none does."""
    fitting = [
        column
        for column in (0, 2)
        if int(triples[:, column].min()) >= 0 and int(triples[:, column].max()) < num_relations
    ]
    if not fitting:
        return None
    best = min(fitting, key=lambda column: len(np.unique(triples[:, column])))
    return columns.order.index(COLUMNS[best]) + 1
