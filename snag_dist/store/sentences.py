"""Sentences about entities, from a tab-separated file, to a text modality."""

from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
from pydantic import Field

from snag_dist.config import Config
from snag_dist.errors import DataError
from snag_dist.store.encoders import HashingConfig, TextEncoderConfig, resolve
from snag_dist.store.modality import Modality, match_keys
from snag_dist.store.opened import Store
from snag_dist.store.schema import FeatureDtype


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


class TextConfig(Config):
    """Vectors of sentences."""

    kind: Literal["text"] = "text"
    """Tells this kind of features from the others."""
    source: SentenceFileConfig
    """Where the sentences are."""
    encoder: TextEncoderConfig = HashingConfig()
    """What makes vectors of them."""
    dtype: FeatureDtype = "float16"
    """Type of the stored numbers."""

    def files(self) -> list[Path]:
        """List the files that are read."""
        return [self.source.path]

    def weights(self) -> list[str]:
        """Return the hash of the model that makes the vectors.

        Raises:
            DataError: the encoder's model is not found.
        """
        return [resolve(self.encoder).record.weights_sha256]

    def open(self, store: Store) -> Modality:
        """Read the sentences and join them to the rows of a store.

        Raises:
            DataError: the file or a column is missing, a line is malformed, a key repeats, no sentence is
                left, or the encoder's model is not found.
        """
        config = self.source
        encoder = resolve(self.encoder)
        table = read_columns(config)

        def place(position: int) -> str:
            # The header is line 1, and positions count from 0.
            return f"{config.path} line {position + 2}"

        matches = match_keys(store, _column(table, config.key_column), are_ids=config.keys == "id", place=place)
        sentences = join_columns(table, config)
        kept = np.array([bool(sentences[position]) for position in matches.positions], dtype=bool)
        positions = matches.positions[kept]
        return Modality(
            rows=matches.rows[kept],
            payload=pa.array([sentences[position] for position in positions], pa.large_string()),
            encoder=encoder,
            place=lambda index: place(int(positions[index])),
            source=f"tsv {config.path}: {' + '.join(config.columns)}",
            unknown_keys=matches.unknown,
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
