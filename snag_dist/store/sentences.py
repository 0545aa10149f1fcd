"""Sentences about entities in a tab-separated file."""

# pyarrow.compute makes its functions when it is imported, where a type checker does not see them.
# pyright: reportAttributeAccessIssue=false

from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
from pydantic import Field

from snag_dist.config import Config
from snag_dist.errors import DataError
from snag_dist.store.manifest import hash_source
from snag_dist.store.media.items import Texts, What


class RowFilter(Config):
    """Which lines of a file count."""

    column: str
    """Column that is looked at."""
    equals: str
    """Text it must hold; a line with another is one of an entity without the modality."""


class SentenceFileConfig(Config):
    """A tab-separated file with a header and a line an entity."""

    kind: Literal["tsv"] = "tsv"
    """Tells this source of sentences from the others."""
    path: Path
    """The file; fields are not quoted."""
    keys: Literal["key", "id"] = "key"
    """Whether `key_column` holds keys of entities, or their ids in the source of the graph."""
    key_column: str = "key"
    """Column that says which entity a line is about."""
    columns: tuple[str, ...] = Field(min_length=1)
    """Columns that are joined to a sentence; empty ones are left out, and a line without any is no text."""
    join: str = ". "
    """Text between two columns."""
    only: RowFilter | None = None
    """Lines that count; none counts all."""

    def identity(self, what: What) -> str:
        """Return the hash of the file.

        Raises:
            DataError: it is not there.
        """
        return hash_source(self.path)

    def read_texts(self) -> Texts:
        """Read the sentences, sorted by key; a key that repeats is met by whoever joins them.

        Raises:
            DataError: the file or a column is missing, a line is malformed, or a key is empty.
        """
        table = read_columns(self)
        sentences = pa.array(join_columns(table, self), pa.large_string())
        keys = _column(table, self.key_column)
        kept = np.flatnonzero(pc.utf8_length(sentences).to_numpy() > 0)
        order = kept[pc.sort_indices(keys.take(pa.array(kept))).to_numpy()]
        return Texts(
            keys=keys.take(pa.array(order)),
            texts=sentences.take(pa.array(order)),
            # The header is line 1, and positions count from 0.
            place=lambda position: f"{self.path} line {order[position] + 2}",
            source=f"tsv {self.path}: {' + '.join(self.columns)}",
            identity=hash_source(self.path),
        )


def read_columns(config: SentenceFileConfig) -> pa.Table:
    """Read the columns that are needed, as text.

    Raises:
        DataError: the file or a column is missing, or a line is malformed.
    """
    path = config.path
    if not path.is_file():
        raise DataError(f"{path}: expected a tab-separated file, found none; mend source.path")
    with path.open(encoding="utf-8-sig") as file:
        try:
            header = file.readline().rstrip("\r\n").split("\t")
        except UnicodeDecodeError as error:
            raise DataError(f"{path} line 1: expected UTF-8, got {error}; convert the file (iconv)") from error
    wanted = [config.key_column, *config.columns, *([config.only.column] if config.only else [])]
    for column in wanted:
        if column not in header:
            raise DataError(
                f"{path} line 1: expected a column {column!r}, found {', '.join(header)}; mend the column's name"
            )
    wanted = list(dict.fromkeys(wanted))
    try:
        return csv.read_csv(
            path,
            read_options=csv.ReadOptions(encoding="utf8", use_threads=False),
            parse_options=csv.ParseOptions(
                # An empty line is an error, so that a position in the table tells the line of the file.
                delimiter="\t",
                quote_char=False,
                ignore_empty_lines=False,
            ),
            convert_options=csv.ConvertOptions(
                include_columns=wanted,
                column_types=dict.fromkeys(wanted, pa.large_string()),
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as error:
        reason = str(error).split("\n")[0]
        raise DataError(
            f"{path}: {reason}; expected {len(header)} fields separated by tabs in every line, in UTF-8"
        ) from error


def join_columns(table: pa.Table, config: SentenceFileConfig) -> list[str]:
    """Join the columns of each line to a sentence; empty where there is none, or the line does not count."""
    columns = [table[column].to_pylist() for column in config.columns]
    stripped = ([field.strip() for field in fields] for fields in zip(*columns, strict=True))
    sentences = [config.join.join(filter(None, fields)) for fields in stripped]
    if config.only is None:
        return sentences
    told = table[config.only.column].to_pylist()
    return [sentence if value == config.only.equals else "" for sentence, value in zip(sentences, told, strict=True)]


def _column(table: pa.Table, name: str) -> pa.Array:
    column = table[name]
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
