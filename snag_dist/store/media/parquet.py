"""Pictures and texts of entities in Parquet.

A picture is embedded (a column of bytes, or of structs with `bytes` and `path` as Hugging Face `datasets` writes
them) or named by a path; a line may hold a list of either, and several lines of a key are further pictures of it.
"""

from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from snag_dist.config import Config
from snag_dist.errors import ConfigError, DataError
from snag_dist.store.manifest import hash_file, hash_tree
from snag_dist.store.media.items import Listing, Texts, What
from snag_dist.store.media.listing import (
    REFERENCE,
    Problems,
    column,
    expand_path,
    make_listing,
    make_texts,
    sort_references,
)
from snag_dist.store.media.spool import PictureColumns, read_keys, spool_row_group
from snag_dist.store.sentences import RowFilter, SentenceFileConfig, join_columns

TEXT = pa.schema([("key", pa.large_string()), ("order", pa.int64()), ("text", pa.large_string())])
"""The text of one line: whose it is, and which line of all files."""

_ROWS_AT_A_TIME = 8192


class MediaParquetConfig(Config):
    """Parquet files with a line or several an entity."""

    kind: Literal["parquet"] = "parquet"
    """Tells this source from the others."""
    path: Path
    """A file, a folder of `.parquet` files, or a glob; several are read in the order of their names."""
    keys: Literal["key", "id"] = "key"
    """Whether `key_column` holds keys of entities, or their ids in the source of the graph."""
    key_column: str = "key"
    """Column that says which entity a line is about: text or whole numbers."""
    image_column: str | None = None
    """Column of the pictures: bytes, structs of `bytes` and `path`, paths or `file:` URIs relative to the file's
    folder, or lists of one of these; none where the files hold text only."""
    columns: tuple[str, ...] = ()
    """Columns that are joined to a text; empty ones are left out. Several lines of a key are joined in their order."""
    join: str = ". "
    """Text between two columns, and between the texts of two lines of a key."""
    only: RowFilter | None = None
    """Lines whose text counts; none counts all."""

    def files(self) -> list[Path]:
        """List the files that are read.

        Raises:
            DataError: there is none.
        """
        return expand_path(self.path, "*.parquet", "a Parquet file")

    def list_pictures(self, scratch: Path) -> Listing:
        """List the pictures, those of a key in the order of lines; embedded ones are written to flat files first.

        Args:
            scratch: folder that all workers reach. What an interrupted call wrote there is used again.

        Raises:
            ConfigError: no `image_column` is given.
            DataError: a file is no Parquet, lacks a column or has one of another kind; a key is missing; a picture
                is to be fetched from elsewhere.
        """
        if self.image_column is None:
            raise ConfigError(f"{self.path}: expected image_column, got none; name the column of the pictures")
        identity = self.identity("pictures")
        folder = scratch.absolute() / identity[:16]
        folder.mkdir(parents=True, exist_ok=True)
        columns = PictureColumns(self.key_column, self.image_column)
        problems = Problems()
        tables = [REFERENCE.empty_table()]
        for number, path in enumerate(self.files()):
            file = self._open(path, [self.key_column, self.image_column])
            columns.check(path, file.schema_arrow)
            start = 0
            for group in range(file.num_row_groups):
                stem = folder / f"pictures-{number:05}-{group:05}"
                tables.append(spool_row_group(file, path, group, start, columns, stem, problems))
                start += file.metadata.row_group(group).num_rows
        return make_listing(
            sort_references(pa.concat_tables(tables)),
            lambda _, name: name,
            f"parquet {self.path}: {self.image_column}",
            identity,
            problems.lines(),
        )

    def read_texts(self) -> Texts:
        """Read and join the text columns.

        Raises:
            ConfigError: no columns are given.
            DataError: a file is no Parquet, lacks a column or has one of another kind; a key is missing.
        """
        if not self.columns:
            raise ConfigError(f"{self.path}: expected columns, got none; name the columns that are joined to a text")
        tables = [TEXT.empty_table()]
        starts: list[int] = []
        num_lines = 0
        files = self.files()
        for file in files:
            starts.append(num_lines)
            for table in self._read_texts_of(file, num_lines):
                tables.append(table)
                num_lines += len(table)
        table = sort_references(pa.concat_tables(tables))
        lines = column(table, "order")

        def place(position: int) -> str:
            line = lines[position].as_py()
            number = bisect_right(starts, line) - 1
            return f"{files[number]} row {line - starts[number]}"

        source = f"parquet {self.path}: {' + '.join(self.columns)}"
        texts = (text.as_py() for text in column(table, "text"))
        return make_texts(column(table, "key"), texts, join=self.join, place=place, source=source)

    def identity(self, what: What) -> str:
        """Return the identity of what would be listed, without listing pictures.

        Raises:
            DataError: there is no file, or for texts see `read_texts`.
        """
        if what == "texts":
            return self.read_texts().identity
        hashes = [hash_file(file) for file in self.files()]
        return hash_tree([self.key_column, self.image_column, *hashes])

    def _open(self, path: Path, wanted: list[str]) -> pq.ParquetFile:
        try:
            # Read as a stream, since a row group of pictures may not fit the memory.
            file = pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)
        except (pa.ArrowInvalid, OSError) as error:
            reason = str(error).split("\n")[0]
            raise DataError(f"{path}: expected Parquet, got: {reason}; convert the file") from error
        for name in wanted:
            if name not in file.schema_arrow.names:
                raise DataError(
                    f"{path}: expected a column {name!r}, found {', '.join(file.schema_arrow.names)}; "
                    "mend the column's name"
                )
        return file

    def _read_texts_of(self, path: Path, num_before: int) -> Iterator[pa.Table]:
        only = [self.only.column] if self.only else []
        file = self._open(path, [self.key_column, *self.columns, *only])
        sentences = SentenceFileConfig(path=path, columns=self.columns, join=self.join, only=self.only)
        start = 0
        wanted = list(dict.fromkeys([self.key_column, *self.columns, *only]))
        for batch in file.iter_batches(batch_size=_ROWS_AT_A_TIME, columns=wanted):
            keys = read_keys(batch, path, self.key_column, start)
            columns = {name: _as_text(batch.column(name), path, name) for name in [*self.columns, *only]}
            texts = join_columns(pa.table(columns), sentences)
            lines = np.arange(num_before + start, num_before + start + len(batch))
            yield pa.Table.from_arrays([keys, pa.array(lines), pa.array(texts, pa.large_string())], schema=TEXT)
            start += len(batch)


def _as_text(values: pa.Array, path: Path, name: str) -> pa.Array:
    if pa.types.is_nested(values.type) or pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
        raise DataError(f"{path}: column {name}: expected text, got {values.type}; name a column of text")
    # A missing field is one that is left out.
    return values.cast(pa.large_string()).fill_null("")
