"""Triples from Parquet, read, joined to ids and checked by Ray Data a row range at a time.

Nothing larger than a part is ever held, but for the keys. Ids are numbers in the files, or are given to keys:
in the order of the entity and relation tables where there are some, else sorted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray.data

from snag_dist.config import Config
from snag_dist.errors import DataError
from snag_dist.kg.graph import COLUMNS
from snag_dist.store.pipeline import dataset_of_blocks
from snag_dist.store.remap import UNKNOWN
from snag_dist.store.vocabulary import list_files


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

    def dataset(self, rows_per_part: int) -> ray.data.Dataset:
        """Return a dataset of the columns head, relation, tail as they are in the files, one block a part."""
        blocks = [
            self._pieces(start, min(self.num_rows, start + rows_per_part))
            for start in range(0, self.num_rows, rows_per_part)
        ]
        read = partial(read_pieces, columns=self.columns)
        return dataset_of_blocks(blocks).map_batches(read, batch_size=None, batch_format="pyarrow")

    def _pieces(self, start: int, stop: int) -> pa.Table:
        pieces = [
            {"file": str(file), "begin": max(start, first) - first, "end": min(stop, last) - first}
            for file, first, last in zip(self.files, self.starts[:-1], self.starts[1:], strict=True)
            if first < stop and last > start
        ]
        return pa.Table.from_pylist(pieces)

    def explain(self, row: int, column: int, limit: str) -> DataError:
        """Return the error for a triple whose head (0), relation (1) or tail (2) is not known."""
        file = int(np.searchsorted(self.starts, row, side="right")) - 1
        within = row - self.starts[file]
        value = _read_rows(self.files[file], within, within + 1, self.columns)[column][0].as_py()
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
        try:
            footer = pq.ParquetFile(file)
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{file}: expected Parquet, got: {_first_line(error)}; convert the file") from error
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


def read_pieces(block: pa.Table, *, columns: tuple[str, str, str]) -> pa.Table:
    """Read row ranges of files, in a Ray Data task."""
    tables = [_read_rows(Path(piece["file"]), piece["begin"], piece["end"], columns) for piece in block.to_pylist()]
    table = pa.concat_tables(tables)
    # A missing id is one that is not known; a missing key is found when keys are joined to ids.
    filled = [column.fill_null(UNKNOWN) if pa.types.is_integer(column.type) else column for column in table]
    return pa.table(filled, names=COLUMNS)


def _read_rows(path: Path, begin: int, end: int, columns: Sequence[str]) -> pa.Table:
    file = pq.ParquetFile(path)
    sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    starts = np.cumsum([0, *sizes])
    groups = [group for group in range(len(sizes)) if starts[group] < end and starts[group + 1] > begin]
    table = file.read_row_groups(groups, columns=list(columns)).select(list(columns))
    table = table.slice(begin - int(starts[groups[0]]), end - begin)
    # The files of a split may differ in the width of their ids.
    wide = [pa.int64() if pa.types.is_integer(field.type) else pa.large_string() for field in table.schema]
    return table.cast(pa.schema(list(zip(table.column_names, wide, strict=True))))


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]
