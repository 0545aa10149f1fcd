"""Text files by line: read whole columns at once, and name the one line that is wrong.

Lines are numbered from 1, header included, as an editor shows them. Lines end with LF or CRLF and nothing
else: entity names hold other Unicode separators.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snag_dist.errors import DataError

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# 18 digits always fit int64; a longer number is no id.
_MAX_DIGITS = 18


def read_bytes(path: Path) -> bytes:
    """Read a file, without its byte order mark.

    Raises:
        DataError: the file is missing or cannot be read.
    """
    if not path.is_file():
        raise DataError(f"{path}: expected a file, found none; check the folder and the file's name")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    return data.removeprefix(_BYTE_ORDER_MARK)


def read_line_blocks(path: Path, size: int) -> Iterator[tuple[int, bytes]]:
    """Read a file some whole lines at a time, without its byte order mark.

    Args:
        size: bytes in a block; more where one line is longer.

    Yields:
        The number of the block's first line, and the block.

    Raises:
        DataError: the file is missing or cannot be read.
    """
    if not path.is_file():
        raise DataError(f"{path}: expected a file, found none; check the folder and the file's name")
    try:
        with path.open("rb") as file:
            first, mark = 1, _BYTE_ORDER_MARK
            while data := file.read(size):
                data += file.readline() if not data.endswith(b"\n") else b""
                yield first, data.removeprefix(mark)
                first, mark = first + data.count(b"\n"), b""
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error


def decode(path: Path, data: bytes, *, first_line: int = 1) -> str:
    """Decode a file's bytes as UTF-8.

    Args:
        path: named in messages.
        data: whole lines of the file.
        first_line: number of the first of them.

    Raises:
        DataError: a byte is not UTF-8; its line and value are named.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + first_line
        raise DataError(
            f"{path} line {line}: expected UTF-8, got byte 0x{data[error.start]:02x}; convert the file to UTF-8 (iconv)"
        ) from error


def numbered_lines(path: Path, *, skip: int = 0) -> Iterator[tuple[int, str]]:
    """Yield (line number, line without its end) of a UTF-8 file, blank lines left out.

    Args:
        skip: lines at the beginning that are not yielded, but counted.
    """
    for number, line in number_lines(decode(path, read_bytes(path))):
        if number > skip:
            yield number, line


def number_lines(text: str, *, first_line: int = 1) -> Iterator[tuple[int, str]]:
    """Yield (line number, line without its end) of text whose first line has the number given, blank lines left out."""
    for number, line in enumerate(text.split("\n"), start=first_line):
        if line.strip():
            yield number, line.removesuffix("\r")


def read_count_line(path: Path, data: bytes) -> tuple[int, bytes]:
    """Split the count off an OpenKE file.

    Returns:
        The count in the first line, and the bytes after that line.

    Raises:
        DataError: the first line is not one integer.
    """
    first, _, rest = data.partition(b"\n")
    if not _is_id(first.strip()):
        found = first.decode("utf-8", errors="replace").strip()
        raise DataError(
            f"{path} line 1: expected the number of lines that follow, got {shorten(found)}; "
            "an OpenKE file begins with its count"
        )
    return int(first), rest


def read_id_rows(
    path: Path, data: bytes, *, first_line: int, columns: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Parse lines of non-negative integers, as many a line as there are columns.

    About 10 M lines a second: the shape of the lines is checked on the bytes as an array; only a file that is
    wrong is walked line by line.

    Args:
        path: named in messages; the file is not opened.
        data: the lines.
        first_line: number of the first line of `data` in the file.
        columns: names of the columns, e.g. "head tail relation"; their number is the width.

    Returns:
        (T, width) int64 values, and the (T,) number of the line of each row.

    Raises:
        DataError: a line has another number of values, or a value is not a non-negative integer.
    """
    width = len(columns.split())
    rows = _read_clean_rows(data, width)
    if rows is None:
        rows = _read_rows_one_by_one(path, data, first_line, columns)
    values, lines = rows
    return values, lines + first_line


def _read_clean_rows(data: bytes, width: int) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Return (values, line offsets), or None if anything in the bytes is not as it should be."""
    raw = np.frombuffer(data, dtype=np.uint8)
    digit = (raw >= ord("0")) & (raw <= ord("9"))
    newline = raw == ord("\n")
    if not bool((digit | newline | np.isin(raw, np.frombuffer(b" \t\r", dtype=np.uint8))).all()):
        return None
    # +1 where a number begins, -1 just behind its end.
    edges = np.diff(digit.view(np.int8), prepend=0, append=0)
    begins, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    if len(begins) % width or bool((ends - begins > _MAX_DIGITS).any()):
        return None
    lines = np.searchsorted(np.flatnonzero(newline), begins).astype(np.int64, copy=False).reshape(-1, width)
    one_line_a_row = bool((lines[:, 0] == lines[:, -1]).all() and (np.diff(lines[:, 0]) > 0).all())
    if not one_line_a_row:
        return None
    return np.fromstring(data, dtype=np.int64, sep=" ").reshape(-1, width), lines[:, 0]


def _read_rows_one_by_one(
    path: Path, data: bytes, first_line: int, columns: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    width = len(columns.split())
    values: list[list[int]] = []
    lines: list[int] = []
    for offset, line in enumerate(data.split(b"\n")):
        tokens = line.split()
        if not tokens:
            continue
        if len(tokens) != width or not all(_is_id(token) for token in tokens):
            # A file in another encoding is said to be so, not to be malformed.
            found = decode(path, b"\n" * (first_line - 1) + data).split("\n")[first_line - 1 + offset]
            raise DataError(
                f"{path} line {first_line + offset}: expected {width} non-negative integers ({columns}), "
                f"got {shorten(found.strip())}; mend or remove the line"
            )
        values.append([int(token) for token in tokens])
        lines.append(offset)
    return np.array(values, dtype=np.int64).reshape(-1, width), np.array(lines, dtype=np.int64)


def _is_id(token: bytes) -> bool:
    return token.isdigit() and len(token) <= _MAX_DIGITS


def shorten(text: str) -> str:
    """Quote a value for a message: one line, at most 80 characters."""
    quoted = repr(text)
    return quoted if len(quoted) <= 80 else quoted[:77] + "..."
