"""Readers of the published layouts, each from files to a `Graph`.

    OpenKE     entity2id.txt, relation2id.txt ("name id" a line) and train2id.txt, valid2id.txt, test2id.txt
               ("head tail relation": relation LAST); every file begins with the count of its lines
    TSV        train, valid, test (.tsv or .txt), "head relation tail" a line, of keys or of ids
    N-Triples  train.nt, valid.nt, test.nt, "<head> <relation> <tail> ." a line

Inside, the order is always head, relation, tail. Two optional files give labels: `entities.tsv` (a header
with at least `key` and `name`, tab separated) and `relation_names.txt` ("id name" a line). Parquet is read by
the store, which checks its columns with `graph_from_columns` too.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from snag_dist.errors import DataError
from snag_dist.kg.columns import TripleColumns, graph_from_columns, number_by_appearance
from snag_dist.kg.graph import COLUMNS, SPLITS, Graph
from snag_dist.kg.labels import read_entity_names, read_keys, read_relation_names
from snag_dist.kg.lines import numbered_lines, read_bytes, read_count_line, read_id_rows, shorten
from snag_dist.kg.ntriples import parse_statement

__all__ = [
    "NTRIPLES_ENDINGS",
    "TSV_ENDINGS",
    "TripleColumns",
    "graph_from_columns",
    "parse_key_lines",
    "parse_statements",
    "read_ntriples",
    "read_openke",
    "read_tsv",
    "split_paths",
]

KeyTriple = tuple[str, str, str]
TSV_ENDINGS = (".tsv", ".txt")
NTRIPLES_ENDINGS = (".nt",)


def read_openke(folder: Path) -> Graph:
    """Read a folder in the OpenKE layout.

    Raises:
        DataError: a file is missing or not UTF-8; a header count disagrees with its file; a line is
            malformed; keys or ids repeat; an id is out of range or the columns look swapped; a split is
            empty.
    """
    entities = read_keys(folder / "entity2id.txt", "entity", count_line=True)
    relations = read_keys(folder / "relation2id.txt", "relation", count_line=True)
    columns: dict[str, TripleColumns] = {}
    for split in SPLITS:
        path = folder / f"{split}2id.txt"
        count, data = read_count_line(path, read_bytes(path))
        rows, lines = read_id_rows(path, data, first_line=2, columns="head tail relation")
        if len(rows) != count:
            raise DataError(
                f"{path} line 1: the header says {count} triples, the file has {len(rows)}; "
                "restore the file, or mend the count if the lines are right"
            )
        columns[split] = TripleColumns(
            str(path), rows[:, 0], rows[:, 2], rows[:, 1], lines, order=("head", "tail", "relation")
        )
    return graph_from_columns(
        entities,
        relations,
        columns,
        entity_names=read_entity_names(folder / "entities.tsv", entities),
        relation_names=read_relation_names(folder / "relation_names.txt", relations),
    )


def read_tsv(source: Path | Mapping[str, Path], *, with_ids: bool) -> Graph:
    """Read triples as `head relation tail`, one a line.

    Args:
        source: a folder with `train`, `valid` and `test` (`.tsv` or `.txt`), or a path per split; a split
            that such a mapping leaves out is absent from the graph.
        with_ids: False: the columns are keys, and ids follow the order of first appearance over train, valid,
            test. True: the columns are ids; the keys come from `entity2id.txt` and `relation2id.txt` beside
            the train file (with or without a count line), or are the ids themselves where there is no file.

    Raises:
        DataError: as for `read_openke`.
    """
    paths = split_paths(source, TSV_ENDINGS)
    folder = next(iter(paths.values())).parent
    if with_ids:
        columns = {split: _read_id_columns(path) for split, path in paths.items()}
        entities = _keys_or_ids(folder / "entity2id.txt", "entity", columns)
        relations = _keys_or_ids(folder / "relation2id.txt", "relation", columns)
    else:
        entities, relations, columns = _number_keys(
            paths, {split: parse_key_lines(path, numbered_lines(path)) for split, path in paths.items()}
        )
    return graph_from_columns(
        entities,
        relations,
        columns,
        entity_names=read_entity_names(folder / "entities.tsv", entities),
        relation_names=read_relation_names(folder / "relation_names.txt", relations) if with_ids else None,
    )


def read_ntriples(source: Path | Mapping[str, Path]) -> Graph:
    """Read N-Triples; IRIs and blank nodes become entities, ids follow the order of first appearance.

    Statements whose object is a literal are left out and counted in `Graph.skipped_literals`. A blank node's
    label is taken to mean the same node in all files: they are the splits of one graph.

    Args:
        source: a folder with train.nt, valid.nt and test.nt, or a path per split.

    Raises:
        DataError: a file is missing or not UTF-8; a line is not a statement; an escape is not a character; a
            split is empty, or holds literals only.
    """
    paths = split_paths(source, NTRIPLES_ENDINGS)
    skipped = dict.fromkeys(paths, 0)

    def read_statements(split: str, path: Path) -> Iterator[KeyTriple]:
        for statement in parse_statements(path, numbered_lines(path)):
            if statement is None:
                skipped[split] += 1
            else:
                yield statement

    entities, relations, columns = _number_keys(
        paths, {split: read_statements(split, path) for split, path in paths.items()}
    )
    names = read_entity_names(next(iter(paths.values())).parent / "entities.tsv", entities)
    return graph_from_columns(entities, relations, columns, entity_names=names, skipped_literals=skipped)


def split_paths(source: Path | Mapping[str, Path], endings: tuple[str, ...]) -> dict[str, Path]:
    """Return the file of every split, train first.

    Args:
        source: a folder, whose files have one of the endings; or a path per split.
        endings: that are looked for, the first one first.

    Raises:
        DataError: a split is unknown, or its file is missing from the folder.
    """
    if not isinstance(source, Path):
        unknown = [split for split in source if split not in SPLITS]
        if unknown or not source:
            raise DataError(
                f"split {unknown[0]!r}: no such split; name the files {', '.join(SPLITS)}"
                if unknown
                else f"no files: expected a path for some of {', '.join(SPLITS)}, got none; name them"
            )
        return {split: source[split] for split in SPLITS if split in source}
    paths: dict[str, Path] = {}
    for split in SPLITS:
        choices = [source / f"{split}{ending}" for ending in endings]
        found = [path for path in choices if path.is_file()]
        if not found:
            raise DataError(
                f"{source}: expected {' or '.join(path.name for path in choices)}, found none; "
                "check the folder, or name the files one by one"
            )
        paths[split] = found[0]
    return paths


def _number_keys(
    paths: Mapping[str, Path], rows: Mapping[str, Iterator[KeyTriple]]
) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, TripleColumns]]:
    entities, relations, triples = number_by_appearance(rows)
    columns = {
        split: TripleColumns(str(paths[split]), ids[:, 0], ids[:, 1], ids[:, 2]) for split, ids in triples.items()
    }
    return entities, relations, columns


def parse_key_lines(path: Path, lines: Iterable[tuple[int, str]]) -> Iterator[KeyTriple]:
    """Read `head relation tail` of keys from numbered lines.

    Raises:
        DataError: a line is malformed.
    """
    for number, line in lines:
        # Keys may hold spaces, so blanks separate only where a line has no tab at all.
        fields = [part.strip() for part in line.split("\t")] if "\t" in line else line.split()
        if len(fields) != 3 or not all(fields):
            raise DataError(
                f"{path} line {number}: expected head, relation, tail separated by tabs, "
                f"got {shorten(line)}; mend or remove the line"
            )
        yield fields[0], fields[1], fields[2]


def parse_statements(path: Path, lines: Iterable[tuple[int, str]]) -> Iterator[KeyTriple | None]:
    """Read N-Triples from numbered lines; None stands for a statement about a literal.

    Raises:
        DataError: a line is not a statement.
    """
    for number, line in lines:
        if not line.lstrip().startswith("#"):
            yield parse_statement(line, f"{path} line {number}")


def _read_id_columns(path: Path) -> TripleColumns:
    rows, lines = read_id_rows(path, read_bytes(path), first_line=1, columns=" ".join(COLUMNS))
    return TripleColumns(str(path), rows[:, 0], rows[:, 1], rows[:, 2], lines)


def _keys_or_ids(path: Path, what: str, columns: Mapping[str, TripleColumns]) -> tuple[str, ...]:
    if path.is_file():
        return read_keys(path, what, count_line=False)
    used = [
        ids
        for split in columns.values()
        for ids in ((split.relations,) if what == "relation" else (split.heads, split.tails))
        if len(ids)
    ]
    size = max((int(np.max(ids)) for ids in used), default=-1) + 1
    return tuple(str(number) for number in range(size))
