"""Keys of entities and relations in the order of their ids, and joining them to triples."""

# pyarrow.compute makes its functions when it is imported, where a type checker does not see them.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray
import ray.data
from ray import ObjectRef

from snag_dist.errors import DataError
from snag_dist.kg.graph import COLUMNS
from snag_dist.store.remap import UNKNOWN


def list_files(path: Path) -> list[Path]:
    """List the Parquet files a path stands for, in the order of their names.

    Raises:
        DataError: there is none.
    """
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise DataError(f"{path}: expected a Parquet file or a folder of them, found none; mend the path")
    return [file.absolute() for file in files]


@dataclass(frozen=True)
class Vocabulary:
    """Keys in the order of their ids.

    Attributes:
        keys: (n,) large_string.
        names: (n,) large_string labels, the key where there is none.
        by_key: whether the triples hold keys, not ids.
    """

    keys: pa.Array
    names: pa.Array
    by_key: bool


def build_vocabulary(
    path: Path | None, datasets: Sequence[ray.data.Dataset], columns: list[str], *, by_key: bool
) -> Vocabulary:
    """Read the keys of a table, or gather those that the triples have.

    Args:
        path: of the table, or None.
        datasets: of all splits.
        columns: of the datasets that hold these keys or ids.
        by_key: whether they hold keys.

    Raises:
        DataError: the table lacks the column `key`, or a key is missing or repeats.
    """
    if path is not None:
        return _read_vocabulary(path, by_key=by_key)
    gathered = [
        dataset.map_batches(partial(_distinct, columns=columns), batch_size=None, batch_format="pyarrow")
        for dataset in datasets
    ]
    values = [batch["value"] for dataset in gathered for batch in dataset.iter_batches(batch_format="pyarrow")]
    distinct = pa.chunked_array([chunk for value in values for chunk in value.chunks]).unique().drop_null()
    if by_key:
        keys = distinct.cast(pa.large_string()).sort()
    else:
        # Ids without a table: 0 to the largest that occurs. Negative ones stay unknown.
        size = max(0, int(distinct.to_numpy().max(initial=-1)) + 1)
        keys = pa.array(np.arange(size)).cast(pa.large_string())
    return Vocabulary(keys, keys, by_key)


def _distinct(block: pa.Table, *, columns: list[str]) -> pa.Table:
    chunks = [chunk for column in columns for chunk in block[column].chunks]
    return pa.table({"value": pa.chunked_array(chunks).unique()})


def _read_vocabulary(path: Path, *, by_key: bool) -> Vocabulary:
    table = pa.concat_tables([pq.read_table(file) for file in list_files(path)])
    if "key" not in table.column_names:
        raise DataError(f"{path}: expected a column 'key', found {', '.join(table.column_names)}; rename the column")
    keys = table["key"].cast(pa.large_string()).combine_chunks()
    check_keys(keys, str(path))
    names = keys
    if "name" in table.column_names:
        names = pc.coalesce(table["name"].cast(pa.large_string()).combine_chunks(), keys)
    return Vocabulary(keys, names, by_key)


def check_keys(keys: pa.Array, place: str) -> None:
    """Refuse keys that are missing or repeat.

    Raises:
        DataError: naming the rows.
    """
    if keys.null_count:
        row = keys.is_null().index(True).as_py()
        raise DataError(f"{place} row {row}: expected a key, got none; fill it in")
    repeats = repeated_key(keys)
    if repeats is not None:
        first, second = repeats
        raise DataError(
            f"{place} row {second}: key {keys[second].as_py()!r} already stands in row {first}; "
            "keys must be distinct, so rename or merge them"
        )


def repeated_key(keys: pa.Array) -> tuple[int, int] | None:
    """Return the places of the first key that repeats and of its first occurrence, earlier place first."""
    codes = keys.dictionary_encode().indices.to_numpy()
    # Codes are given in order of appearance, so the first repeat is where a code is not a new maximum.
    highest = np.maximum.accumulate(codes)
    repeats = np.flatnonzero(codes[1:] <= highest[:-1])
    if not len(repeats):
        return None
    second = int(repeats[0]) + 1
    return int(np.argmax(codes == codes[second])), second


def keys_to_ids(block: pa.Table, *, entities: ObjectRef | None, relations: ObjectRef | None) -> pa.Table:
    """Replace keys by ids, in a Ray Data task; `UNKNOWN` where a key is not known.

    Args:
        block: head, relation, tail.
        entities, relations: keys in the order of their ids, in the object store; None leaves the column as it
            is.
    """
    columns: list[Any] = []
    for name, keys in zip(COLUMNS, (entities, relations, entities), strict=True):
        column = block[name]
        if keys is not None:
            found = pc.index_in(column.cast(pa.large_string()), value_set=ray.get(keys))
            column = found.cast(pa.int64()).fill_null(UNKNOWN)
        columns.append(column)
    return pa.table(columns, names=COLUMNS)
