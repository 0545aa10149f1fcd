"""Making a feature table part by part, on Ray Data actors: vectors in, Parquet and mapped arrays out.

A part is a run of virtual shards. The actor that makes the vectors of a part also writes its files, so
vectors never travel; only a line of summary goes back. Its mark is written last, so that an extraction that
was killed goes on with the parts that lack theirs. What a part holds does not depend on which actor made it,
or when.
"""

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from snag_dist.shard.partition import shard_bounds
from snag_dist.store.schema import FeatureDtype, feature_schema, presence_file, shard_file, table_file
from snag_dist.store.statistics import Moments

# Vectors held at a time by an actor, however large its part is.
_ROWS_AT_A_TIME = 4096
# Below this many entities a part costs more to schedule than to make.
_MIN_ENTITIES_PER_PART = 128
MARKS = "parts"


class VectorMaker(Protocol):
    """Turns what a part holds of each entity into a vector."""

    width: int

    def vectors(self, payload: pa.Array) -> NDArray[np.float32]:
        """Return (n, F) vectors of n items: sentences, positions in an array, or source ids."""
        ...


class VectorMakerSpec(Protocol):
    """What is sent to an actor instead of a model: a few values from which it loads one."""

    def load(self) -> VectorMaker:
        """Load the model or open the array."""
        ...


@dataclass(frozen=True)
class PartPlan:
    """Where the parts of one table go, and how entities fall into them.

    Attributes:
        folder: of the table in the making, absolute.
        dtype: of the stored numbers.
        num_entities: E.
        virtual_shards: V.
    """

    folder: Path
    dtype: FeatureDtype
    num_entities: int
    virtual_shards: int

    @property
    def num_parts(self) -> int:
        """Return P, at most V."""
        return min(self.virtual_shards, max(1, self.num_entities // _MIN_ENTITIES_PER_PART))

    def shards(self, part: int) -> range:
        """Return the virtual shards of a part."""
        count = self.num_parts
        return range(part * self.virtual_shards // count, (part + 1) * self.virtual_shards // count)

    def shard_bounds(self) -> NDArray[np.int64]:
        """Return (V+1,) first rows of the virtual shards."""
        return shard_bounds(self.num_entities, self.virtual_shards)

    def bounds(self) -> NDArray[np.int64]:
        """Return (P+1,) first rows of the parts."""
        edges = [self.shards(part).start for part in range(self.num_parts)]
        return self.shard_bounds()[[*edges, self.virtual_shards]]

    def mark(self, part: int) -> Path:
        """Return the file that says a part is finished."""
        return self.folder / MARKS / f"part-{part:05}.npz"

    def blocks(self, rows: NDArray[np.int64], payload: pa.Array) -> list[pa.Table]:
        """Cut the entities that have the modality into one block a part, parts that are finished left out.

        Args:
            rows: (n,) ascending rows.
            payload: (n,) what the maker makes their vectors from.
        """
        edges = np.searchsorted(rows, self.bounds())
        return [
            pa.table(
                {
                    "part": pa.array([part], pa.int32()),
                    "rows": _one_list(pa.array(rows[start:stop], pa.int64())),
                    "payload": _one_list(payload.slice(start, stop - start)),
                }
            )
            for part, (start, stop) in enumerate(itertools.pairwise(edges))
            if not self.mark(part).is_file()
        ]


def _one_list(values: pa.Array) -> pa.Array:
    # One row a block, holding lists: Ray drops blocks without rows, and a part may lack any entity with the
    # modality.
    return pa.LargeListArray.from_arrays(pa.array([0, len(values)], pa.int64()), values)


class PartMaker:
    """The Ray Data actor: loads the maker once, then makes a part a call."""

    def __init__(self, plan: PartPlan, spec: VectorMakerSpec) -> None:
        self._plan = plan
        self._maker = spec.load()

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Make the parts of a batch.

        Returns:
            A row a part: part, num_present, and the first number that cannot be stored (bad_row is -1 if all
                can).
        """
        summaries = [
            self._make(batch["part"][i].as_py(), batch["rows"][i].values, batch["payload"][i].values)
            for i in range(batch.num_rows)
        ]
        return pa.Table.from_pylist(summaries, schema=SUMMARY_SCHEMA)

    def _make(self, part: int, rows: pa.Array, payload: pa.Array) -> dict[str, object]:
        plan = self._plan
        row_numbers = rows.to_numpy(zero_copy_only=False)
        bounds = plan.shard_bounds()
        shards = [ShardWriter(plan, shard, self._maker.width) for shard in plan.shards(part)]
        path = plan.folder / table_file(part)
        path.parent.mkdir(parents=True, exist_ok=True)
        schema = feature_schema(self._maker.width, plan.dtype)
        with pq.ParquetWriter(path, schema, compression="zstd") as table:
            for shard in shards:
                start, stop = np.searchsorted(row_numbers, bounds[shard.shard : shard.shard + 2])
                for begin, end in _steps(int(start), int(stop)):
                    made = self._maker.vectors(payload.slice(begin, end - begin))
                    with np.errstate(over="ignore"):
                        vectors = made.astype(plan.dtype)
                    finite = np.isfinite(vectors)
                    if not finite.all():
                        index, column = np.argwhere(~finite)[0]
                        bad_row = int(row_numbers[begin + index])
                        return _summary(part, 0, bad_row, int(column), float(made[index, column]))
                    shard.add(row_numbers[begin:end], vectors)
                    table.write_batch(_feature_batch(row_numbers[begin:end], vectors, schema))
        save_mark(plan.mark(part), [shard.close() for shard in shards])
        return _summary(part, len(row_numbers), -1, 0, 0.0)


SUMMARY_SCHEMA = pa.schema(
    [
        ("part", pa.int32()),
        ("num_present", pa.int64()),
        ("bad_row", pa.int64()),
        ("bad_column", pa.int64()),
        ("bad_value", pa.float64()),
    ]
)


def _summary(part: int, num_present: int, bad_row: int, bad_column: int, bad_value: float) -> dict[str, object]:
    return {
        "part": part,
        "num_present": num_present,
        "bad_row": bad_row,
        "bad_column": bad_column,
        "bad_value": bad_value,
    }


def _steps(start: int, stop: int) -> Iterator[tuple[int, int]]:
    for begin in range(start, stop, _ROWS_AT_A_TIME):
        yield begin, min(stop, begin + _ROWS_AT_A_TIME)


def _feature_batch(rows: NDArray[np.int64], vectors: NDArray[np.floating], schema: pa.Schema) -> pa.RecordBatch:
    values = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    return pa.record_batch([pa.array(rows), values], schema=schema)


@dataclass(frozen=True)
class ShardSummary:
    """What is known of a finished virtual shard.

    Attributes:
        sha256: hash of its presence and its vectors in row order.
        moments: of every column over the entities that are there.
    """

    sha256: bytes
    moments: Moments


class ShardWriter:
    """Writes the hot array of one virtual shard: all its rows, zeros where the modality is absent."""

    def __init__(self, plan: PartPlan, shard: int, width: int) -> None:
        bounds = plan.shard_bounds()
        self.shard = shard
        self._first_row = int(bounds[shard])
        size = int(bounds[shard + 1]) - self._first_row
        self._presence_path = plan.folder / presence_file(shard)
        path = plan.folder / shard_file(shard)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Mapped, so that a shard of any size passes through in steps.
        self._array: NDArray[np.floating] = (
            np.lib.format.open_memmap(path, mode="w+", dtype=plan.dtype, shape=(size, width))
            if size
            else _save_empty(path, plan.dtype, width)
        )
        self._present = np.zeros(size, dtype=bool)
        self._moments = Moments.zero(width)

    def add(self, rows: NDArray[np.int64], vectors: NDArray[np.floating]) -> None:
        """Store the vectors of some rows, global and ascending."""
        local = rows - self._first_row
        self._array[local] = vectors
        self._present[local] = True
        self._moments = self._moments.merge(Moments.of(vectors))

    def close(self) -> ShardSummary:
        """Finish the files."""
        bits = np.packbits(self._present)
        np.save(self._presence_path, bits)
        digest = hashlib.sha256(bits.tobytes())
        for begin, end in _steps(0, len(self._array)):
            digest.update(np.ascontiguousarray(self._array[begin:end]).tobytes())
        if isinstance(self._array, np.memmap):
            self._array.flush()
        return ShardSummary(digest.digest(), self._moments)


def _save_empty(path: Path, dtype: FeatureDtype, width: int) -> NDArray[np.floating]:
    # An array without bytes cannot be mapped.
    array = np.zeros((0, width), dtype=dtype)
    np.save(path, array)
    return array


def save_mark(path: Path, shards: list[ShardSummary]) -> None:
    """Say that a part is finished, and keep what its shards add to the whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as file:
        np.savez(
            file,
            sha256=np.frombuffer(b"".join(shard.sha256 for shard in shards), dtype=np.uint8).reshape(-1, 32),
            count=np.array([shard.moments.count for shard in shards], dtype=np.int64),
            mean=np.stack([shard.moments.mean for shard in shards]),
            squares=np.stack([shard.moments.squares for shard in shards]),
        )
    partial.rename(path)


def load_mark(path: Path) -> list[ShardSummary]:
    """Read what `save_mark` kept."""
    with np.load(path, allow_pickle=False) as mark:
        parts = zip(mark["sha256"], mark["count"], mark["mean"], mark["squares"], strict=True)
        return [
            ShardSummary(sha256.tobytes(), Moments(int(count), mean, squares)) for sha256, count, mean, squares in parts
        ]
