"""One side of the known-true index, sorted out of core: blocks of triples become sorted runs, runs become its files.

A run holds the distinct (pair key, answer) of a block, in order. Runs are merged by going through all of them together,
a piece of each at a time: whatever is not above the last record held of any run that goes on is complete, so it is
sorted and written. More runs than are merged together become fewer, longer ones first. Held is a block, whatever the
number of triples, and however often one pair or one triple comes up.

Source: Knuth, The Art of Computer Programming 3, section 5.4 (sorting by merging from files).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from snag_dist.kg.truth import Side
from snag_dist.store.shard_files import UNREADABLE

Ids = NDArray[np.int64]

RECORDS_AT_A_TIME = 1 << 22
"""Pairs with an answer that are sorted together: 80 bytes each at their peak, 0.34 GB."""
RUNS_AT_A_TIME = 256
"""Runs that are merged together; a piece of one is read at once, so more of them would read in smaller pieces."""

# Pair key and answer.
_RECORD_BYTES = 16


class Records(NamedTuple):
    """Pair keys and an answer each, (n,) both."""

    pairs: Ids
    answers: Ids


def write_side(pieces: Iterable[Records], stem: Path, size: int, scratch: Path, records_at_a_time: int) -> None:
    """Sort answers by their pairs and write the arrays that `Side.build` makes of them.

    Args:
        pieces: in any order, duplicates allowed; how they are cut does not matter.
        stem: path of the files, to which `.pairs.npy`, `.offsets.npy` and `.codes.npy` are added.
        size: answers are in [0, size).
        scratch: folder for runs, which must not exist; it is removed.
        records_at_a_time: see `RECORDS_AT_A_TIME`; at least 1.
    """
    scratch.mkdir()
    runs = [
        _write_run(scratch / f"run-{number:06}.int64", [_sort(block)])
        for number, block in enumerate(_blocks(pieces, records_at_a_time))
    ]
    turn = 0
    while len(runs) > RUNS_AT_A_TIME:
        turn += 1
        groups = [runs[begin : begin + RUNS_AT_A_TIME] for begin in range(0, len(runs), RUNS_AT_A_TIME)]
        runs = [
            _merge_into(scratch / f"run-{turn}-{number:06}.int64", group, records_at_a_time)
            for number, group in enumerate(groups)
        ]
    with _SideWriter(stem, size) as writer:
        for records in _merge(runs, records_at_a_time):
            writer.add(records)
    for run in runs:
        run.path.unlink()
    scratch.rmdir()


def map_side(stem: Path, size: int) -> Side:
    """Map what `write_side` wrote: nothing is read before it is looked at, and all workers of a host share the pages.

    Raises:
        ValueError: a file is no array of int64, or their lengths do not fit together.
    """
    pairs, offsets, codes = (_map_ids(_array_file(stem, name)) for name in ("pairs", "offsets", "codes"))
    if len(offsets) != len(pairs) + 1 or offsets[0] != 0 or offsets[-1] != len(codes):
        raise ValueError(f"{len(pairs)} pairs, {len(offsets)} offsets and {len(codes)} codes do not fit together")
    return Side(pairs, offsets, codes, size)


def _map_ids(path: Path) -> Ids:
    try:
        with path.open("rb") as file:
            assert np.lib.format.read_magic(file) == (1, 0)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        # An array without bytes cannot be mapped.
        array = np.load(path, mmap_mode="r" if shape[0] else None, allow_pickle=False)
    except (*UNREADABLE, AssertionError, IndexError) as error:
        raise ValueError(f"{path.name} is no array") from error
    if array.ndim != 1 or dtype != np.int64:
        raise ValueError(f"{path.name} is no array of int64")
    # Seen as a plain array: numpy's own memmap class costs more than a look-up.
    return np.asarray(array)


def _array_file(stem: Path, name: str) -> Path:
    return stem.with_name(f"{stem.name}.{name}.npy")


def _blocks(pieces: Iterable[Records], most: int) -> Iterator[Records]:
    """Cut pieces anew; a block is only good until the next one is asked for."""
    pairs, answers, filled = np.empty(most, dtype=np.int64), np.empty(most, dtype=np.int64), 0
    for piece in pieces:
        begin = 0
        while begin < len(piece.pairs):
            num = min(most - filled, len(piece.pairs) - begin)
            pairs[filled : filled + num] = piece.pairs[begin : begin + num]
            answers[filled : filled + num] = piece.answers[begin : begin + num]
            begin, filled = begin + num, filled + num
            if filled == most:
                yield Records(pairs, answers)
                filled = 0
    if filled:
        yield Records(pairs[:filled], answers[:filled])


def _sort(records: Records) -> Records:
    """Return the distinct records, by pair and then by answer."""
    order = np.lexsort((records.answers, records.pairs))
    pairs, answers = records.pairs[order], records.answers[order]
    is_new = np.ones(len(order), dtype=np.bool_)
    is_new[1:] = (pairs[1:] != pairs[:-1]) | (answers[1:] != answers[:-1])
    return Records(pairs[is_new], answers[is_new])


@dataclass(frozen=True)
class _Run:
    """Records in order, in a file: pair key and answer in turn.

    Attributes:
        path: of the file.
        num: records in it.
    """

    path: Path
    num: int


def _write_run(path: Path, pieces: Iterable[Records]) -> _Run:
    num = 0
    with path.open("wb") as file:
        for piece in pieces:
            np.stack(piece, axis=1).tofile(file)
            num += len(piece.pairs)
    return _Run(path, num)


def _merge_into(path: Path, runs: Sequence[_Run], records_at_a_time: int) -> _Run:
    merged = _write_run(path, _merge(runs, records_at_a_time))
    for run in runs:
        run.path.unlink()
    return merged


class _Reader:
    """A run on its way through a merge.

    Attributes:
        held: what was read of it and not yet taken.
    """

    def __init__(self, run: _Run, piece: int) -> None:
        """Read so many records of a run at a time."""
        self._run, self._piece, self._next = run, piece, 0
        self.held = Records(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))

    @property
    def goes_on(self) -> bool:
        """Whether there is more behind what is held."""
        return self._next < self._run.num

    @property
    def last(self) -> tuple[int, int]:
        """The last record held."""
        return int(self.held.pairs[-1]), int(self.held.answers[-1])

    def fill(self) -> bool:
        """Read on where nothing is held; return whether something is."""
        if not len(self.held.pairs) and self.goes_on:
            num = min(self._piece, self._run.num - self._next)
            read = np.fromfile(self._run.path, dtype=np.int64, count=2 * num, offset=_RECORD_BYTES * self._next)
            self.held = Records(*np.ascontiguousarray(read.reshape(-1, 2).T))
            self._next += num
        return bool(len(self.held.pairs))

    def take(self, bound: tuple[int, int] | None) -> Records:
        """Take the records up to one, itself included; all of them without a bound."""
        held, stop = self.held, len(self.held.pairs)
        if bound is not None:
            low, high = (int(np.searchsorted(held.pairs, bound[0], side)) for side in ("left", "right"))
            stop = low + int(np.searchsorted(held.answers[low:high], bound[1], "right"))
        self.held = Records(held.pairs[stop:], held.answers[stop:])
        return Records(held.pairs[:stop], held.answers[:stop])


def _merge(runs: Sequence[_Run], records_at_a_time: int) -> Iterator[Records]:
    """Yield the distinct records of some runs in order, at most about so many at a time."""
    piece = max(1, records_at_a_time // max(1, len(runs)))
    readers = [_Reader(run, piece) for run in runs]
    while readers := [reader for reader in readers if reader.fill()]:
        bound = min((reader.last for reader in readers if reader.goes_on), default=None)
        taken = [reader.take(bound) for reader in readers]
        yield _sort(Records(*(np.concatenate(column) for column in zip(*taken, strict=True))))


class _Column:
    """A `.npy` of int64 whose length is known when it is closed."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("wb")
        self.num = 0
        self._write_header()
        self._begin = self._file.tell()

    def add(self, values: Ids) -> None:
        """Write what follows."""
        values.tofile(self._file)
        self.num += len(values)

    def close(self) -> None:
        """Write the length."""
        self._file.seek(0)
        self._write_header()
        assert self._file.tell() == self._begin, "numpy pads headers so that a length can grow in place"
        self._file.close()

    def _write_header(self) -> None:
        header = {"descr": "<i8", "fortran_order": False, "shape": (self.num,)}
        np.lib.format.write_array_header_1_0(self._file, header)


class _SideWriter:
    """Writes the arrays of `Side` from distinct records that come in order."""

    def __init__(self, stem: Path, size: int) -> None:
        self._pairs, self._offsets, self._codes = (
            _Column(_array_file(stem, name)) for name in ("pairs", "offsets", "codes")
        )
        self._size = size
        self._last: int | None = None

    def __enter__(self) -> "_SideWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._offsets.add(np.array([self._codes.num], dtype=np.int64))
        for column in (self._pairs, self._offsets, self._codes):
            column.close()

    def add(self, records: Records) -> None:
        """Take the records that follow; the first may be of the pair that came last."""
        pairs = records.pairs
        begins = np.ones(len(pairs), dtype=np.bool_)
        begins[1:] = pairs[1:] != pairs[:-1]
        begins[0] = self._last is None or pairs[0] != self._last
        codes = np.cumsum(begins, dtype=np.int64)
        codes += self._pairs.num - 1
        codes *= self._size
        codes += records.answers
        self._pairs.add(pairs[begins])
        self._offsets.add(self._codes.num + np.flatnonzero(begins))
        self._codes.add(codes)
        self._last = int(pairs[-1])
