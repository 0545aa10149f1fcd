"""The files beside the triples: keys (`entity2id.txt`, `relation2id.txt`) and human labels (`entities.tsv`,
`relation_names.txt`).
"""

from pathlib import Path

from snag_dist.errors import DataError
from snag_dist.kg.lines import numbered_lines, shorten


def read_keys(path: Path, what: str, *, count_line: bool) -> tuple[str, ...]:
    """Read "name id" lines; the name may hold spaces, so the id is what follows the last blank.

    Args:
        path: the file.
        what: "entity" or "relation", for messages.
        count_line: True: the first line must be the count. False: it may be.

    Returns:
        Keys in the order of their ids.

    Raises:
        DataError: a line is malformed, the count disagrees, an id is out of range, a key or an id repeats.
    """
    rows = list(numbered_lines(path))
    count = _count(path, rows, required=count_line)
    if count is not None:
        rows = rows[1:]
        if count != len(rows):
            raise DataError(
                f"{path} line 1: the header says {count} lines, the file has {len(rows)}; "
                "restore the file, or mend the count if the lines are right"
            )
    keys: list[str | None] = [None] * len(rows)
    line_of_id: dict[int, int] = {}
    line_of_key: dict[str, int] = {}
    for number, line in rows:
        key, id_ = _split_key(path, number, line, what)
        if id_ >= len(rows):
            raise DataError(
                f"{path} line {number}: {what} id {id_} is not in [0, {len(rows)}); "
                "ids must be 0, 1, 2, ... without gaps, one a line"
            )
        if id_ in line_of_id:
            raise DataError(
                f"{path} line {number}: {what} id {id_} is already taken in line {line_of_id[id_]}; "
                "give every key its own id"
            )
        if key in line_of_key:
            raise DataError(
                f"{path} line {number}: {what} key {shorten(key)} already stands in line {line_of_key[key]}; "
                "keys must be distinct, so rename or merge them"
            )
        keys[id_], line_of_id[id_], line_of_key[key] = key, number, number
    return tuple(key for key in keys if key is not None)


def read_entity_names(path: Path, entities: tuple[str, ...]) -> tuple[str, ...] | None:
    """Read labels of entities.

    Args:
        path: see `read_all_entity_names`.
        entities: (E,) keys; keys the file has beyond them are left out.

    Returns:
        (E,) labels, the key itself for an entity without one; None if there is no such file.

    Raises:
        DataError: see `read_all_entity_names`.
    """
    names = read_all_entity_names(path)
    return None if names is None else tuple(names.get(key, key) for key in entities)


def read_all_entity_names(path: Path) -> dict[str, str] | None:
    """Read labels from a tab-separated file whose header has `key` and `name`; other columns are not read.

    Args:
        path: the file; it is optional.

    Returns:
        Key to label, the key itself where the label is empty; None if there is no such file.

    Raises:
        DataError: the header has no `key` or no `name`, a line has another number of fields, a key repeats.
    """
    if not path.is_file():
        return None
    rows = list(numbered_lines(path))
    header = rows[0][1].split("\t") if rows else []
    if "key" not in header or "name" not in header:
        raise DataError(
            f"{path} line 1: expected a header with the columns key and name, separated by tabs, "
            f"got {shorten(' '.join(header))}; add the header"
        )
    key_column, name_column = header.index("key"), header.index("name")
    names: dict[str, str] = {}
    for number, line in rows[1:]:
        fields = line.split("\t")
        if len(fields) != len(header):
            raise DataError(
                f"{path} line {number}: expected {len(header)} fields separated by tabs, got {len(fields)}; "
                "mend the line (a field holds neither tab nor line end)"
            )
        key = fields[key_column].strip()
        if key in names:
            raise DataError(f"{path} line {number}: key {shorten(key)} already has a line; remove one of them")
        names[key] = fields[name_column].strip() or key
    return names


def read_relation_names(path: Path, relations: tuple[str, ...]) -> tuple[str, ...] | None:
    """Read labels from "id name" lines, with or without a count line.

    Returns:
        (R,) labels, the key itself for a relation without one; None if there is no such file.

    Raises:
        DataError: a line is malformed, an id is not in [0, R) or repeats.
    """
    if not path.is_file():
        return None
    rows = list(numbered_lines(path))
    if _count(path, rows, required=False) is not None:
        rows = rows[1:]
    names: dict[int, str] = {}
    for number, line in rows:
        id_, _, name = line.strip().partition("\t" if "\t" in line else " ")
        if not (id_.isascii() and id_.isdigit()) or not name.strip():
            raise DataError(f"{path} line {number}: expected 'id name', got {shorten(line)}; mend or remove the line")
        if int(id_) >= len(relations) or int(id_) in names:
            problem = "already has a name" if int(id_) in names else f"is not in [0, {len(relations)})"
            raise DataError(f"{path} line {number}: relation id {id_} {problem}; give each id once, with its name")
        names[int(id_)] = name.strip()
    return tuple(names.get(position, key) for position, key in enumerate(relations))


def _count(path: Path, rows: list[tuple[int, str]], *, required: bool) -> int | None:
    """Return the number that a first line of one integer holds, None if the first line is something else."""
    first = rows[0][1].strip() if rows else ""
    if first.isascii() and first.isdigit():
        return int(first)
    if required:
        raise DataError(
            f"{path} line 1: expected the number of lines that follow, got {shorten(first)}; "
            "an OpenKE file begins with its count"
        )
    return None


def _split_key(path: Path, number: int, line: str, what: str) -> tuple[str, int]:
    parts = line.rsplit(maxsplit=1)
    if len(parts) != 2 or not parts[0].strip() or not (parts[1].isascii() and parts[1].isdigit()):
        raise DataError(
            f"{path} line {number}: expected '{what} id' with an integer id at the end, got {shorten(line)}; "
            "mend or remove the line"
        )
    return parts[0].strip(), int(parts[1])
