"""Pictures and texts of entities in WebDataset shards: plain tars with members `key.0.jpg`, `key.1.jpg`, `key.txt`.

As WebDataset has it, the key is a member's name up to the first dot of its last part, folders included (a leading
`./` apart), and hidden members and those below `__name__` are left out. What a name cannot hold is percent-encoded
(see names.py). Only headers are read to list the pictures; nothing is ever extracted.
"""

# pyarrow.compute makes its functions when it is imported, where a type checker does not see them.
# pyright: reportAttributeAccessIssue=false

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from snag_dist.config import Config
from snag_dist.errors import DataError
from snag_dist.store.media.items import ITEM, Listing, Texts, What, read_items
from snag_dist.store.media.listing import (
    Problems,
    References,
    column,
    expand_path,
    hash_columns,
    make_listing,
    make_texts,
)
from snag_dist.store.media.names import (
    COMPANION_SUFFIXES,
    PICTURE_SUFFIXES,
    decode_key,
    natural_order,
    split_name,
    split_suffix,
)
from snag_dist.store.media.tar_index import MEMBER, UNDECODABLE, index_shard, refuse_compressed

_NUM_THREADS = 8
_MEMBERS_PER_CHUNK = 8192
_META = re.compile(r"__[^/]*__($|/)")


class WebdatasetConfig(Config):
    """Tar shards with members named after their entities."""

    kind: Literal["webdataset"] = "webdataset"
    """Tells this source from the others."""
    path: Path | tuple[Path, ...]
    """A shard, a folder of `.tar` files, a glob, or a list of these."""
    keys: Literal["key", "id"] = "key"
    """Whether names hold keys of entities, or their ids in the source of the graph."""
    folders: Literal["key", "ignore"] = "key"
    """Whether folders in a member's name are part of the key, as in WebDataset, or are ignored."""
    text: str = "txt"
    """Where texts are: `txt` for members `key.txt`, else the name of a field of `key.json`."""
    join: str = " "
    """Text between two texts of an entity."""

    def files(self) -> list[Path]:
        """List the shards.

        Raises:
            DataError: there is none, or one is compressed.
        """
        given = self.path if isinstance(self.path, tuple) else (self.path,)
        found: list[Path] = []
        for path in given:
            if path.is_dir():
                refuse_compressed(path)
            found += expand_path(path, "*.tar", "a tar shard")
        return list(dict.fromkeys(found))

    def list_pictures(self, scratch: Path) -> Listing:
        """List the pictures by the headers of the shards, those of a key by number, then by name.

        Args:
            scratch: not needed, since the pictures lie in files already.

        Raises:
            DataError: see `index_shard`; or a member stands twice.
        """
        files = self.files()
        problems = Problems()
        table = self._references(files, PICTURE_SUFFIXES, problems)
        facts = [f"{file.name} {file.stat().st_size}" for file in files]
        identity = hash_columns(facts, *(column(table, name) for name in ("key", "name", "offset", "size")))
        return make_listing(table, _describe, f"webdataset {self._shown()}", identity, problems.lines())

    def read_texts(self) -> Texts:
        """Read the texts, in UTF-8; several of a key are joined by number, then by name.

        Raises:
            DataError: see `index_shard`; a member stands twice, is not UTF-8, or is no JSON of the kind expected.
        """
        suffix = "txt" if self.text == "txt" else "json"
        problems = Problems()
        table = self._references(self.files(), frozenset({suffix}), problems)
        paths, names = column(table, "path"), column(table, "name")

        def place(position: int) -> str:
            return _describe(paths[position].as_py(), names[position].as_py())

        return make_texts(
            column(table, "key"),
            self._contents(table, place),
            join=self.join,
            place=place,
            source=f"webdataset {self._shown()}: {self.text}",
            problems=problems.lines(),
        )

    def identity(self, what: What) -> str:
        """Return the identity of what would be listed.

        Raises:
            DataError: see `list_pictures` and `read_texts`.
        """
        return self.list_pictures(Path()).identity if what == "pictures" else self.read_texts().identity

    def _shown(self) -> str:
        return ", ".join(map(str, self.path)) if isinstance(self.path, tuple) else str(self.path)

    def _references(self, files: list[Path], suffixes: frozenset[str], problems: Problems) -> pa.Table:
        references = References()
        with ThreadPoolExecutor(_NUM_THREADS) as pool:
            for file, members in zip(files, pool.map(index_shard, files), strict=True):
                self._add_members(references, file, members, suffixes, problems)
        table = references.table()
        _refuse_repeated(table)
        return table

    def _add_members(
        self, references: References, file: Path, members: pa.Table, suffixes: frozenset[str], problems: Problems
    ) -> None:
        for batch in members.to_batches(_MEMBERS_PER_CHUNK):
            columns = (batch.column(name).to_pylist() for name in MEMBER.names)
            for member, offset, size in zip(*columns, strict=True):
                place = f"{file} member {member}"
                folder, slash, base = member.removeprefix("./").rpartition("/")
                if base.startswith(".") or _META.match(member):
                    continue
                if UNDECODABLE in member:
                    problems.add(place, "the name is not UTF-8")
                    continue
                parts = split_name(base)
                if parts is None:
                    problems.add(place, "a name without a suffix belongs to no key")
                    continue
                stem, suffix = split_suffix(parts[1])
                if suffix in suffixes:
                    key = decode_key(parts[0] if self.folders == "ignore" else f"{folder}{slash}{parts[0]}")
                    if key is None:
                        problems.add(place, "the name is not UTF-8")
                    else:
                        references.add(key, natural_order(stem, member), member, str(file), offset, size)
                elif suffixes == PICTURE_SUFFIXES and suffix not in PICTURE_SUFFIXES | COMPANION_SUFFIXES:
                    problems.add(place, f"members with suffix {suffix!r} are not read")

    def _contents(self, table: pa.Table, place: Callable[[int], str]) -> Iterator[str]:
        fields = [column(table, field.name) for field in ITEM]
        items = pa.StructArray.from_arrays(fields, fields=list(ITEM))
        for position, content in enumerate(read_items(items)):
            try:
                text = content.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                raise DataError(f"{place(position)}: expected UTF-8, got {error}; convert the text (iconv)") from error
            yield text if self.text == "txt" else self._field(text, place(position))

    def _field(self, text: str, place: str) -> str:
        try:
            tree = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{place}: expected JSON, got: {error}; mend the member") from error
        value = tree.get(self.text) if isinstance(tree, dict) else None
        if not isinstance(tree, dict) or not isinstance(value, str | None):
            found = type(tree if value is None else value).__name__
            raise DataError(
                f"{place}: expected a JSON object whose field {self.text!r} is text, got {found}; set text to a field "
                "that holds text"
            )
        return value or ""


def _describe(path: str, name: str) -> str:
    return f"{path} member {name}"


def _refuse_repeated(table: pa.Table) -> None:
    """Refuse a name that stands twice in a shard; sorted references have the two side by side."""
    if len(table) < 2:
        return
    first, second = table.slice(0, len(table) - 1), table.slice(1)
    same = [pc.equal(column(first, name), column(second, name)) for name in ("key", "order", "path")]
    repeats = pc.and_(pc.and_(same[0], same[1]), same[2]).index(True).as_py()
    if repeats >= 0:
        raise DataError(
            f"{_describe(table['path'][repeats].as_py(), table['name'][repeats].as_py())}: expected a name once, got "
            "it twice in the shard; write the shard again"
        )
