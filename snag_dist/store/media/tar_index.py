"""The members of a tar shard, by its headers: where the content of each begins, and how long it is.

A shard comes from anywhere, so one that could lead out of itself is refused whole, and no header makes more be read
than there is.
"""

import re
import tarfile
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import IO, cast

import pyarrow as pa

from snag_dist.errors import DataError

MEMBER = pa.schema([("member", pa.large_string()), ("offset", pa.int64()), ("size", pa.int64())])
"""A member of a shard: its name, where its content begins, and how long it is."""
UNDECODABLE = "\ufffd"
"""Stands in a member's name for bytes that are not UTF-8."""

_MEMBERS_PER_CHUNK = 8192
# Headers hold names; none honest is longer.
_MAX_HEADER_BYTES = 1 << 20
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_COMPRESSED_SUFFIXES = frozenset({".tgz", ".tbz2", ".txz", ".tzst"})
_KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
}
_REWRITE = "the shard is truncated or damaged, so write or fetch it again"
_UNPACK = "a picture is read as a range of its shard, so uncompress it (pictures hardly shrink)"


def index_shard(path: Path) -> pa.Table:
    """List the members of a shard by their headers.

    Args:
        path: of a plain tar; long names may be GNU's or PAX's.

    Returns:
        Table of schema `MEMBER` in the order of the tar; folders are left out, and bytes of a name that are not
            UTF-8 are replaced by `UNDECODABLE`.

    Raises:
        DataError: the tar is compressed, truncated or no tar; or a member has an absolute path or `..` in it, is
            neither a file nor a folder, or is sparse. Nothing is read from such a shard.
    """
    chunks = [MEMBER.empty_table()]
    rows: list[tuple[str, int, int]] = []
    num_bytes = path.stat().st_size
    with path.open("rb") as file:
        _refuse_foreign(path, file.read(tarfile.BLOCKSIZE))
        file.seek(0)
        for member in _headers(path, file, num_bytes):
            if _check_member(path, member, num_bytes):
                rows.append((_shown(member.name), member.offset_data, member.size))
            if len(rows) == _MEMBERS_PER_CHUNK:
                chunks.append(_pack(rows))
                rows = []
    return pa.concat_tables([*chunks, _pack(rows)] if rows else chunks)


def _pack(rows: list[tuple[str, int, int]]) -> pa.Table:
    columns = zip(*rows, strict=True)
    arrays = [pa.array(values, field.type) for values, field in zip(columns, MEMBER, strict=True)]
    return pa.Table.from_arrays(arrays, schema=MEMBER)


class _HeaderFile:
    """What tarfile reads headers from: a file of which a header cannot claim more than headers are long."""

    def __init__(self, file: BufferedReader, num_bytes: int) -> None:
        self._file = file
        self._num_bytes = num_bytes

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._file.read(size)

    def seek(self, position: int) -> int:
        if not 0 <= position <= self._num_bytes:
            raise tarfile.ReadError(f"a header that leads to byte {position} of {self._num_bytes}")
        return self._file.seek(position)

    def tell(self) -> int:
        return self._file.tell()


def _headers(path: Path, file: BufferedReader, num_bytes: int) -> Iterator[tarfile.TarInfo]:
    """Read the headers of a tar one after the other, and check that they end as a tar ends."""
    previous = -1
    try:
        source = cast("IO[bytes]", _HeaderFile(file, num_bytes))
        with tarfile.TarFile(fileobj=source, encoding="utf-8", errors="surrogateescape") as tar:
            while (member := tar.next()) is not None:
                if member.offset <= previous or member.size < 0:
                    raise tarfile.ReadError(f"a header at byte {member.offset} that leads back")
                previous = member.offset
                yield member
                # Else every header of the shard stays in memory.
                tar.members = []  # pyright: ignore[reportAttributeAccessIssue]
            source.seek(tar.offset)
            mark = source.read(tarfile.BLOCKSIZE)
    # Numbers that are none are a ValueError; chained long-name headers recurse.
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        raise DataError(f"{path}: expected a whole tar, got: {error}; {_REWRITE}") from error
    if mark != bytes(tarfile.BLOCKSIZE):
        raise DataError(f"{path}: expected a whole tar, got one without the blocks that end it; {_REWRITE}")


def _refuse_foreign(path: Path, start: bytes) -> None:
    if not start:
        raise DataError(f"{path}: expected a tar, got an empty file; {_REWRITE}")
    for magic, name in _COMPRESSED.items():
        if start.startswith(magic):
            raise DataError(f"{path}: expected a plain tar, got one compressed with {name}; {_UNPACK}")


def refuse_compressed(folder: Path) -> None:
    """Refuse a folder with compressed tars, which would else be passed over.

    Raises:
        DataError: naming the first.
    """
    for path in sorted(folder.iterdir()):
        suffixes = path.suffixes[-2:]
        if path.suffix.lower() in _COMPRESSED_SUFFIXES or (len(suffixes) == 2 and suffixes[0].lower() == ".tar"):
            raise DataError(f"{path}: expected plain .tar shards, got a compressed one; {_UNPACK}")


def _check_member(path: Path, member: tarfile.TarInfo, num_bytes: int) -> bool:
    """Return whether a member is a file; refuse what could lead out of the tar, or is not one range of it."""
    where = f"{path} member {_shown(member.name)}"
    if member.name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", member.name):
        raise DataError(f"{where}: expected a relative path without '..'; write the shard again with plain names")
    if member.isdir():
        return False
    if not member.isreg():
        kind = _KINDS.get(member.type, f"an entry of type {member.type!r}")
        raise DataError(f"{where}: expected a file, got {kind}; write the shard again with the file itself")
    if member.issparse():
        raise DataError(f"{where}: expected a plain file, got a sparse one; write the shard without --sparse")
    if member.offset_data + member.size > num_bytes:
        raise DataError(f"{where}: expected {member.size} bytes, but the shard ends before; {_REWRITE}")
    return True


def _shown(name: str) -> str:
    return name.encode(errors="surrogateescape").decode(errors="replace")
