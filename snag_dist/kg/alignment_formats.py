"""Readers of the published alignment layouts, DBP15K's and OpenEA's, from files to a `GraphPair`.

    ent_ids_1, ent_ids_2        "id key" a line, tab separated; the ids of the two graphs are disjoint and may be
                                interleaved
    triples_1, triples_2        "head relation tail" a line, of ids: relation in the MIDDLE
    links                       "left right" a line: ids in ill_ent_ids (DBP15K) or in sup_ent_ids and ref_ent_ids
                                (JAPE, OpenEA as converted), else keys in ent_links (OpenEA)
    training_attrs_1, _2        optional: "key attribute attribute ..." a line, tab separated
    translated_names.tsv        optional: "id name" a line, tab separated

Lines end with LF or CRLF. Relations have no keys in these layouts; their ids are their keys.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snag_dist.errors import DataError
from snag_dist.kg.alignment import GraphPair, find_bad_link, find_repeat
from snag_dist.kg.graph import COLUMNS
from snag_dist.kg.lines import numbered_lines, read_bytes, read_id_rows, shorten
from snag_dist.kg.truth import Ids, Ragged

_NUMBERS = (1, 2)
_LINK_FILES = (("ill_ent_ids",), ("sup_ent_ids", "ref_ent_ids"), ("ref_ent_ids",), ("ent_links",))
# Below this many entities, the columns of a graph may look swapped by chance.
_SMALLEST_JUDGED = 100
# From this share of unknown ids on, the columns are taken to be in another order; below it, the row to be wrong.
_WRONG_ORDER_SHARE = 0.05


@dataclass(frozen=True)
class _Entities:
    """Both lists of entities, merged by id."""

    ids: Ids  # (E,) ascending
    keys: tuple[str, ...]
    graph: NDArray[np.int8]
    row_of_key: dict[str, int]

    def find(self, ids: Ids) -> tuple[Ids, NDArray[np.int8]]:
        """Return dense ids and graphs of file ids, of any shape; both are -1 where there is no such entity."""
        rows = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1).astype(np.int64, copy=False)
        known = self.ids[rows] == ids
        return np.where(known, rows, -1), np.where(known, self.graph[rows], -1).astype(np.int8)


def read_alignment(folder: Path) -> GraphPair:
    """Read a folder in the layout of DBP15K or OpenEA; dense ids follow the ids of the files.

    Raises:
        DataError: a file is missing or not UTF-8; a line is malformed; an id or key repeats or stands in both
            graphs; a triple, link, attribute or name is of an unknown entity; a triple's columns are in another
            order; a link stays inside a graph, repeats, or shares an end with another.
    """
    entities = _read_entities(folder)
    sides = [_read_triples(folder / f"triples_{number}", number - 1, entities) for number in _NUMBERS]
    triples = np.concatenate(sides)
    relation_ids, relation = np.unique(triples[:, 1], return_inverse=True)
    triples[:, 1] = relation
    attributes, attribute_names = _read_attributes(folder, entities)
    return GraphPair(
        keys=entities.keys,
        ids=entities.ids,
        graph=entities.graph,
        relations=tuple(str(id_) for id_ in relation_ids.tolist()),
        triples=triples,
        links=_read_links(folder, entities),
        attributes=attributes,
        attribute_names=attribute_names,
        surface_names=tuple(surface_name(key) for key in entities.keys),
        translated_names=_read_names(folder / "translated_names.tsv", entities),
    )


def surface_name(key: str) -> str:
    """Return what a key calls its entity: the end of its IRI, with blanks for underscores.

    A title may hold slashes, so of `http://dbpedia.org/resource/AC/DC` all behind `/resource/` is taken.
    """
    _, resource, title = key.partition("/resource/")
    if not resource:
        title = key.rstrip("/#").replace("#", "/").rpartition("/")[2]
    return title.replace("_", " ").strip() or key


def _read_entities(folder: Path) -> _Entities:
    line_of_id: dict[int, tuple[Path, int]] = {}
    line_of_key: dict[str, tuple[Path, int]] = {}
    found: list[tuple[int, str, int]] = []
    for number in _NUMBERS:
        path = folder / f"ent_ids_{number}"
        size = len(found)
        for line_number, line in numbered_lines(path):
            id_, _, key = line.partition("\t")
            id_, key = id_.strip(), key.strip()
            if not (id_.isascii() and id_.isdigit() and len(id_) <= 18) or not key:
                raise DataError(
                    f"{path} line {line_number}: expected an id and a key separated by a tab, got {shorten(line)}; "
                    "mend or remove the line"
                )
            here = (path, line_number)
            _refuse_repeat(f"id {id_}", here, line_of_id.setdefault(int(id_), here))
            _refuse_repeat(f"key {shorten(key)}", here, line_of_key.setdefault(key, here))
            found.append((int(id_), key, number - 1))
        if len(found) == size:
            raise DataError(f"{path}: expected entities, found none; restore the file")
    found.sort()
    keys = tuple(key for _, key, _ in found)
    return _Entities(
        np.array([id_ for id_, _, _ in found], dtype=np.int64),
        keys,
        np.array([side for _, _, side in found], dtype=np.int8),
        {key: row for row, key in enumerate(keys)},
    )


def _refuse_repeat(what: str, here: tuple[Path, int], first: tuple[Path, int]) -> None:
    if first == here:
        return
    (path, line), (first_path, first_line) = here, first
    if path == first_path:
        raise DataError(f"{path} line {line}: entity {what} already stands in line {first_line}; remove one of them")
    raise DataError(
        f"{path} line {line}: entity {what} is in both graphs, it already stands in {first_path.name} line "
        f"{first_line}; give the two graphs disjoint ids and keys (a prefix will do)"
    )


def _read_triples(path: Path, side: int, entities: _Entities) -> Ids:
    """Return (T, 3) of one graph, entities dense, relations as in the file."""
    values, lines = read_id_rows(path, read_bytes(path), first_line=1, columns=" ".join(COLUMNS))
    if not len(values):
        raise DataError(f"{path}: expected triples, found none; restore the file")
    rows, graphs = entities.find(values)
    wrong = graphs[:, [0, 2]] != side
    swapped = _looks_swapped(values, graphs == side, int((entities.graph == side).sum()))
    if not wrong.any() and not swapped:
        return np.stack([rows[:, 0], values[:, 1], rows[:, 2]], axis=1)
    row = int(wrong.any(axis=1).argmax())
    if swapped:
        raise DataError(
            f"{path} line {lines[row]}: expected head relation tail, but the last column looks like the relation "
            f"(line {shorten(' '.join(str(value) for value in values[row].tolist()))}); reorder the columns"
        )
    column = 0 if wrong[row, 0] else 2
    what = f"{COLUMNS[column]} id {values[row, column]}"
    own, other = f"ent_ids_{side + 1}", f"ent_ids_{2 - side}"
    if graphs[row, column] >= 0:
        raise DataError(
            f"{path} line {lines[row]}: {what} is an entity of the other graph ({other}); a triple stays inside one "
            "graph, so mend or remove it"
        )
    raise DataError(f"{path} line {lines[row]}: {what} is not in {own}; mend the triple or add the entity to {own}")


def _looks_swapped(values: Ids, known: NDArray[np.bool_], num_entities: int) -> bool:
    """Say whether triples (T, 3) stand as head tail relation: the middle column then holds entities.

    Ids of relations may be ids of entities too, so the last column alone does not tell.

    Args:
        known: (T, 3) which values are ids of this graph's entities.
    """
    middle, last = (len(np.unique(values[:, column])) for column in (1, 2))
    if last >= middle or not bool(known[:, :2].all()):
        return False
    if float((~known[:, 2]).mean()) >= _WRONG_ORDER_SHARE:
        return True
    return num_entities >= _SMALLEST_JUDGED and 2 * middle > num_entities


def link_files(folder: Path) -> list[Path]:
    """List the files that the links of a folder are read from.

    Raises:
        DataError: there is none.
    """
    for names in _LINK_FILES:
        if all((folder / name).is_file() for name in names):
            return [folder / name for name in names]
    raise DataError(
        f"{folder}: expected links in ill_ent_ids, ref_ent_ids or ent_links, found none of them; check the folder and "
        "the file's name"
    )


def _read_links(folder: Path, entities: _Entities) -> Ids:
    paths = link_files(folder)
    read = _read_link_keys if paths[0].name == "ent_links" else _read_link_ids
    found = [(path, *read(path, entities)) for path in paths]
    links = np.concatenate([rows for _, rows, _ in found])
    if not len(links):
        raise DataError(f"{found[0][0]}: expected links, found none; restore the file")
    wrong = find_bad_link(links, entities.graph)
    if wrong is not None:
        row, problem = wrong
        path, line = [(path, line) for path, _, lines in found for line in lines.tolist()][row]
        raise DataError(f"{path} line {line}: {problem}")
    return links


def _read_link_ids(path: Path, entities: _Entities) -> tuple[Ids, Ids]:
    values, lines = read_id_rows(path, read_bytes(path), first_line=1, columns="left right")
    rows = entities.find(values)[0]
    unknown = rows < 0
    if unknown.any():
        row = int(unknown.any(axis=1).argmax())
        column = int(unknown[row].argmax())
        raise DataError(
            f"{path} line {lines[row]}: id {values[row, column]} is in neither ent_ids_1 nor ent_ids_2; mend or "
            "remove the link"
        )
    return rows, lines


def _read_link_keys(path: Path, entities: _Entities) -> tuple[Ids, Ids]:
    links: list[tuple[int, int]] = []
    lines: list[int] = []
    for number, line in numbered_lines(path):
        keys = [part.strip() for part in line.split("\t")]
        if len(keys) != 2:
            raise DataError(
                f"{path} line {number}: expected two keys separated by a tab, got {shorten(line)}; mend the line"
            )
        left, right = (_row_of_key(key, path, number, entities) for key in keys)
        links.append((left, right))
        lines.append(number)
    return np.array(links, dtype=np.int64).reshape(-1, 2), np.array(lines, dtype=np.int64)


def _row_of_key(key: str, path: Path, line_number: int, entities: _Entities) -> int:
    row = entities.row_of_key.get(key)
    if row is None:
        raise DataError(
            f"{path} line {line_number}: key {shorten(key)} is in neither ent_ids_1 nor ent_ids_2; mend or remove the "
            "line"
        )
    return row


def _read_attributes(folder: Path, entities: _Entities) -> tuple[Ragged, tuple[str, ...]]:
    """Return E lists of attributes and the names, which are sorted: ids do not depend on the order of lines."""
    of_row: dict[int, tuple[list[str], Path, int]] = {}
    for number in _NUMBERS:
        path = folder / f"training_attrs_{number}"
        if not path.is_file():
            continue
        for line_number, line in numbered_lines(path):
            key, *attributes = (part.strip() for part in line.split("\t"))
            row = _row_of_key(key, path, line_number, entities)
            if entities.graph[row] != number - 1:
                raise DataError(
                    f"{path} line {line_number}: {shorten(key)} is an entity of the other graph; move the line to "
                    f"training_attrs_{3 - number}"
                )
            here = (attributes, path, line_number)
            first = of_row.setdefault(row, here)
            if first is not here:
                raise DataError(
                    f"{path} line {line_number}: {shorten(key)} already has line {first[2]}; put its attributes "
                    "into one line"
                )
    names = tuple(sorted({name for attributes, _, _ in of_row.values() for name in attributes if name}))
    id_of = {name: position for position, name in enumerate(names)}
    codes = np.sort(
        np.fromiter(
            (row * len(names) + id_of[name] for row, (listed, _, _) in of_row.items() for name in listed if name),
            dtype=np.int64,
        )
    )
    codes = codes[np.diff(codes, prepend=-1) != 0]
    offsets = np.searchsorted(codes, np.arange(len(entities.keys) + 1, dtype=np.int64) * len(names))
    return Ragged(offsets.astype(np.int64, copy=False), codes % max(1, len(names))), names


def _read_names(path: Path, entities: _Entities) -> tuple[str, ...] | None:
    """Return (E,) translated names, the surface name for an entity without one; None if there is no file."""
    if not path.is_file():
        return None
    ids: list[int] = []
    names: list[str] = []
    lines: list[int] = []
    for number, line in numbered_lines(path):
        id_, tab, name = line.partition("\t")
        if not tab or not (id_.isascii() and id_.isdigit() and len(id_) <= 18):
            raise DataError(
                f"{path} line {number}: expected an id and a name separated by a tab, got {shorten(line)}; "
                "mend or remove the line"
            )
        ids.append(int(id_))
        names.append(name.strip())
        lines.append(number)
    rows = entities.find(np.array(ids, dtype=np.int64))[0]
    repeat = find_repeat(rows)
    if (rows < 0).any():
        position, problem = int((rows < 0).argmax()), "is in neither ent_ids_1 nor ent_ids_2"
    elif repeat is not None:
        position, problem = repeat[1], "already has a name"
    else:
        name_of = dict(zip(rows.tolist(), names, strict=True))
        return tuple(name_of.get(row) or surface_name(key) for row, key in enumerate(entities.keys))
    raise DataError(f"{path} line {lines[position]}: id {ids[position]} {problem}; give each entity at most one line")
