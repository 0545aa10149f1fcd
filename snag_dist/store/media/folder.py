"""Pictures and texts of entities in a folder.

`<key>/anything.jpg`, `<key>.anything.jpg` and `<key>.jpg` are pictures of `<key>`, side by side; `.txt` is text in the
same way. The name of a subfolder is a key as a whole; of a file it is what stands before the first dot, so a dot of a
key is percent-encoded there (see names.py). Hidden files are left out.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa

from snag_dist.config import Config
from snag_dist.errors import DataError
from snag_dist.store.media.items import Listing, Texts, What
from snag_dist.store.media.listing import Problems, References, column, hash_columns, make_listing, make_texts
from snag_dist.store.media.names import (
    COMPANION_SUFFIXES,
    PICTURE_SUFFIXES,
    decode_key,
    natural_order,
    split_name,
    split_suffix,
)


class FolderConfig(Config):
    """A folder with pictures or texts named after their entities."""

    kind: Literal["folder"] = "folder"
    """Tells this source from the others."""
    path: Path
    """The folder."""
    keys: Literal["key", "id"] = "key"
    """Whether names hold keys of entities, or their ids in the source of the graph."""
    join: str = " "
    """Text between two texts of an entity."""

    def list_pictures(self, scratch: Path) -> Listing:
        """List the pictures, those of a key in natural order: by number, then by name.

        Args:
            scratch: not needed, since the pictures lie in files already.

        Raises:
            DataError: there is no such folder, or a link leads out of it.
        """
        problems = Problems()
        table = _scan(self.path, PICTURE_SUFFIXES, problems)
        return make_listing(
            table,
            lambda path, _: path,
            f"folder {self.path}",
            hash_columns([], column(table, "name"), column(table, "size")),
            problems.lines(),
        )

    def read_texts(self) -> Texts:
        """Read the texts, in UTF-8; several of a key are joined in natural order.

        Raises:
            DataError: there is no such folder, a link leads out of it, or a text is not UTF-8.
        """
        problems = Problems()
        table = _scan(self.path, frozenset({"txt"}), problems)
        paths = column(table, "path")
        return make_texts(
            column(table, "key"),
            (_read_text(Path(path.as_py())) for path in paths),
            join=self.join,
            place=lambda position: paths[position].as_py(),
            source=f"folder {self.path}",
            problems=problems.lines(),
        )

    def identity(self, what: What) -> str:
        """Return the identity of what would be listed.

        Raises:
            DataError: see `list_pictures` and `read_texts`.
        """
        return self.list_pictures(self.path).identity if what == "pictures" else self.read_texts().identity


@dataclass(frozen=True)
class _File:
    """A file below the folder: the undecoded key, what tells it from others of the key, and its entry."""

    key: str
    rest: str
    name: str
    entry: os.DirEntry[str]


def _scan(folder: Path, suffixes: frozenset[str], problems: Problems) -> pa.Table:
    """Return sorted references to the files of some suffixes; `name` is relative to the folder."""
    if not folder.is_dir():
        raise DataError(f"{folder}: expected a folder, found none; mend the path")
    root = folder.absolute()
    references = References()
    for file in _walk(root, problems):
        stem, suffix = split_suffix(file.rest)
        if suffix not in suffixes:
            # Who asks for texts is not told what pictures lie beside them.
            if suffixes == PICTURE_SUFFIXES and suffix not in PICTURE_SUFFIXES | COMPANION_SUFFIXES:
                problems.add(_shown(file.entry.path), f"files with suffix {_shown(suffix)!r} are not read")
            continue
        key = decode_key(file.key)
        if key is None or not _is_text(file.name):
            problems.add(_shown(file.entry.path), "the name is not UTF-8")
        elif not file.entry.is_file():
            kind = "a link to nothing" if file.entry.is_symlink() else "no regular file"
            problems.add(file.entry.path, f"{kind} stands in the place of a picture or text")
        else:
            order = natural_order(stem, file.name)
            references.add(key, order, file.name, file.entry.path, 0, file.entry.stat().st_size)
    return references.table()


def _walk(root: Path, problems: Problems) -> Iterator[_File]:
    real = os.path.realpath(root)
    for entry in _entries(root, real):
        if entry.is_dir():
            for inner in _entries(entry.path, real):
                if inner.is_dir():
                    problems.add(_shown(inner.path), "a folder inside the folder of a key is not read")
                else:
                    rest = inner.name if "." in inner.name else f"{inner.name}."
                    yield _File(entry.name, rest, f"{entry.name}/{inner.name}", inner)
            continue
        parts = split_name(entry.name)
        if parts is None:
            problems.add(_shown(entry.path), "a name without a suffix belongs to no key")
        else:
            yield _File(parts[0], parts[1], entry.name, entry)


def _entries(folder: str | Path, real: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_symlink() and not _is_inside(os.path.realpath(entry.path), real):
                raise DataError(
                    f"{_shown(entry.path)}: expected a file of the folder, got a link that leads out of it, to "
                    f"{_shown(os.path.realpath(entry.path))}; copy the file, or give the folder where it lies"
                )
            yield entry


def _is_inside(path: str, folder: str) -> bool:
    return os.path.commonpath([path, folder]) == folder


def _is_text(name: str) -> bool:
    # A name that is not UTF-8 comes from the system with lone surrogates, which Arrow cannot hold.
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _shown(name: str) -> str:
    return name if _is_text(name) else ascii(name)[1:-1]


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected UTF-8, got {error}; convert the file (iconv)") from error
