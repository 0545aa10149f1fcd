"""Pictures of a Parquet file as ranges of files: embedded ones are written, row group by row group, to flat files.

A row group's index is written after its pictures, so that an interrupted spool goes on where it stopped.
"""

# pyarrow.compute makes its functions when it is imported, where a type checker does not see them.
# pyright: reportAttributeAccessIssue=false

import json
import stat
from dataclasses import dataclass
from io import BufferedWriter
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.feather as feather
import pyarrow.parquet as pq
from numpy.typing import NDArray

from snag_dist.errors import DataError
from snag_dist.store.media.listing import REFERENCE, Problems, text_bytes

# Pictures held at a time.
_ROWS_AT_A_TIME = 256
_STATE = b"spool"


@dataclass(frozen=True)
class PictureColumns:
    """The two columns that are read.

    Attributes:
        key: name of the column of keys.
        image: name of the column of pictures.
    """

    key: str
    image: str

    def check(self, path: Path, schema: pa.Schema) -> None:
        """Refuse a column that holds no pictures.

        Raises:
            DataError: it is of another type.
        """
        kind = schema.field(self.image).type
        inner = kind.value_type if _is_list(kind) or pa.types.is_dictionary(kind) else kind
        names = {field.name for field in inner} if pa.types.is_struct(inner) else set[str]()
        if not (_is_bytes(inner) or _is_string(inner) or names & {"bytes", "path"}):
            raise DataError(
                f"{path}: column {self.image}: expected bytes, structs of bytes and path, paths, or lists of one of "
                f"these, got {kind}; name the column of the pictures, or cast it"
            )


def spool_row_group(
    file: pq.ParquetFile,
    path: Path,
    group: int,
    start: int,
    columns: PictureColumns,
    stem: Path,
    problems: Problems,
) -> pa.Table:
    """Return references to the pictures of one row group, and write the embedded ones to a flat file.

    Args:
        file: opened.
        path: of the file, for messages and for relative paths in it.
        group: number of the row group.
        start: row of the file that it begins with.
        columns: the columns' names.
        stem: of the files that are written: `.bin` with the pictures, `.arrow` with the references. If the latter
            is there, nothing is read again.
        problems: told of pictures that are not there.

    Returns:
        Table of schema `listing.REFERENCE`, in the order of lines; `name` is file and row, `order` is empty.

    Raises:
        DataError: a key is missing, or a picture is to be fetched from elsewhere.
    """
    index = stem.with_suffix(".arrow")
    flat = stem.with_suffix(".bin")
    places = [str(flat), str(path)]
    table = _read_index(index, places, problems)
    if table is not None:
        return table
    partial = flat.with_name(f"{flat.name}.partial")
    own = Problems()
    tables = [REFERENCE.empty_table()]
    with partial.open("wb") as spool:
        batches = file.iter_batches(_ROWS_AT_A_TIME, row_groups=[group], columns=[columns.key, columns.image])
        for batch in batches:
            tables.append(_spool_batch(batch, path, start, columns, spool, flat, own))
            start += len(batch)
    partial.rename(flat)
    table = pa.concat_tables(tables)
    partial = index.with_name(f"{index.name}.partial")
    described = table.replace_schema_metadata({_STATE: json.dumps([places, own.counts()])})
    feather.write_feather(described, str(partial), compression="uncompressed")
    partial.rename(index)
    problems.merge(own)
    return table


def _read_index(index: Path, places: list[str], problems: Problems) -> pa.Table | None:
    """Return the references of a spool that is whole; None where there is none, or its folder was moved."""
    if not index.is_file():
        return None
    table = feather.read_table(index, memory_map=False)
    found, counts = json.loads(table.schema.metadata[_STATE])
    if found != places:
        return None
    for place, reason, count in counts:
        problems.add(place, reason, count)
    return table.replace_schema_metadata()


def read_keys(batch: pa.RecordBatch, path: Path, name: str, start: int) -> pa.Array:
    """Return the keys of some lines as text.

    Args:
        start: row of the file that the batch begins with.

    Raises:
        DataError: the column is of another type, or a key is missing.
    """
    keys = batch.column(name)
    if pa.types.is_dictionary(keys.type):
        keys = keys.dictionary_decode()
    if not (_is_string(keys.type) or pa.types.is_integer(keys.type)):
        raise DataError(f"{path}: column {name}: expected keys (text) or ids (whole numbers), got {keys.type}; cast it")
    if keys.null_count:
        row = start + keys.is_null().index(True).as_py()
        raise DataError(f"{path} row {row}: expected a key, got none; fill it in")
    return keys.cast(pa.large_string())


def _spool_batch(
    batch: pa.RecordBatch,
    path: Path,
    start: int,
    columns: PictureColumns,
    spool: BufferedWriter,
    flat: Path,
    problems: Problems,
) -> pa.Table:
    keys = read_keys(batch, path, columns.key, start)
    pictures = batch.column(columns.image)
    lines = np.arange(len(batch))
    if _is_list(pictures.type):
        lines = pc.list_parent_indices(pictures).to_numpy()
        pictures = pc.list_flatten(pictures)
    embedded, named = _split(pictures)
    paths = np.full(len(lines), "", dtype=object)
    offsets, sizes = np.zeros(len(lines), np.int64), np.full(len(lines), -1, np.int64)
    inside = np.flatnonzero(embedded.is_valid().to_numpy(zero_copy_only=False))
    offsets[inside], sizes[inside] = _write(embedded.filter(embedded.is_valid()), spool)
    paths[inside] = str(flat)
    outside = np.flatnonzero(pc.and_(named.is_valid(), embedded.is_null()).to_numpy(zero_copy_only=False))
    for position in outside:
        place = f"{path} row {start + lines[position]}"
        paths[position], sizes[position] = _find(named[int(position)].as_py(), path, place, problems)
    found = np.flatnonzero(sizes >= 0)
    arrays = [
        keys.take(pa.array(lines[found])),
        pa.array([""] * len(found), pa.large_string()),
        pa.array([f"{path} row {start + line}" for line in lines[found]], pa.large_string()),
        pa.array(paths[found], pa.large_string()),
        pa.array(offsets[found]),
        pa.array(sizes[found]),
    ]
    return pa.Table.from_arrays(arrays, schema=REFERENCE)


def _split(pictures: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Return what is embedded as large_binary and what is named as large_string, null where it is the other."""
    if pa.types.is_dictionary(pictures.type):
        pictures = pictures.dictionary_decode()
    embedded, named = pa.nulls(len(pictures), pa.large_binary()), pa.nulls(len(pictures), pa.large_string())
    if pa.types.is_struct(pictures.type):
        names = {field.name for field in pictures.type}
        embedded = pc.struct_field(pictures, "bytes") if "bytes" in names else embedded
        named = pc.struct_field(pictures, "path") if "path" in names else named
    elif _is_bytes(pictures.type):
        embedded = pictures
    else:
        named = pictures
    return embedded.cast(pa.large_binary()), named.cast(pa.large_string())


def _write(pictures: pa.Array, spool: BufferedWriter) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Append (n,) large_binary pictures to the spool; return their offsets in it and their sizes."""
    sizes = pc.binary_length(pictures).to_numpy().astype(np.int64)
    offsets = spool.tell() + np.cumsum(sizes) - sizes
    spool.write(text_bytes(pictures))
    return offsets, sizes


def _find(name: str, path: Path, place: str, problems: Problems) -> tuple[str, int]:
    """Return absolute path and size of a picture that a line names; size -1 where there is none."""
    local = _local_name(name)
    if local is None:
        raise DataError(
            f"{place}: expected a picture on this file system, got {name!r}; fetch the pictures first (for "
            "example with img2dataset), and name the files"
        )
    target = path.parent / local
    try:
        status = target.stat()
    except (OSError, ValueError):
        status = None
    if status is None or not stat.S_ISREG(status.st_mode):
        problems.add(place, "names a picture that is not there")
        return "", -1
    return str(target), status.st_size


def _local_name(name: str) -> str | None:
    """Return the path that a name or a `file:` URI stands for; None for a URI of another kind."""
    if name.startswith("file:"):
        rest = name.removeprefix("file:")
        if rest.startswith("//"):
            host, slash, rest = rest.removeprefix("//").partition("/")
            rest = f"{slash}{rest}" if host in ("", "localhost") else ""
        return unquote(rest) or None
    return None if "://" in name else name


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)


def _is_string(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)
