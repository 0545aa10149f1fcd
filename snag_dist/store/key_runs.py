"""Keys in sorted runs on disk: each block of a source leaves the distinct keys it has, and what it calls them.

Runs are cut into partitions by range, at keys picked evenly from all runs, so that no partition is much larger than
asked for, whatever the keys are (regular sampling). A partition holds all occurrences of its keys: what is decided
about a key is decided there, once.

Source: Shi and Schaeffer, "Parallel sorting by regular sampling" (1992).
"""

# pyarrow.compute makes its functions when it is imported, where a type checker does not see them.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Ints = NDArray[np.int64]

_RUN_SCHEMA = pa.schema([("key", pa.large_string()), ("address", pa.int64()), ("name", pa.large_string())])


def write_arrow(path: Path, table: pa.Table) -> None:
    """Write a table so that `read_arrow` maps it."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table.combine_chunks())


def read_arrow(path: Path) -> pa.Table:
    """Map a table: pages are read when they are looked at, and given back under pressure."""
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def encode_keys(columns: Sequence[pa.Array]) -> tuple[list[NDArray[np.int32]], pa.Array]:
    """Number the keys of a block's columns in the order they appear, row by row, left to right.

    Args:
        columns: (T,) large_string each.

    Returns:
        (T,) numbers of each column, -1 where a key is missing; and the distinct keys in the order of the numbers.
    """
    encoded = pa.concat_arrays(columns).dictionary_encode()
    found, keys = encoded.indices.fill_null(-1).to_numpy().reshape(len(columns), -1), encoded.dictionary
    if len(columns) == 1:
        return [found[0]], keys
    # The columns were read one after another: first places tell how they appear row by row.
    first = np.full(len(keys) + 1, found.size, dtype=np.int64)
    by_row = found.T.reshape(-1)
    first[by_row[::-1]] = np.arange(found.size)[::-1]
    order = np.argsort(first[:-1])
    numbers = np.empty(len(keys) + 1, dtype=np.int32)
    numbers[order], numbers[-1] = np.arange(len(keys)), -1
    return list(numbers[found]), keys.take(pa.array(order))


@dataclass
class KeyRuns:
    """Runs of one vocabulary.

    Attributes:
        folder: of the files, empty at first.
        lengths: keys of each run. The j-th key of run i has the address `sum(lengths[:i]) + j`.
    """

    folder: Path
    lengths: list[int] = field(default_factory=list[int])

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)

    def write(self, number: int, keys: pa.Array, names: pa.Array | None = None) -> int:
        """Write a run, from any thread; `note` makes it one of the runs.

        Args:
            number: of the run, from 0.
            keys: (n,) large_string in the block's own order.
            names: (n,) labels, where the source has some.

        Returns:
            n.
        """
        order = pc.sort_indices(keys)
        columns = [keys.take(order), order.cast(pa.int64()), pa.nulls(len(keys), pa.large_string())]
        if names is not None:
            columns[2] = names.take(order)
        write_arrow(self._path(number), pa.table(columns, schema=_RUN_SCHEMA))
        return len(keys)

    def note(self, length: int) -> None:
        """Take the next run among the runs."""
        self.lengths.append(length)

    @property
    def bases(self) -> Ints:
        """(number of runs + 1,) the address of each run's first key, and the number of all."""
        return np.concatenate([[0], np.cumsum(self.lengths, dtype=np.int64)])

    def partition(self, most: int) -> "Partitions":
        """Cut the runs so that a partition has about `most` keys, and at most twice that and one a run.

        Args:
            most: keys in a partition, duplicates of different runs counted.
        """
        runs = range(len(self.lengths))
        if sum(self.lengths) <= most:
            return Partitions(self, np.array([[0] * len(runs), self.lengths], dtype=np.int64))
        step = max(1, most // (2 * len(runs)))
        samples = pa.chunked_array([self._keys(run).take(pa.array(range(0, self.lengths[run], step))) for run in runs])
        ordered = samples.take(pc.sort_indices(samples))
        every = pa.array(range(most // step, len(ordered), most // step), pa.int64())
        splitters = ordered.take(every).unique().to_pylist()
        cuts = [np.zeros(len(runs), dtype=np.int64)]
        cuts += [np.array([_first_at_least(self._keys(run), key) for run in runs]) for key in splitters]
        return Partitions(self, np.stack([*cuts, np.array(self.lengths)]))

    def read(self, run: int, begin: int, end: int, base: int) -> pa.Table:
        """Map keys of a run in sorted order: key, address, name; `base` is the address of its first key."""
        table = read_arrow(self._path(run)).slice(begin, end - begin)
        return table.set_column(1, "address", pc.add(table["address"], pa.scalar(base)))

    def _keys(self, run: int) -> pa.ChunkedArray:
        return read_arrow(self._path(run))["key"]

    def _path(self, run: int) -> Path:
        return self.folder / f"run-{run:06}.arrow"


@dataclass(frozen=True)
class Partitions:
    """Runs cut by range.

    Attributes:
        runs: that are cut.
        cuts: (P + 1, number of runs) where the keys of each partition begin in each run.
    """

    runs: KeyRuns
    cuts: Ints

    def __len__(self) -> int:
        return len(self.cuts) - 1

    def read(self, partition: int) -> pa.Table:
        """Return all occurrences of the partition's keys, in the order of their runs: key, address, name."""
        pieces = np.stack([self.cuts[partition], self.cuts[partition + 1], self.runs.bases[:-1]], axis=1)
        tables = [
            self.runs.read(run, int(begin), int(end), int(base))
            for run, (begin, end, base) in enumerate(pieces)
            if begin < end
        ]
        return pa.concat_tables(tables).combine_chunks() if tables else _RUN_SCHEMA.empty_table()


def _first_at_least(keys: pa.ChunkedArray, key: str) -> int:
    low, high = 0, len(keys)
    while low < high:
        middle = (low + high) // 2
        if keys[middle].as_py() < key:
            low = middle + 1
        else:
            high = middle
    return low
