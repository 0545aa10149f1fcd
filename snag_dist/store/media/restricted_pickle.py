"""Dictionaries of vectors in pickle files, read without unpickling anything (see pickle_machine.py)."""

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from snag_dist.errors import DataError
from snag_dist.store.media.pickle_machine import Numbers, PickledArray, RefusedError, name_type, run_pickle

_MAX_SHOWN = 60
_REMEDY = "save the vectors with numpy.save or in a Parquet file, or pickle a dict of key to 1-d numpy array alone"


def read_pickled_vectors(path: Path) -> tuple[list[str], NDArray[np.float32]]:
    """Read a dictionary of key to vector, as DBP15K's image vectors come.

    Args:
        path: of a pickle of any protocol; keys are text or whole numbers, values 1-d numpy arrays of numbers of one
            width.

    Returns:
        keys: n of them as text, in the order of the file.
        vectors: (n, F).

    Raises:
        DataError: the file is no such pickle, or names anything but numpy arrays of numbers, or claims more numbers
            than it holds. Nothing of it is run.
    """
    if not path.is_file() or not path.stat().st_size:
        raise DataError(f"{path}: expected a pickle, found none or an empty file; mend the path")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            found = run_pickle(content)
        except RefusedError as error:
            raise DataError(
                f"{path}: expected a dictionary of numpy vectors and nothing else, got {error}; {_REMEDY}"
            ) from error
        # pickletools says ValueError for what is cut off or no instruction.
        except (ValueError, OverflowError, IndexError) as error:
            raise DataError(f"{path}: expected a whole pickle, got: {error}; fetch or write the file again") from error
        return _stack(path, found, len(content))


def _stack(path: Path, found: object, num_bytes: int) -> tuple[list[str], NDArray[np.float32]]:
    if not isinstance(found, dict) or not found:
        what = "an empty dictionary" if isinstance(found, dict) else name_type(found)
        raise DataError(f"{path}: expected a dictionary of key to vector, got {what}; {_REMEDY}")
    vectors = cast("dict[int | str | bytes, object]", found)
    keys = [_read_key(path, key) for key in vectors]
    if len({isinstance(key, int) for key in vectors}) > 1:
        raise DataError(f"{path}: expected keys of one kind, got text and whole numbers; write them as one kind")
    width: int | None = None
    total = 0
    for key, numbers in _check_vectors(path, vectors):
        width = len(numbers) if width is None else width
        if not width or len(numbers) != width:
            wanted = f"a vector of {max(width, 1)} numbers"
            raise DataError(f"{path} key {_shown(key)}: expected {wanted}, got {len(numbers)}; mend the entry")
        total += numbers.nbytes
    # Entries may share an array, so a small file could stand for a huge table.
    if total > num_bytes:
        raise DataError(
            f"{path}: expected at most the {num_bytes} bytes of the file, got vectors of {total}, since entries share "
            f"them; {_REMEDY}"
        )
    table = np.empty((len(keys), width or 0), dtype=np.float32)
    # A number too large for float32 becomes infinite, which the check of every vector names by row and column.
    with np.errstate(over="ignore"):
        for row, (_, numbers) in enumerate(_check_vectors(path, vectors)):
            table[row] = numbers
    return keys, table


def _read_key(path: Path, key: int | str | bytes) -> str:
    try:
        text = key.decode() if isinstance(key, bytes) else str(key)
        text.encode()
    except UnicodeError as error:
        raise DataError(f"{path} key {_shown(key)}: expected UTF-8; pickle the keys as text") from error
    return text


def _shown(key: int | str | bytes) -> str:
    return repr(key) if isinstance(key, int) or len(key) <= _MAX_SHOWN else f"{key[:_MAX_SHOWN]!r}..."


def _check_vectors(path: Path, vectors: dict[int | str | bytes, object]) -> Iterator[tuple[int | str | bytes, Numbers]]:
    for key, value in vectors.items():
        if not isinstance(value, PickledArray) or value.numbers is None or len(value.shape) != 1:
            got = f"an array of shape {value.shape[:4]}" if isinstance(value, PickledArray) else name_type(value)
            raise DataError(f"{path} key {_shown(key)}: expected a vector (1-d array), got {got}; {_REMEDY}")
        yield key, value.numbers
