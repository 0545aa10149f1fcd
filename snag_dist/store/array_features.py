"""Vectors that were made elsewhere, in `.npy`, `.pt`, `.pkl` or Parquet, to a modality."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import Field

from snag_dist.config import Config
from snag_dist.errors import ConfigError, DataError
from snag_dist.store.encoders import ResolvedEncoder
from snag_dist.store.manifest import EncoderRecord, hash_source, hash_tree
from snag_dist.store.media.restricted_pickle import read_pickled_vectors
from snag_dist.store.modality import Modality, match_keys
from snag_dist.store.opened import Store
from snag_dist.store.schema import FeatureDtype
from snag_dist.store.vectors import ArraySpec, open_vectors, pooled_width

_ROWS_AT_A_TIME = 8192
# Files whose vectors may have keys.
_KEYED = (".parquet", ".pkl")


class ArrayConfig(Config):
    """Vectors in a file, one an entity."""

    kind: Literal["array"] = "array"
    """Tells this kind of features from the others."""
    path: Path
    """`.npy`, `.pt` or `.pth` with a (E, F) array, `.parquet` with a column of vectors, or `.pkl` with a dictionary of
    key to numpy vector; of a pickle nothing is run."""
    keys: Literal["order", "key", "id"] = "order"
    """Whose vector i is: source id i's (`order`); whom a Parquet column or the keys of a pickle name by key or by id;
    or, of a plain array, id i's (`id`). Ids are those of the source's files: two graphs number their entities together,
    maybe with gaps, and `order` is that of their ids."""
    key_column: str = "key"
    """Parquet column with the keys or ids."""
    vector_column: str = "vector"
    """Parquet column with the vectors: lists of numbers, all of one length."""
    pool: int = Field(default=1, ge=1)
    """Side of the squares that are averaged in a vector read as a square picture; 1 keeps it as it is."""
    zero_is_missing: bool = False
    """Whether a vector of zeros stands for an entity without the modality."""
    normalise: bool = False
    """Whether every vector is divided by its l2 norm, after pooling; zeros stay zeros. Published for pictures in
    alignment."""
    dtype: FeatureDtype = "float16"
    """Type of the stored numbers."""

    def hashes(self) -> list[str]:
        """Return the hash of the file.

        Raises:
            DataError: it is not there.
        """
        return [hash_source(self.path)]

    def open(self, store: Store, scratch: Path) -> Modality:
        """Check an array's shape and join its vectors to the rows of a store.

        Args:
            store: whose entities are meant.
            scratch: folder that all workers reach, where vectors from Parquet or a pickle are laid out to be mapped.

        Raises:
            ConfigError: `keys` does not fit the kind of file.
            DataError: the file is missing or not of its kind, has another number of rows than the store has
                entities, is not square where it is to be pooled, or a key repeats.
        """
        if not self.path.is_file():
            raise DataError(f"{self.path}: expected an array, found none; mend the path")
        path = self.path.absolute()
        if self.keys == "key" and path.suffix not in _KEYED:
            raise ConfigError(
                f"{path}: keys = 'key' needs a Parquet file with a key column, or a pickle; use 'order' or 'id'"
            )
        if self.keys == "order" and path.suffix == ".pkl":
            raise ConfigError(f"{path}: keys = 'order': vectors in a pickle have keys; use 'key' or 'id'")
        keys: pa.Array | None = None
        if path.suffix == ".parquet":
            path = spool_vectors(self, scratch)
            keys = None if self.keys == "order" else _read_keys(self)
        elif path.suffix == ".pkl":
            path, keys = spool_pickle(self.path, scratch)
        vectors = open_vectors(path, self.path)
        pooled_width(vectors.width, self.pool, self.path)
        if keys is None and self.keys == "id":
            keys = pa.array(np.arange(vectors.num_rows))

        def place(position: int) -> str:
            if keys is not None and self.path.suffix == ".pkl":
                return f"{self.path} key {keys[position].as_py()!r}"
            return f"{self.path} row {position}"

        rows, positions, unknown = self._match(store, vectors.num_rows, keys, place)
        if self.zero_is_missing:
            kept = vectors.nonzero_rows()[positions]
            rows, positions = rows[kept], positions[kept]
        changes = [self.pool, "l2"] if self.normalise else self.pool
        record = EncoderRecord(name=f"array {self.path.name}", revision="none", weights_sha256=hash_tree(changes))
        spec = ArraySpec(path, self.path, self.pool, self.normalise)
        return Modality(
            rows=rows,
            payload=pa.array(positions),
            encoder=ResolvedEncoder(spec, record, items_per_actor=20_000),
            place=lambda index: place(int(positions[index])),
            source=f"array {self.path}",
            unknown_keys=unknown,
        )

    def _match(
        self, store: Store, num_vectors: int, keys: pa.Array | None, place: Callable[[int], str]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[str, ...]]:
        if keys is None:
            if num_vectors != store.num_entities:
                raise DataError(
                    f"{self.path}: expected {store.num_entities} rows, one an entity of the source, "
                    f"got {num_vectors}; make the array for this graph, or give keys in a Parquet file"
                )
            return np.arange(num_vectors), np.argsort(store.rows_of_source_ids), ()
        matches = match_keys(store, keys, are_ids=self.keys == "id", place=place)
        return matches.rows, matches.positions, matches.unknown


def _read_keys(config: ArrayConfig) -> pa.Array:
    keys = pq.read_table(config.path, columns=[config.key_column])[config.key_column]
    return pa.concat_arrays(keys.chunks)


def spool_pickle(path: Path, scratch: Path) -> tuple[Path, pa.Array]:
    """Lay the vectors of a pickled dictionary out as an array that can be mapped.

    Returns:
        The array's path, and (n,) large_string keys of its rows.

    Raises:
        DataError: the pickle holds anything but vectors of numbers.
    """
    keys, vectors = read_pickled_vectors(path)
    spooled = scratch / "source.npy"
    spooled.parent.mkdir(parents=True, exist_ok=True)
    np.save(spooled, vectors)
    return spooled, pa.array(keys, pa.large_string())


def spool_vectors(config: ArrayConfig, scratch: Path) -> Path:
    """Lay the vectors of a Parquet column out as an array that can be mapped.

    Raises:
        DataError: a column is missing, a vector is missing or has another length.
    """
    try:
        file = pq.ParquetFile(config.path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{config.path}: expected Parquet, got: {error}; convert the file") from error
    wanted = [config.vector_column] + ([config.key_column] if config.keys != "order" else [])
    for column in wanted:
        if column not in file.schema_arrow.names:
            raise DataError(
                f"{config.path}: expected a column {column!r}, found {', '.join(file.schema_arrow.names)}; "
                "set key_column and vector_column to the columns' names"
            )
    path = scratch / "source.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    array: NDArray[np.float32] | None = None
    start = 0
    for batch in file.iter_batches(batch_size=_ROWS_AT_A_TIME, columns=[config.vector_column]):
        vectors = _stack_lists(batch.column(0), start, config, None if array is None else array.shape[1])
        if array is None:
            shape = (file.metadata.num_rows, vectors.shape[1])
            array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
        array[start : start + len(vectors)] = vectors
        start += len(vectors)
    if array is None:
        raise DataError(f"{config.path}: expected vectors, found no rows; check the file")
    array.flush()
    return path


def _stack_lists(column: pa.Array, start: int, config: ArrayConfig, width: int | None) -> NDArray[np.float32]:
    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        raise DataError(f"{config.path}: column {config.vector_column}: expected lists of numbers, got {kind}; cast it")
    lengths = column.value_lengths().fill_null(-1).to_numpy()
    width = int(lengths[0]) if width is None else width
    wrong = np.flatnonzero(lengths != width)
    if len(wrong) or width < 1:
        row = int(wrong[0]) if len(wrong) else 0
        found = "none" if lengths[row] < 0 else f"{lengths[row]} numbers"
        raise DataError(
            f"{config.path} row {start + row}: expected a vector of {max(width, 1)} numbers, got {found}; mend the row"
        )
    values = column.flatten()
    # A missing number becomes NaN, which the check of every vector names by row and column.
    return values.cast(pa.float32()).fill_null(math.nan).to_numpy().reshape(len(column), width)
