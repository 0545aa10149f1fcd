"""Pictures as ranges of bytes of files, and what a source lists of them.

A folder's picture is a whole file, a WebDataset member a range of its tar, and one embedded in Parquet a range of a
flat file that it was spooled to. The driver holds these references only; actors read and decode.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Literal

import pyarrow as pa

from snag_dist.errors import DataError

ITEM = pa.struct([("path", pa.large_string()), ("offset", pa.int64()), ("size", pa.int64())])
"""One picture: absolute path of a file, first byte, number of bytes."""

What = Literal["pictures", "texts"]
Problem = tuple[str, str]
"""Where something cannot be used (the first such place), and why."""


def read_item(path: str, offset: int, size: int) -> bytes:
    """Read one picture as it is stored.

    Raises:
        DataError: the file is gone, or shorter than when it was listed.
    """
    with _open(path) as file:
        return _read(file, path, offset, size)


def read_items(items: pa.StructArray) -> Iterator[bytes]:
    """Read (n,) pictures of type `ITEM` one after the other; neighbours in a file open it once.

    Raises:
        DataError: see `read_item`.
    """
    opened: tuple[str, BufferedReader] | None = None
    with ExitStack() as stack:
        for item in items:
            path, offset, size = item["path"].as_py(), item["offset"].as_py(), item["size"].as_py()
            if opened is None or opened[0] != path:
                stack.close()
                opened = path, stack.enter_context(_open(path))
            yield _read(opened[1], path, offset, size)


def _open(path: str) -> BufferedReader:
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise DataError(
            f"{path}: expected the file that was listed, got: {error.strerror}; leave the source alone while it is "
            "read, and start again"
        ) from error


def _read(file: BufferedReader, path: str, offset: int, size: int) -> bytes:
    file.seek(offset)
    content = file.read(size)
    if len(content) != size:
        raise DataError(
            f"{path}: expected {size} bytes from byte {offset}, got {len(content)}: the file was changed since it was "
            "listed; start again"
        )
    return content


@dataclass(frozen=True)
class Listing:
    """The pictures of a source, by key.

    Attributes:
        keys: (n,) large_string, distinct and sorted.
        items: (n,) LargeList of `ITEM`, at least one each, in an order that the source alone decides.
        place: index into `keys` to where its first picture is, for messages.
        source: in words.
        identity: sha256 of what is listed: relative names and sizes of a folder's files, name, size and members of
            tar shards, content of Parquet files. The content of pictures that lie in folders or tars, or that
            Parquet only names, is not hashed: a picture replaced by one of the same size goes unseen.
        problems: what looks like media of an entity and cannot be used.
    """

    keys: pa.LargeStringArray
    items: pa.LargeListArray
    place: Callable[[int], str]
    source: str
    identity: str
    problems: tuple[Problem, ...] = ()

    @property
    def num_items(self) -> int:
        """Return how many pictures there are."""
        return len(self.items.flatten())


@dataclass(frozen=True)
class Texts:
    """The texts of a source, by key; a key whose texts are all empty is not there.

    Attributes:
        keys: (n,) large_string, distinct and sorted.
        texts: (n,) large_string, without blanks at the ends.
        place: index into `keys` to where its first text is, for messages.
        source: in words.
        identity: sha256 of keys and texts.
        problems: what looks like text of an entity and cannot be used.
    """

    keys: pa.LargeStringArray
    texts: pa.LargeStringArray
    place: Callable[[int], str]
    source: str
    identity: str
    problems: tuple[Problem, ...] = ()
