"""From keys to places in the store, out of core: what is decided about a key is decided in its partition.

Three passes over the partitions of the runs: which keys there are and where each first stands; what number that gives
it; and for every occurrence of a key its place. Held is a partition a thread; places of all occurrences lie in a mapped
file. A vocabulary that fits one partition takes the same way.
"""

# pyarrow.compute makes its functions when it is imported, where a type checker does not see them.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from snag_dist.errors import DataError
from snag_dist.store.blocks import UNKNOWN, Ints, Places, place
from snag_dist.store.key_runs import KeyRuns, Partitions, read_arrow, write_arrow
from snag_dist.store.pipeline import Threads

KEYS_PER_PARTITION = 1 << 21
"""Keys decided on together, those of different runs counted: about 0.5 GB with their strings."""
KEYS_PER_CHUNK = 1 << 18
"""Keys of a store that are written together."""

Order = Literal["sorted", "appearance", "table"]


@dataclass(frozen=True)
class Numbering:
    """How keys get their numbers.

    Attributes:
        order: `sorted`: in the order of the keys; `appearance`: as they first stand in the triples; `table`: as they
            stand in a table, and no others are known.
        num_tables: leading runs that are the table; with another order they give names and nothing else.
        table: the table, for messages.
    """

    order: Order
    num_tables: int = 0
    table: str = ""


@dataclass(frozen=True)
class NumberedKeys:
    """A vocabulary whose keys have their places.

    Attributes:
        folder: of its files.
        num: keys.
        bases: (number of runs + 1,) see `KeyRuns`.
        num_partitions: P.
    """

    folder: Path
    num: int
    bases: Ints
    num_partitions: int

    def places(self, run: int) -> Ints:
        """Return the place of every key of a run, in the block's own order; `UNKNOWN` where the table lacks it."""
        begin, end = int(self.bases[run]), int(self.bases[run + 1])
        return np.fromfile(_places_file(self.folder), dtype=np.int64, count=end - begin, offset=8 * begin)

    def in_order(self, keys_per_chunk: int = KEYS_PER_CHUNK) -> Iterator[pa.Table]:
        """Go through key and name of all keys by their places."""
        parts = [read_arrow(_placed_file(self.folder, partition)) for partition in range(self.num_partitions)]
        bounds = np.append(np.arange(0, self.num, keys_per_chunk), self.num)
        cuts = [np.searchsorted(part["place"].to_numpy(), bounds) for part in parts]
        for chunk in range(len(bounds) - 1):
            pieces = [
                part.slice(int(cut[chunk]), int(cut[chunk + 1] - cut[chunk]))
                for part, cut in zip(parts, cuts, strict=True)
            ]
            piece = pa.concat_tables(pieces).combine_chunks()
            yield piece.take(pc.sort_indices(piece["place"])).select(["key", "name"])


def number_keys(
    runs: KeyRuns,
    numbering: Numbering,
    make_places: Callable[[int], Places],
    threads: Threads,
    keys_per_partition: int = KEYS_PER_PARTITION,
) -> NumberedKeys:
    """Number the keys of all runs.

    Args:
        runs: whose keys are numbered; the same keys in the same runs give the same numbers, however they are cut.
        numbering: the order of the numbers.
        make_places: number of keys to where the store puts them.
        threads: that do the work.
        keys_per_partition: see `KEYS_PER_PARTITION`.

    Raises:
        DataError: a key of the table repeats.
    """
    partitions = runs.partition(keys_per_partition)
    bases, folder = runs.bases, runs.folder
    places = np.memmap(_places_file(folder), dtype=np.int64, mode="w+", shape=(max(1, int(bases[-1])),))
    collect = [partial(_collect, partitions, p, numbering) for p in range(len(partitions))]
    found = list(threads.in_order(collect))
    _check_distinct([repeat for _, repeat in found if repeat is not None], partitions, numbering)
    counts = [count for count, _ in found]
    num = int(bases[numbering.num_tables]) if numbering.order == "table" else sum(counts)
    starts = np.concatenate([[0], np.cumsum(counts)])
    if numbering.order == "appearance":
        for p in range(len(partitions)):
            first = _first_addresses(folder, p)
            places[first[first >= 0]] = 1
        _count_up(places)
    settle = [
        partial(_settle, folder, p, numbering, int(starts[p]), make_places(num), places) for p in range(len(partitions))
    ]
    for _ in threads.in_order(settle):
        pass
    places.flush()
    return NumberedKeys(folder, num, bases, len(partitions))


def _collect(partitions: Partitions, p: int, numbering: Numbering) -> tuple[int, tuple[int, int] | None]:
    """Find the keys of a partition; return their number, and both addresses of the first that repeats in a table."""
    table = partitions.read(p)
    encoded = table["key"].combine_chunks().dictionary_encode()
    codes, keys = np.asarray(encoded.indices, dtype=np.int32), encoded.dictionary
    if numbering.order == "sorted":
        order = pc.sort_indices(keys).to_numpy()
        rank = np.empty(len(keys), dtype=codes.dtype)
        rank[order] = np.arange(len(keys))
        codes, keys = rank[codes], keys.take(pa.array(order))
    addresses = table["address"].to_numpy()
    in_table = addresses < partitions.runs.bases[numbering.num_tables]
    defining = np.flatnonzero(in_table if numbering.order == "table" else ~in_table)
    # Occurrences come in the order of their addresses: going backwards, what stays is the first of each key.
    first = np.full(len(keys), UNKNOWN, dtype=np.int64)
    first[codes[defining][::-1]] = addresses[defining][::-1]
    named = np.flatnonzero(in_table)[::-1]
    name_row = np.full(len(keys), UNKNOWN, dtype=np.int64)
    name_row[codes[named]] = named
    names = table["name"].take(pa.array(name_row, mask=name_row == UNKNOWN)).combine_chunks()
    write_arrow(
        _keys_file(partitions.runs.folder, p),
        pa.table({"key": keys, "name": pc.coalesce(names, keys), "first": pa.array(first)}),
    )
    write_arrow(
        _occurrences_file(partitions.runs.folder, p), pa.table({"code": pa.array(codes), "address": table["address"]})
    )
    repeats = None
    if numbering.order == "table" and len(defining) > (first >= 0).sum():
        again = defining[addresses[defining] != first[codes[defining]]]
        second = again[np.argmin(addresses[again])]
        repeats = int(addresses[second]), int(first[codes[second]])
    return int((first >= 0).sum()), repeats


def _check_distinct(repeats: list[tuple[int, int]], partitions: Partitions, numbering: Numbering) -> None:
    if not repeats:
        return
    second, first = min(repeats)
    key = next(
        table["key"][place].as_py()
        for table in map(partitions.read, range(len(partitions)))
        if (place := table["address"].index(second).as_py()) >= 0
    )
    raise DataError(
        f"{numbering.table} row {second}: key {key!r} already stands in row {first}; "
        "keys must be distinct, so rename or merge them"
    )


def _count_up(flags: Ints) -> None:
    """Replace flags by how many were set before each, a piece at a time."""
    total = 0
    for begin in range(0, len(flags), 1 << 22):
        piece = flags[begin : begin + (1 << 22)]
        counts = np.cumsum(piece)
        piece[:] = counts - piece + total
        total += int(counts[-1])


def _settle(folder: Path, p: int, numbering: Numbering, start: int, where: Places, places: Ints) -> None:
    """Place the keys of a partition, and tell every occurrence."""
    table = read_arrow(_keys_file(folder, p))
    first = table["first"].to_numpy()
    defined = np.flatnonzero(first >= 0)
    ids = np.full(len(first), UNKNOWN, dtype=np.int64)
    if numbering.order == "sorted":
        ids[:] = start + np.arange(len(ids))
    else:
        ids[defined] = first[defined] if numbering.order == "table" else places[first[defined]]
    placed = place(ids, where)
    occurrences = read_arrow(_occurrences_file(folder, p))
    places[occurrences["address"].to_numpy()] = placed[occurrences["code"].to_numpy()]
    by_place = pa.array(defined[np.argsort(placed[defined])])
    columns = {"place": pa.array(placed).take(by_place), "key": table["key"].take(by_place)}
    write_arrow(_placed_file(folder, p), pa.table({**columns, "name": table["name"].take(by_place)}))


def _first_addresses(folder: Path, p: int) -> Ints:
    return read_arrow(_keys_file(folder, p))["first"].to_numpy()


def _keys_file(folder: Path, p: int) -> Path:
    return folder / f"keys-{p:06}.arrow"


def _occurrences_file(folder: Path, p: int) -> Path:
    return folder / f"occurrences-{p:06}.arrow"


def _placed_file(folder: Path, p: int) -> Path:
    return folder / f"placed-{p:06}.arrow"


def _places_file(folder: Path) -> Path:
    return folder / "places.int64"
