"""Files of one virtual shard of a feature table, and the mark that says a part is finished."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError

import numpy as np
from numpy.typing import NDArray

from snag_dist.errors import DataError
from snag_dist.store.schema import FeatureDtype, presence_file, shard_file
from snag_dist.store.statistics import Moments

# Vectors held at a time, however large a shard is.
_ROWS_AT_A_TIME = 1024
UNREADABLE = (ValueError, OSError, EOFError, TokenError, SyntaxError)
"""What numpy raises where a `.npy` is none, or damaged: it reads an odd header as a piece of Python."""
_MAGIC = b"\x93NUMPY"


def steps(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Cut a range into ranges that fit in memory."""
    for begin in range(start, stop, _ROWS_AT_A_TIME):
        yield begin, min(stop, begin + _ROWS_AT_A_TIME)


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
    """Writes the hot array of one virtual shard: all its rows, zeros where the modality is absent.

    Attributes:
        rows: its global rows.
        dtype: of the stored numbers.
    """

    def __init__(self, folder: Path, shard: int, rows: range, width: int, dtype: FeatureDtype) -> None:
        """Begin the files of a shard.

        Args:
            folder: of the table in the making.
            shard: which virtual shard.
            rows: its global rows.
            width: F.
            dtype: of the stored numbers.
        """
        self.rows = rows
        self.dtype = dtype
        self._presence_path = folder / presence_file(shard)
        path = folder / shard_file(shard)
        path.parent.mkdir(parents=True, exist_ok=True)
        size = len(rows)
        # Mapped, so that a shard of any size passes through in steps.
        self._array: NDArray[np.floating] = (
            np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=(size, width))
            if size
            else _save_empty(path, dtype, width)
        )
        self._present = np.zeros(size, dtype=bool)
        self._moments = Moments.zero(width)

    def add(self, rows: NDArray[np.int64], vectors: NDArray[np.floating]) -> None:
        """Store the vectors of some rows, global and ascending."""
        local = rows - self.rows.start
        self._array[local] = vectors
        self._present[local] = True
        self._moments = self._moments.merge(Moments.of(vectors))

    def close(self) -> ShardSummary:
        """Finish the files."""
        bits = np.packbits(self._present)
        save_presence(self._presence_path, self._present)
        digest = hashlib.sha256(bits.tobytes())
        for begin, end in steps(0, len(self._array)):
            digest.update(np.ascontiguousarray(self._array[begin:end]).tobytes())
        if isinstance(self._array, np.memmap):
            self._array.flush()
        return ShardSummary(digest.digest(), self._moments)


def _save_empty(path: Path, dtype: FeatureDtype, width: int) -> NDArray[np.floating]:
    # An array without bytes cannot be mapped.
    array = np.zeros((0, width), dtype=dtype)
    np.save(path, array)
    return array


def is_npy(path: Path) -> bool:
    """Whether a file begins as numpy's arrays do."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def beginning(path: Path) -> str:
    """Return the first bytes of a file, to be shown."""
    with path.open("rb") as file:
        return repr(file.read(8))


def map_shard(path: Path) -> NDArray[np.floating]:
    """Map the vectors of a shard.

    Raises:
        DataError: the file is damaged.
    """
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except UNREADABLE as error:
        raise damaged(path) from error


def damaged(path: Path) -> DataError:
    """Say that a file of a feature table is not what extraction wrote."""
    return DataError(
        f"{path}: expected what extraction wrote, got a file that begins with {beginning(path)}: it is damaged; remove "
        "the folder of the modality and extract it again"
    )


def save_presence(path: Path, present: NDArray[np.bool_]) -> None:
    """Write which rows of a shard have the modality, one bit a row."""
    np.save(path, np.packbits(present))


def read_presence(path: Path, size: int) -> NDArray[np.bool_]:
    """Read (size,) which rows of a shard have the modality.

    Raises:
        DataError: the file is damaged.
    """
    try:
        bits = np.load(path, allow_pickle=False)
    except UNREADABLE as error:
        raise damaged(path) from error
    if bits.dtype != np.uint8 or bits.shape != (-(-size // 8),):
        raise damaged(path)
    return np.unpackbits(bits, count=size).astype(bool)


def save_mark(path: Path, shards: list[ShardSummary]) -> None:
    """Say that a part is finished, and keep what its shards add to the whole."""
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
