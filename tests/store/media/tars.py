"""Tars for tests, sound and otherwise."""

import io
import tarfile
from pathlib import Path


def write(path: Path, *members: tuple[str, bytes], format: int = tarfile.PAX_FORMAT) -> Path:
    """Write a tar of files."""
    with tarfile.open(path, "w", format=format) as tar:
        for name, content in members:
            add(tar, name, content)
    return path


def add(tar: tarfile.TarFile, name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, **fields: str) -> None:
    """Add one member, of any kind."""
    member = tarfile.TarInfo(name)
    member.size, member.type = len(content), kind
    for field, value in fields.items():
        setattr(member, field, value)
    tar.addfile(member, io.BytesIO(content))


def patch(path: Path, start: int, field: int, value: bytes) -> None:
    """Overwrite a field of a header and mend the header's checksum."""
    whole = bytearray(path.read_bytes())
    whole[start + field : start + field + len(value)] = value
    header = whole[start : start + 512]
    header[148:156] = b" " * 8
    whole[start + 148 : start + 156] = b"%06o\0 " % sum(header)
    path.write_bytes(whole)
