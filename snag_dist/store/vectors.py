"""Arrays of vectors in files, mapped so that any rows can be read, and pooled if asked.

No pickle is ever run: `.npy` arrays of objects and `.pt` files that hold anything but a tensor are refused. Vectors in
`.pkl` and Parquet have keys, and are laid out as an array before they come here (see array_features.py).
"""

import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from snag_dist.errors import DataError
from snag_dist.store.parts import VectorMaker
from snag_dist.store.shard_files import UNREADABLE, beginning, is_npy

_ROWS_AT_A_TIME = 8192


class Vectors:
    """A (n, F) array in a file, of which any rows can be read."""

    def __init__(self, num_rows: int, width: int, take: Callable[[NDArray[np.int64]], NDArray[np.float32]]) -> None:
        self.num_rows = num_rows
        self.width = width
        self.take = take

    def nonzero_rows(self) -> NDArray[np.bool_]:
        """Return (n,) whether a row has a number other than zero."""
        starts = range(0, self.num_rows, _ROWS_AT_A_TIME)
        steps = [np.arange(start, min(self.num_rows, start + _ROWS_AT_A_TIME)) for start in starts]
        return np.concatenate([self.take(step).any(axis=1) for step in steps])


def open_vectors(path: Path, shown: Path) -> Vectors:
    """Map an array without reading it.

    Args:
        path: of the array.
        shown: the user's file, for messages.

    Raises:
        DataError: it is not a two-dimensional array of numbers.
    """
    if path.suffix == ".npy":
        return _open_npy(path, shown)
    if path.suffix in (".pt", ".pth"):
        return _open_pt(path, shown)
    raise DataError(f"{shown}: expected .npy, .pt, .pth, .pkl or .parquet, got {path.suffix!r}; convert the file")


def _open_npy(path: Path, shown: Path) -> Vectors:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except UNREADABLE as error:
        # For any other file numpy's words are of pickles, and how to load them unsafely.
        found = str(error) if is_npy(path) else f"a file that begins with {beginning(path)}"
        raise DataError(
            f"{shown}: expected an array of numbers, got: {found}; save it with numpy.save, without objects"
        ) from error
    _check_array(shown, array.shape, str(array.dtype), is_number=array.dtype.kind in "fiu")
    return Vectors(len(array), array.shape[1], lambda rows: np.asarray(array[rows], dtype=np.float32))


def _open_pt(path: Path, shown: Path) -> Vectors:
    import torch

    try:
        tensor = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        raise DataError(
            f"{shown}: expected a tensor, got what only a pickle could load ({reason}); save the tensor "
            "alone with torch.save, or the array with numpy.save"
        ) from error
    if not isinstance(tensor, torch.Tensor):
        raise DataError(f"{shown}: expected a tensor, got {type(tensor).__name__}; save the tensor alone")
    is_number = not tensor.is_complex() and tensor.dtype != torch.bool
    _check_array(shown, tuple(tensor.shape), str(tensor.dtype), is_number=is_number)
    return Vectors(len(tensor), tensor.shape[1], lambda rows: tensor[torch.from_numpy(rows)].float().numpy())


def _check_array(shown: Path, shape: tuple[int, ...], dtype: str, *, is_number: bool) -> None:
    if len(shape) != 2 or not shape[1] or not is_number:
        raise DataError(
            f"{shown}: expected a (rows, width) array of numbers, got shape {shape} of {dtype}; reshape or cast it"
        )


def pooled_width(width: int, pool: int, shown: Path) -> int:
    """Return the width after pooling.

    Raises:
        DataError: the vector is no square picture, or its side is no multiple of `pool`.
    """
    if pool == 1:
        return width
    side = math.isqrt(width)
    if side * side != width or side % pool:
        raise DataError(
            f"{shown}: pool = {pool}: expected a width that is the square of a multiple of {pool}, "
            f"got {width}; set pool to 1 or to a divisor of the side"
        )
    return width // pool**2


def pool_square(vectors: NDArray[np.float32], pool: int) -> NDArray[np.float32]:
    """Average squares of pool x pool numbers of vectors read as square pictures, row by row.

    Args:
        vectors: (n, F) where F is the square of a multiple of `pool`.

    Returns:
        (n, F / pool^2).

    Source: the released completion code, which pools 4096 VGG numbers to 256 so.
    """
    side = math.isqrt(vectors.shape[1]) // pool
    blocks = vectors.reshape(len(vectors), side, pool, side, pool)
    return blocks.mean(axis=(2, 4), dtype=np.float64).astype(np.float32).reshape(len(vectors), side * side)


def normalise_rows(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Divide each of (n, F) vectors by its l2 norm; zeros stay zeros."""
    # In float64, where the squares of no float32 overflow.
    norms = np.sqrt(np.square(vectors, dtype=np.float64).sum(axis=1, keepdims=True))
    return np.divide(vectors, norms, out=np.zeros(vectors.shape), where=norms != 0).astype(np.float32)


@dataclass(frozen=True)
class ArraySpec:
    """What an actor needs to read vectors.

    Attributes:
        path: of the array, absolute.
        shown: the user's file.
        pool, normalise: see `ArrayConfig`.
    """

    path: Path
    shown: Path
    pool: int
    normalise: bool

    def load(self) -> VectorMaker:
        """Map the array."""
        return ArrayReader(self)


class ArrayReader:
    """Reads, and if asked pools and normalises, the vectors at given positions."""

    def __init__(self, spec: ArraySpec) -> None:
        self._vectors = open_vectors(spec.path, spec.shown)
        self._pool = spec.pool
        self._normalise = spec.normalise
        self.width = pooled_width(self._vectors.width, spec.pool, spec.shown)

    def vectors(self, payload: pa.Array) -> NDArray[np.float32]:
        """Return (n, F) vectors at n positions."""
        vectors = self._vectors.take(payload.to_numpy())
        if self._pool > 1:
            vectors = pool_square(vectors, self._pool)
        return normalise_rows(vectors) if self._normalise else vectors
