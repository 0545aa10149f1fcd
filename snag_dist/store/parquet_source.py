"""Triples from Parquet, a batch of rows at a time.

Ids are numbers in the files, or are given to keys: in the order of the entity and relation tables where there are
some, else sorted.
"""

# pyarrow.compute makes its functions when it is imported, where a type checker does not see them.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from snag_dist.config import Config
from snag_dist.errors import DataError
from snag_dist.store.blocks import Block
from snag_dist.store.parquet_files import iter_table, list_files, open_parquet


class ParquetConfig(Config):
    """Triples in Parquet, a file or a folder of files a split."""

    kind: Literal["parquet"] = "parquet"
    """Tells this source from the others."""
    train: Path
    """File, or folder of *.parquet, with the training triples."""
    valid: Path
    """File or folder with the dev triples."""
    test: Path
    """File or folder with the test triples."""
    head: str = "head"
    """Column of the heads: keys, or ids from 0."""
    relation: str = "relation"
    """Column of the relations: keys, or ids from 0."""
    tail: str = "tail"
    """Column of the tails: keys, or ids from 0."""
    entities: Path | None = None
    """Table with a column `key` and perhaps `name`; id i is its i-th row. None: the keys that occur."""
    relations: Path | None = None
    """Table with a column `key` and perhaps `name`; id i is its i-th row. None: the keys that occur."""

    def splits(self) -> dict[str, Path]:
        """Return the path of every split."""
        return {"train": self.train, "valid": self.valid, "test": self.test}

    def files(self) -> list[Path]:
        """List every file that is read.

        Raises:
            DataError: a file is missing, or a folder has no Parquet file.
        """
        tables = [path for path in (self.entities, self.relations) if path is not None]
        return [file for path in (*self.splits().values(), *tables) for file in list_files(path)]


@dataclass(frozen=True)
class ParquetSplit:
    """The files of one split, as one run of rows.

    Attributes:
        files: in order.
        starts: (number of files + 1,) first row of each, and the number of all rows.
        columns: names of the head, relation and tail columns.
        holds_keys: whether entities, and relations, are keys; else they are ids.
    """

    files: tuple[Path, ...]
    starts: tuple[int, ...]
    columns: tuple[str, str, str]
    holds_keys: tuple[bool, bool]

    @property
    def num_rows(self) -> int:
        return self.starts[-1]

    def batches(self, rows_per_batch: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Go through the files: the row a batch begins at, and its head, relation and tail as they are there."""
        for file, start in zip(self.files, self.starts[:-1], strict=True):
            row = start
            for batch in iter_table(file, self.columns, rows_per_batch):
                yield row, batch.select(list(self.columns))
                row += batch.num_rows

    def explain(self, row: int, column: int, limit: str) -> DataError:
        """Return the error for a triple whose head (0), relation (1) or tail (2) is not known."""
        file = int(np.searchsorted(self.starts, row, side="right")) - 1
        within = row - self.starts[file]
        with open_parquet(self.files[file]) as opened:
            ends = np.cumsum([opened.metadata.row_group(group).num_rows for group in range(opened.num_row_groups)])
            group = int(np.searchsorted(ends, within, side="right"))
            values = opened.read_row_group(group, columns=[self.columns[column]])[0]
            value = values[within - int(ends[group])].as_py()
        return DataError(
            f"{self.files[file]} row {within}: column {self.columns[column]}: expected {limit}, "
            f"got {value!r}; mend the triple, or add what it names"
        )


def open_split(path: Path, columns: tuple[str, str, str]) -> ParquetSplit:
    """Read the footers of a split.

    Raises:
        DataError: a file is no Parquet, lacks a column or has one that is neither keys nor ids; there are no
            rows.
    """
    files = list_files(path)
    starts = [0]
    types: set[tuple[bool, bool]] = set()
    for file in files:
        footer = open_parquet(file)
        starts.append(starts[-1] + footer.metadata.num_rows)
        types.add(_check_columns(file, footer.schema_arrow, columns))
    if len(types) > 1:
        raise DataError(f"{path}: expected keys in all files or ids in all files, found both; convert some of them")
    if not starts[-1]:
        raise DataError(f"{path}: expected triples, found none; an empty split cannot be used")
    return ParquetSplit(tuple(files), tuple(starts), columns, types.pop())


def _check_columns(file: Path, schema: pa.Schema, columns: tuple[str, str, str]) -> tuple[bool, bool]:
    are_keys: list[bool] = []
    for column in columns:
        if column not in schema.names:
            raise DataError(
                f"{file}: expected a column {column!r}, found {', '.join(schema.names)}; "
                "set source.head, source.relation and source.tail to the columns' names"
            )
        kind = schema.field(column).type
        are_keys.append(pa.types.is_string(kind) or pa.types.is_large_string(kind))
        if not are_keys[-1] and not pa.types.is_integer(kind):
            raise DataError(f"{file}: column {column}: expected keys (string) or ids (integer), got {kind}; cast it")
    if are_keys[0] != are_keys[2]:
        raise DataError(f"{file}: columns {columns[0]} and {columns[2]}: one holds keys, one ids; cast one of them")
    return are_keys[0], are_keys[1]


def read_blocks(splits: Mapping[str, ParquetSplit], rows_per_block: int) -> Iterator[Callable[[], Block]]:
    """Go through all splits: tasks that each make a block of a batch.

    Raises:
        DataError: a file is damaged.
    """
    for name, split in splits.items():
        for start, batch in split.batches(rows_per_block):
            yield partial(_block, name, split, start, batch)


def _block(name: str, split: ParquetSplit, start: int, batch: pa.RecordBatch) -> Block:
    def explain(row: int, column: int, limit: str) -> DataError:
        return split.explain(start + row, column, limit)

    # The files of a split may differ in the width of their ids.
    wide = [column.cast(pa.int64() if pa.types.is_integer(column.type) else pa.large_string()) for column in batch]
    return Block(name, (wide[0], wide[1], wide[2]), explain)


def largest_ids(splits: Mapping[str, ParquetSplit], rows_per_batch: int) -> tuple[int, int]:
    """Return the largest entity id and the largest relation id of all splits; -1 where there are keys, or none."""
    largest = [-1, -1]
    for split in splits.values():
        for _, batch in split.batches(rows_per_batch):
            for what, column in zip((0, 1, 0), batch, strict=True):
                if pa.types.is_integer(column.type):
                    # None where no value is there; that is found, and named, as triples are checked.
                    most = pc.max(column).as_py()
                    largest[what] = largest[what] if most is None else max(largest[what], most)
    return largest[0], largest[1]
