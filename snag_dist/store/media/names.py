"""Names of files and tar members: which key they belong to, in which order, and whether they are pictures.

A key is the part of a name before its first dot, as WebDataset has it. What a name cannot hold is percent-encoded in
UTF-8 (`Dr%2E_No.0.jpg` is the first picture of `Dr._No`), so a percent sign of a key is written `%25`.
"""

import re
from urllib.parse import unquote_to_bytes

PICTURE_SUFFIXES = frozenset({"jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"})
"""Small letters, without the dot; names may have capitals."""
COMPANION_SUFFIXES = frozenset({"txt", "json"})
"""What lies beside pictures and is no mistake."""

_NUMBER = re.compile("[0-9]+")
_DIGITS = 20
# Characters that end a key or a folder's name, escape others, or do not print.
_ENCODED = re.compile(r"[%./\\\x00-\x1f\x7f]")


def encode_key(key: str) -> str:
    """Write a key so that it can open the name of a file or member."""
    return _ENCODED.sub(lambda match: f"%{ord(match[0]):02X}", key)


def decode_key(name: str) -> str | None:
    """Read the key that a name stands for; None where it is not UTF-8, or nothing.

    A percent sign that no two hexadecimal digits follow stands for itself.
    """
    try:
        key = unquote_to_bytes(name).decode()
    except (UnicodeEncodeError, UnicodeDecodeError):
        return None
    return key or None


def split_name(name: str) -> tuple[str, str] | None:
    """Cut a file's name at its first dot into what names the key and the rest; None where either is missing."""
    stem, dot, rest = name.partition(".")
    return (stem, rest) if stem and dot and rest else None


def split_suffix(rest: str) -> tuple[str, str]:
    """Cut the suffix, in small letters, off the rest of a name: `0.JPG` -> (`0`, `jpg`), `jpg` -> (``, `jpg`)."""
    stem, _, suffix = rest.rpartition(".")
    return stem, suffix.lower()


def natural_order(stem: str, name: str) -> str:
    """Return text that sorts as people count: `2` before `10`, numbers before words, equal ones by whole name.

    Args:
        stem: what tells the pictures of a key apart.
        name: the whole name, which is distinct.
    """
    padded = _NUMBER.sub(lambda match: match[0].zfill(_DIGITS), stem.lower())
    return f"{padded}\0{name}"
