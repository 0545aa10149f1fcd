"""References collected as Arrow columns, sorted by key, and grouped to what a source lists.

Millions of references stay columns: Python objects live for one chunk of them.
"""

# pyarrow.compute makes its functions when it is imported, where a type checker does not see them.
# pyright: reportAttributeAccessIssue=false

import hashlib
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from snag_dist.errors import DataError
from snag_dist.store.media.items import ITEM, Listing, Problem, Texts

_ROWS_PER_CHUNK = 8192
_MAX_REASONS = 100
_GLOB = frozenset("*?[")

REFERENCE = pa.schema(
    [
        ("key", pa.large_string()),
        ("order", pa.large_string()),
        ("name", pa.large_string()),
        ("path", pa.large_string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
    ]
)
"""A reference before it is grouped: whose it is, what sorts it among those of the key, its name for messages, and
the three fields of `ITEM`."""

Describe = Callable[[str, str], str]
"""Path and name of a reference to where it stands, in words."""


class Problems:
    """Counts what cannot be used by reason, and keeps the first place of each."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._count: dict[str, int] = {}

    def add(self, place: str, reason: str, count: int = 1) -> None:
        """Note one thing, or several; reasons beyond the first hundred count as one."""
        if reason not in self._first and len(self._first) >= _MAX_REASONS:
            reason = "cannot be used, for other reasons"
        self._first.setdefault(reason, place)
        self._count[reason] = self._count.get(reason, 0) + count

    def merge(self, other: "Problems") -> None:
        """Note what another counted, after one's own."""
        for reason, place in other._first.items():
            self.add(place, reason, other._count[reason])

    def counts(self) -> list[tuple[str, str, int]]:
        """Return first place, reason and number of each."""
        return [(place, reason, self._count[reason]) for reason, place in self._first.items()]

    def lines(self) -> tuple[Problem, ...]:
        """Return place and reason, sorted by place; the reason tells how many there are."""
        found = ((place, reason if n == 1 else f"{reason} ({n} such)") for place, reason, n in self.counts())
        return tuple(sorted(found))


class References:
    """Collects references, a chunk of Python objects at a time."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, str, str, str, int, int]] = []
        self._chunks: list[pa.Table] = []

    def add(self, key: str, order: str, name: str, path: str, offset: int, size: int) -> None:
        """Append one reference; the fields are those of `REFERENCE`."""
        self._rows.append((key, order, name, path, offset, size))
        if len(self._rows) == _ROWS_PER_CHUNK:
            self._pack()

    def _pack(self) -> None:
        columns = zip(*self._rows, strict=True)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, REFERENCE, strict=True)]
        self._chunks.append(pa.Table.from_arrays(arrays, schema=REFERENCE))
        self._rows = []

    def table(self) -> pa.Table:
        """Return all references, sorted by key and order, equal ones as they came."""
        if self._rows:
            self._pack()
        return sort_references(pa.concat_tables([REFERENCE.empty_table(), *self._chunks]))


def sort_references(table: pa.Table) -> pa.Table:
    """Sort references by key and order, equal ones as they came; each column is one array after it."""
    indices = pc.sort_indices(table, sort_keys=[("key", "ascending"), ("order", "ascending")])
    return table.combine_chunks().take(indices).combine_chunks()


def column(table: pa.Table, name: str) -> pa.Array:
    """Return a column as one array."""
    chunks = table[name].chunks
    return chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks or [pa.array([], table[name].type)])


def run_starts(keys: pa.Array) -> NDArray[np.int64]:
    """Return (n+1,) where each run of equal ones among sorted keys begins, and their number."""
    if not len(keys):
        return np.zeros(1, np.int64)
    changes = pc.not_equal(keys[1:], keys[:-1]).to_numpy(zero_copy_only=False)
    return np.concatenate([[0], np.flatnonzero(changes) + 1, [len(keys)]]).astype(np.int64)


def make_listing(
    table: pa.Table, describe: Describe, source: str, identity: str, problems: tuple[Problem, ...]
) -> Listing:
    """Group sorted references by key.

    Args:
        table: schema `REFERENCE`, sorted.
        describe: path and name of a picture to where it stands.
    """
    keys = column(table, "key")
    starts = run_starts(keys)
    fields = [column(table, field.name) for field in ITEM]
    first = pa.array(starts[:-1])
    paths, names = fields[0].take(first), column(table, "name").take(first)
    return Listing(
        keys=keys.take(first),
        items=pa.LargeListArray.from_arrays(pa.array(starts), pa.StructArray.from_arrays(fields, fields=list(ITEM))),
        place=lambda index: describe(paths[index].as_py(), names[index].as_py()),
        source=source,
        identity=identity,
        problems=problems,
    )


def make_texts(
    keys: pa.Array,
    texts: Iterable[str],
    *,
    join: str,
    place: Callable[[int], str],
    source: str,
    problems: tuple[Problem, ...] = (),
) -> Texts:
    """Join the texts of each key, in their order; empty ones are left out, and one that repeats counts once.

    Args:
        keys: (n,) sorted, a key may repeat.
        texts: n of them.
        join: what stands between two.
        place: position among the n to where it stands.
    """
    stripped = [text.strip() for text in texts]
    starts = run_starts(keys)
    joined = [join.join(filter(None, dict.fromkeys(stripped[start:stop]))) for start, stop in pairwise(starts)]
    first = np.array([start for start, text in zip(starts[:-1], joined, strict=True) if text], dtype=np.int64)
    kept_keys = keys.take(pa.array(first))
    kept = pa.array([text for text in joined if text], pa.large_string())
    return Texts(
        keys=kept_keys,
        texts=kept,
        place=lambda index: place(int(first[index])),
        source=source,
        identity=hash_columns([], kept_keys, kept),
        problems=problems,
    )


def hash_columns(facts: list[str], *columns: pa.Array) -> str:
    """Return the sha256 of some facts and of columns of text or whole numbers, whatever their chunks were."""
    total = hashlib.sha256("\n".join([str(len(facts)), *facts]).encode())
    for values in columns:
        if pa.types.is_integer(values.type):
            total.update(values.to_numpy().astype("<i8").tobytes())
            continue
        # Lengths first, so that `ab, c` and `a, bc` differ.
        total.update(pc.binary_length(values).to_numpy().astype("<i8").tobytes())
        total.update(text_bytes(values))
    return total.hexdigest()


def text_bytes(values: pa.Array) -> memoryview:
    """Return the bytes of all values of a large_string or large_binary array, one after the other."""
    _, offsets, content = values.buffers()
    if not len(values) or content is None:
        return memoryview(b"")
    edges = np.frombuffer(offsets, np.int64)[[values.offset, values.offset + len(values)]]
    return memoryview(content)[edges[0] : edges[1]]


def expand_path(path: Path, pattern: str, what: str) -> list[Path]:
    """List the files that a path stands for: itself, those of a folder, or those a glob finds; in the order of names.

    Args:
        path: of a file or folder, or a glob.
        pattern: of the files of a folder.
        what: is expected, for the message.

    Raises:
        DataError: there is none.
    """
    if path.is_dir():
        files = sorted(path.glob(pattern))
    elif path.exists() or not _GLOB & set(str(path)):
        files = [path]
    else:
        whole = path.absolute()
        files = sorted(Path(whole.anchor).glob(str(whole.relative_to(whole.anchor))))
    files = [file.absolute() for file in files if file.is_file()]
    if not files:
        raise DataError(f"{path}: expected {what}, a folder of them or a glob, found none; mend the path")
    return files
