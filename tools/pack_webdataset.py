"""Pack a folder of pictures into WebDataset shards.

    python tools/pack_webdataset.py --pictures FOLDER --store STORE --out SHARDS --texts FILE.tsv --column name

One tar for every virtual shard of the store that has media, `shard-00000.tar` and on: an entity's pictures
(`key.0.jpg`, `key.1.jpg`) and text (`key.txt`) side by side, entities by row. `index.json` says what is where. The same
input gives the same bytes. A key is percent-encoded where a member's name cannot hold it, above all dots and slashes.
"""

import io
import json
import shutil
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import typer

from snag_dist.errors import ConfigError, DataError, SnagError
from snag_dist.shard.partition import shard_bounds
from snag_dist.store.manifest import hash_file
from snag_dist.store.media.folder import FolderConfig
from snag_dist.store.media.items import Listing, read_items
from snag_dist.store.media.names import encode_key
from snag_dist.store.modality import match_keys
from snag_dist.store.opened import Store, open_store
from snag_dist.store.sentences import SentenceFileConfig

INDEX = "index.json"
_NUM_SHOWN = 3


@dataclass(frozen=True)
class Media:
    """What is packed: for each row of the store where its pictures and text are, -1 where it has none.

    Attributes:
        store: whose rows.
        listing: of the pictures.
        pictures: (E,) index into `listing.keys`.
        sentences: their texts, if any.
        texts: (E,) index into `sentences`.
        unknown: keys of pictures, and of texts, that the store does not know.
    """

    store: Store
    listing: Listing
    pictures: np.ndarray
    sentences: pa.Array
    texts: np.ndarray
    unknown: tuple[tuple[str, ...], tuple[str, ...]]


def pack(store: Path, pictures: FolderConfig, texts: SentenceFileConfig | None, out: Path) -> dict[str, Any]:
    """Write the shards and their index; all of them, or nothing.

    Args:
        store: whose virtual shards the media are cut by.
        pictures: the folder.
        texts: a tab-separated file with sentences; none packs pictures alone.
        out: folder to make.

    Returns:
        The index.

    Raises:
        ConfigError: `out` is there already.
        DataError: a source or the store is wrong, or no entity has a picture or text.
    """
    if out.exists():
        raise ConfigError(f"{out}: expected a folder to make, got one that is there; remove it, or name another")
    media = _match(open_store(store), pictures, texts)
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        index = _write(media, partial)
        (partial / INDEX).write_text(json.dumps(index, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return index


def _match(store: Store, pictures: FolderConfig, texts: SentenceFileConfig | None) -> Media:
    listing = pictures.list_pictures(Path())
    found = match_keys(store, listing.keys, are_ids=pictures.keys == "id", place=listing.place)
    where = np.full((2, store.num_entities), -1, dtype=np.int64)
    where[0, found.rows] = found.positions
    sentences: pa.Array = pa.array([], pa.large_string())
    unknown_texts: tuple[str, ...] = ()
    if texts is not None:
        read = texts.read_texts()
        matches = match_keys(store, read.keys, are_ids=texts.keys == "id", place=read.place)
        where[1, matches.rows] = matches.positions
        sentences, unknown_texts = read.texts, matches.unknown
    if (where < 0).all():
        raise DataError(
            f"{pictures.path}: expected pictures or texts of entities of {store.path}, found none "
            f"({len(found.unknown)} keys are unknown, e.g. {', '.join(found.unknown[:_NUM_SHOWN])}); compare the keys"
        )
    return Media(store, listing, where[0], sentences, where[1], (found.unknown, unknown_texts))


def _write(media: Media, folder: Path) -> dict[str, Any]:
    store = media.store
    keys = store.entities()["key"]
    bounds = shard_bounds(store.num_entities, store.virtual_shards)
    shards: list[dict[str, Any]] = []
    for shard in range(store.virtual_shards):
        rows = np.arange(bounds[shard], bounds[shard + 1])
        rows = rows[(media.pictures[rows] >= 0) | (media.texts[rows] >= 0)]
        if not len(rows):
            continue
        path = folder / f"shard-{shard:05}.tar"
        num_pictures = 0
        # PAX, which is ustar where names are short, so that any reader takes it.
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
            for row in rows:
                for name, content in _members(media, int(row), encode_key(keys[int(row)].as_py())):
                    _add(tar, name, content)
                    num_pictures += not name.endswith(".txt")
        shards.append(
            {
                "file": path.name,
                "virtual_shard": shard,
                "num_keys": len(rows),
                "num_pictures": num_pictures,
                "num_texts": int((media.texts[rows] >= 0).sum()),
                "num_bytes": path.stat().st_size,
                "sha256": hash_file(path),
            }
        )
    names = ("num_keys", "num_pictures", "num_texts")
    return {
        "store": store.fingerprint,
        "virtual_shards": store.virtual_shards,
        **{name: sum(shard[name] for shard in shards) for name in names},
        "unknown_keys_of_pictures": list(media.unknown[0]),
        "unknown_keys_of_texts": list(media.unknown[1]),
        "problems": [list(problem) for problem in media.listing.problems],
        "shards": shards,
    }


def _members(media: Media, row: int, name: str) -> Iterator[tuple[str, bytes]]:
    position = int(media.pictures[row])
    if position >= 0:
        items = media.listing.items[position].values
        paths = items.field("path").to_pylist()
        for number, (path, content) in enumerate(zip(paths, read_items(items), strict=True)):
            yield f"{name}.{number}{Path(path).suffix.lower()}", content
    if media.texts[row] >= 0:
        yield f"{name}.txt", media.sentences[int(media.texts[row])].as_py().encode()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    # A new TarInfo has no time, owner or group: nothing of this machine enters the shard.
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def main(
    pictures: Annotated[Path, typer.Option(help="Folder with <key>/*.jpg or <key>.0.jpg side by side.")],
    store: Annotated[Path, typer.Option(help="Store whose entities and virtual shards are meant.")],
    out: Annotated[Path, typer.Option(help="Folder to make.")],
    texts: Annotated[Path | None, typer.Option(help="Tab-separated file with a header and a line an entity.")] = None,
    column: Annotated[list[str] | None, typer.Option(help="Column of the text; several are joined.")] = None,
    key_column: Annotated[str, typer.Option(help="Column of the texts' keys or ids.")] = "key",
    keys: Annotated[str, typer.Option(help="Whether names and key column hold keys or ids: key | id.")] = "key",
) -> None:
    """Pack pictures, and texts if asked, into WebDataset shards by virtual shard."""
    if keys not in ("key", "id"):
        raise typer.BadParameter(f"--keys {keys!r}: expected key or id")
    if (texts is None) != (not column):
        raise typer.BadParameter("--texts and --column: expected both or neither; name the columns of the text")
    kind: Literal["key", "id"] = "key" if keys == "key" else "id"
    sentences = None
    if texts is not None:
        sentences = SentenceFileConfig(path=texts, keys=kind, key_column=key_column, columns=tuple(column or ()))
    try:
        index = pack(store, FolderConfig(path=pictures, keys=kind), sentences, out)
    except SnagError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
    shown = {name: value for name, value in index.items() if name.startswith("num_")}
    print(f"{out}: {len(index['shards'])} shards, {json.dumps(shown)}")
    for what in ("pictures", "texts"):
        unknown = index[f"unknown_keys_of_{what}"]
        if unknown:
            some = ", ".join(unknown[:_NUM_SHOWN])
            print(f"{len(unknown)} keys of {what} are not in the store, e.g. {some}; all are in {out / INDEX}")
    for place, reason in index["problems"]:
        print(f"{place}: {reason}")


if __name__ == "__main__":
    typer.run(main)
