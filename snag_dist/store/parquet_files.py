"""Parquet files of a person, read a batch at a time."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from snag_dist.errors import DataError


def list_files(path: Path) -> list[Path]:
    """List the Parquet files a path stands for, in the order of their names.

    Raises:
        DataError: there is none.
    """
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise DataError(f"{path}: expected a Parquet file or a folder of them, found none; mend the path")
    return [file.absolute() for file in files]


def open_parquet(file: Path) -> pq.ParquetFile:
    """Read a footer.

    Raises:
        DataError: the file is no Parquet.
    """
    try:
        return pq.ParquetFile(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise _not_parquet(file, error) from error


def iter_table(file: Path, columns: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
    """Go through a file, at most so many rows at a time; a row group's bytes are held.

    Raises:
        DataError: the file is damaged.
    """
    with open_parquet(file) as opened:
        try:
            yield from opened.iter_batches(rows, columns=list(columns))
        except (pa.ArrowInvalid, OSError) as error:
            raise _not_parquet(file, error) from error


def _not_parquet(file: Path, error: Exception) -> DataError:
    reason = str(error).strip().partition("\n")[0]
    return DataError(f"{file}: expected Parquet, got: {reason}; convert the file")
