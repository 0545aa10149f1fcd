"""Where a worker's rows and their optimiser state lie: on the device, in host memory, or in mapped files.

A column holds one entry a row. A step reads the touched entries of every column, computes on the device, and writes
them back; the same arithmetic on the same numbers, so a placement changes no result. Mapped files are read ahead for
the entities of the next step, which are known in advance.
"""

import mmap
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snag_dist.errors import ResourceError

Placement = Literal["device", "host", "disk"]
"""`device`: where steps compute. `host`: host memory, touched rows travel. `disk`: mapped files in a scratch folder."""

# Pages between two touched ones that are read along: a longer read costs less than another request.
_GAP = 4


class RowColumns:
    """Columns of a worker's rows, on the device that computes steps.

    Attributes:
        device: that computes steps.
        columns: by name, (E_local, ...) each, where they lie.
        reads_ahead: whether `prefetch` does anything.
    """

    reads_ahead = False

    def __init__(self, num_rows: int, device: torch.device):
        self.device = device
        self.columns: dict[str, Tensor] = {}
        self._num_rows = num_rows

    def add(self, name: str, tail: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Make a column (E_local, *tail) of zeros."""
        self.columns[name] = self._allocate((self._num_rows, *tail), dtype)
        return self.columns[name]

    def read(self, index: Tensor, names: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Copy entries `index` (N,) int64 of some columns, or of all, to the device: (N, ...) each."""
        chosen = self.columns if names is None else {name: self.columns[name] for name in names}
        return {
            name: column.index_select(0, index.to(column.device)).to(self.device) for name, column in chosen.items()
        }

    def write(self, index: Tensor, values: Mapping[str, Tensor]) -> None:
        """Put (N, ...) values into the distinct entries `index` (N,) of the columns they are named by."""
        for name, value in values.items():
            column = self.columns[name]
            column.index_copy_(0, index.to(column.device), value.to(column.device))

    def prefetch(self, index: Tensor) -> None:
        """Begin to read entries `index` (N,) that a later step will touch; returns at once."""

    def release(self, start: int, stop: int) -> None:
        """Give back the memory of rows [start, stop) after a pass over them, where they can be read again."""

    def _allocate(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.zeros(shape, dtype=dtype, device=self.device)


class HostColumns(RowColumns):
    """Columns in host memory, for tables that the device does not hold."""

    def _allocate(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.zeros(shape, dtype=dtype)


class DiskColumns(RowColumns):
    """Columns in mapped files without a name: their space is free again when the worker ends, however it ends.

    One file a column and worker, in the order of the rows. The system keeps the pages that are used and takes them
    back when it needs memory. Linux only.
    """

    reads_ahead = True

    def __init__(self, num_rows: int, device: torch.device, scratch: Path):
        """Put files into `scratch`, which is made where it is not there."""
        super().__init__(num_rows, device)
        scratch.mkdir(parents=True, exist_ok=True)
        self._scratch = scratch
        self._files: dict[str, _MappedFile] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rows-read-ahead")
        self._pending: Future[None] | None = None

    def prefetch(self, index: Tensor) -> None:
        """See `RowColumns.prefetch`."""
        if self._pending is not None:
            # Raises what went wrong; a thread that is not done by now would only fall behind further.
            self._pending.result()
        self._pending = self._thread.submit(self._read_ahead, index.numpy().copy())

    def release(self, start: int, stop: int) -> None:
        """See `RowColumns.release`."""
        for file in self._files.values():
            file.release(start, stop)

    def _read_ahead(self, index: NDArray[np.int64]) -> None:
        for file in self._files.values():
            file.read_ahead(index)

    def _allocate(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
        file = _MappedFile(self._scratch, shape[0], row_bytes)
        self._files[str(len(self._files))] = file
        return file.tensor(shape, dtype)


class _MappedFile:
    def __init__(self, scratch: Path, num_rows: int, row_bytes: int):
        self._row_bytes = row_bytes
        num_bytes = max(1, num_rows * row_bytes)
        self._file = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 - open as long as it is mapped
        try:
            # Reserved now: a mapped page that finds no room on the disk would end the process without a word.
            os.posix_fallocate(self._file.fileno(), 0, num_bytes)
        except OSError as error:
            free = shutil.disk_usage(scratch).free
            raise ResourceError(
                f"{scratch}: expected {num_bytes} bytes for a file of the table, found {free} free "
                f"({error.strerror}); free some, set table.scratch to a larger disk, or table.placement=host"
            ) from error
        self._memory = mmap.mmap(self._file.fileno(), num_bytes)
        # Rows are touched at random: the system must not read their neighbours along.
        self._memory.madvise(mmap.MADV_RANDOM)

    def tensor(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        count = int(np.prod(shape, dtype=np.int64))
        return torch.frombuffer(self._memory, dtype=dtype, count=count).view(shape) if count else torch.zeros(shape)

    def read_ahead(self, index: NDArray[np.int64]) -> None:
        for start, stop in page_runs(index, self._row_bytes):
            os.posix_fadvise(self._file.fileno(), start, stop - start, os.POSIX_FADV_WILLNEED)

    def release(self, start: int, stop: int) -> None:
        # Whole pages inside the range; what was written stays in the file's own pages.
        first = -(-start * self._row_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        last = stop * self._row_bytes // mmap.PAGESIZE * mmap.PAGESIZE
        if first < last:
            self._memory.madvise(mmap.MADV_DONTNEED, first, last - first)


def page_runs(index: NDArray[np.int64], row_bytes: int) -> list[tuple[int, int]]:
    """Return the byte ranges [start, stop) of whole pages that hold rows `index` (N,), near ones joined."""
    if not len(index):
        return []
    rows = np.sort(index)
    first = rows * row_bytes // mmap.PAGESIZE
    last = ((rows + 1) * row_bytes - 1) // mmap.PAGESIZE
    breaks = np.flatnonzero(first[1:] - last[:-1] > _GAP) + 1
    starts = first[np.concatenate([[0], breaks])] * mmap.PAGESIZE
    stops = (last[np.concatenate([breaks - 1, [len(last) - 1]])] + 1) * mmap.PAGESIZE
    return list(zip(starts.tolist(), stops.tolist(), strict=True))


def make_columns(placement: Placement, num_rows: int, device: torch.device, scratch: Path | None) -> RowColumns:
    """Make the columns of a worker, none yet.

    Args:
        placement: where they lie.
        num_rows: E_local.
        device: that computes steps.
        scratch: folder of mapped files; needed with `disk`.
    """
    if placement == "disk":
        assert scratch is not None
        return DiskColumns(num_rows, device, scratch)
    return (HostColumns if placement == "host" else RowColumns)(num_rows, device)
