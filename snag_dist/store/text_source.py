"""Triples of keys from text files, some whole lines at a time: Arrow reads what is plain, and the readers of
`snag_dist.kg` whatever else there is, with the same result; they also say what is wrong in which line.
"""

# pyarrow.compute makes its functions when it is imported, where a type checker does not see them.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from snag_dist.kg.formats import parse_key_lines, parse_statements
from snag_dist.kg.graph import COLUMNS
from snag_dist.kg.lines import decode, number_lines, read_line_blocks
from snag_dist.store.blocks import Block

BYTES_PER_BLOCK = 1 << 23
"""Text that is parsed together."""

Columns = tuple[pa.Array, pa.Array, pa.Array]


def read_tsv_blocks(files: Mapping[str, Path], bytes_per_block: int = BYTES_PER_BLOCK) -> Iterator[Callable[[], Block]]:
    """Go through the splits of `head relation tail` keys: tasks that each parse some lines."""
    for split, path in files.items():
        for first_line, data in read_line_blocks(path, bytes_per_block):
            yield partial(_tsv_block, split, path, first_line, data)


def read_ntriples_blocks(
    files: Mapping[str, Path], bytes_per_block: int = BYTES_PER_BLOCK
) -> Iterator[Callable[[], Block]]:
    """Go through the splits of N-Triples: tasks that each parse some lines."""
    for split, path in files.items():
        for first_line, data in read_line_blocks(path, bytes_per_block):
            yield partial(_ntriples_block, split, path, first_line, data)


def _tsv_block(split: str, path: Path, first_line: int, data: bytes) -> Block:
    columns = _read_plain(data)
    if columns is None:
        lines = number_lines(decode(path, data, first_line=first_line), first_line=first_line)
        columns = _columns(list(parse_key_lines(path, lines)))
    return Block(split, columns)


def _read_plain(data: bytes) -> Columns | None:
    """Read lines of three fields separated by tabs; None if a line is anything else."""
    if b"\r" in data or b"\0" in data or not data:
        return None
    try:
        table = csv.read_csv(
            pa.BufferReader(data),
            csv.ReadOptions(column_names=list(COLUMNS), block_size=len(data) + 1, use_threads=False),
            csv.ParseOptions(delimiter="\t", quote_char=False),
            csv.ConvertOptions(column_types=dict.fromkeys(COLUMNS, pa.large_string()), strings_can_be_null=False),
        )
    except pa.ArrowInvalid:
        return None
    head, relation, tail = (pc.utf8_trim_whitespace(table[name].combine_chunks()) for name in COLUMNS)
    empty = any(pc.any(pc.equal(pc.binary_length(column), 0)).as_py() for column in (head, relation, tail))
    return None if empty else (head, relation, tail)


def _ntriples_block(split: str, path: Path, first_line: int, data: bytes) -> Block:
    lines = number_lines(decode(path, data, first_line=first_line), first_line=first_line)
    statements = list(parse_statements(path, lines))
    triples = [statement for statement in statements if statement is not None]
    return Block(split, _columns(triples), num_literals=len(statements) - len(triples))


def _columns(triples: list[tuple[str, str, str]]) -> Columns:
    head, relation, tail = ([triple[column] for triple in triples] for column in range(3))
    return pa.array(head, pa.large_string()), pa.array(relation, pa.large_string()), pa.array(tail, pa.large_string())
