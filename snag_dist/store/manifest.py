"""Manifests: what a store and each of its feature tables must contain, written last and checked on opening.

A folder without a manifest is a job that did not finish. A manifest lists every file with its size and
sha256; the sizes are compared whenever a store is opened, the hashes by `Store.verify`. The **fingerprint**
is of the content (keys in row order, triples in stored order), not of the bytes of Parquet: two ingests of
the same graph under the same seed have the same one on any machine, and a run or a feature table made for one
store is refused by another.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from snag_dist.config import Config
from snag_dist.errors import DataError
from snag_dist.names import is_plain, stays_inside
from snag_dist.store.cut_records import CoreRecord, HoldoutRecord
from snag_dist.store.schema import FORMAT_VERSION, MANIFEST, FeatureDtype

_CHUNK_BYTES = 1 << 22


class FileRecord(Config):
    """A file as it was when the manifest was written."""

    num_bytes: int
    """Size."""
    sha256: str
    """Hash of the content, in hexadecimal."""


class StoreManifest(Config):
    """What `manifest.json` of a store holds."""

    format_version: int
    """Version of the layout; a store of another version is refused."""
    fingerprint: str
    """sha256 of the content: seed, keys in row order, triples in stored order, and of two graphs sides and links."""
    identity: str
    """sha256 of the ingest config and of the source files: tells whether a store is the one asked for."""
    seed: int
    """Seed of the permutation from source ids to rows."""
    virtual_shards: int
    """V: number of contiguous row ranges that per-entity files are cut into."""
    num_entities: int
    """E."""
    num_relations: int
    """R."""
    num_triples: dict[str, int]
    """Triples by split, duplicates counted."""
    num_links: int = 0
    """L of two graphs; a store of one graph has none."""
    source: str
    """The source in words: layout and place."""
    core: CoreRecord | None = None
    """What a k-core was cut out of; none where the store was ingested."""
    holdout: HoldoutRecord | None = None
    """What entities were held out of; none where the store has them all."""
    config: dict[str, Any]
    """The ingest config, as a plain tree; of a part that of its parent."""
    licence: str
    """Licence of the data, as the user stated it."""
    audit: dict[str, Any]
    """Headline numbers of the audit; the whole of it lies in audit.json."""
    versions: dict[str, str]
    """Versions of the libraries that wrote the files."""
    files: dict[str, FileRecord]
    """Every other file of the store, features apart, by path relative to it."""


class EncoderRecord(Config):
    """Which model turned raw data into vectors."""

    name: str
    """As configured: kind, and model or parameters."""
    revision: str
    """Hub revision or version of the library that defines the encoder."""
    weights_sha256: str
    """Hash over the model's files; of the parameters where an encoder has no weights."""


class FeatureManifest(Config):
    """What `features/<modality>/manifest.json` holds."""

    format_version: int
    """Version of the layout."""
    modality: str
    """Name of the modality, as the recipe has it."""
    store_fingerprint: str
    """Fingerprint of the store whose rows these are."""
    identity: str
    """sha256 of the feature config, the source files and the encoder's weights."""
    fingerprint: str
    """sha256 of the content: presence and vectors in row order."""
    width: int
    """F: numbers in a vector."""
    dtype: FeatureDtype
    """Type of the stored numbers."""
    num_entities: int
    """E of the store."""
    num_present: int
    """Entities that have the modality."""
    num_problems: int
    """Items that gave no vector; problems.parquet lists them with their reasons."""
    num_unknown_keys: int
    """Keys of the source that the store does not know; their vectors were not used."""
    unknown_keys: tuple[str, ...]
    """The first of them, in the order of the source."""
    source: str
    """The source in words."""
    encoder: EncoderRecord
    """Which model made the vectors."""
    config: dict[str, Any]
    """The feature config, as a plain tree."""
    files: dict[str, FileRecord]
    """Every other file of the table, by path relative to its folder."""

    @property
    def coverage(self) -> float:
        """Share of the entities that have the modality, in [0, 1]."""
        return self.num_present / self.num_entities


class MissingManifest(Config):
    """What `missing/<overlay>/manifest.json` holds."""

    format_version: int
    """Version of the layout."""
    modality: str
    """Name of the modality that entities lose."""
    store_fingerprint: str
    """Fingerprint of the store."""
    base_fingerprint: str
    """Fingerprint of the feature table that the overlay lies over."""
    ratio: float
    """Share of the counted entities that was to keep the modality."""
    reached: float
    """Share that keeps it; lower than asked where fewer had it from the start."""
    seed: int
    """Of who loses it."""
    among: str
    """Who is counted: entities with a link ("linked"), or all."""
    num_counted: int
    """Entities the ratio is a share of."""
    num_kept: int
    """Entities among them that keep the modality."""
    num_dropped: int
    """Entities that lose it."""
    num_present: int
    """Entities of the store that have it after that."""
    dropped_sha256: str
    """Hash of the rows that lose it, ascending, as little-endian int64."""
    files: dict[str, FileRecord]
    """Every other file of the overlay, by path relative to its folder."""


class TruthManifest(Config):
    """What `known_true/<splits>/manifest.json` holds."""

    format_version: int
    """Version of the layout."""
    identity: str
    """sha256 of the store's fingerprint and of the splits."""
    splits: tuple[str, ...]
    """Whose triples the index holds."""
    num_triples: int
    """Distinct triples in it."""
    versions: dict[str, str]
    """Versions of the libraries that wrote the files."""
    files: dict[str, FileRecord]
    """Every other file of the index, by path relative to its folder."""


Manifest = StoreManifest | FeatureManifest | MissingManifest | TruthManifest
ManifestT = TypeVar("ManifestT", StoreManifest, FeatureManifest, MissingManifest, TruthManifest)


def hash_file(path: Path) -> str:
    """Return the sha256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_tree(tree: Any) -> str:
    """Return the sha256 of a plain tree, the same whatever the order of its keys."""
    return hashlib.sha256(json.dumps(tree, sort_keys=True, default=str).encode()).hexdigest()


def hash_sources(paths: Iterable[Path]) -> dict[str, str]:
    """Return the sha256 of each source file, by its path."""
    return {str(path): hash_file(path) for path in paths}


def record_files(folder: Path, *, skip: Iterable[str] = ()) -> dict[str, FileRecord]:
    """Describe every file below a folder, the manifest apart.

    Args:
        skip: names of entries of the folder that are left out, with all they hold.
    """
    left_out = {MANIFEST, *skip}
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    relative = [path.relative_to(folder) for path in paths]
    return {
        name.as_posix(): FileRecord(num_bytes=path.stat().st_size, sha256=hash_file(path))
        for path, name in zip(paths, relative, strict=True)
        if name.parts[0] not in left_out
    }


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a manifest so that it is there whole or not at all."""
    write_json(folder / MANIFEST, manifest.model_dump(mode="json"))


def sync(path: Path) -> None:
    """Wait until a file or folder is on its disk, so that it outlives the machine."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Lend a name beside a file to write to; it takes the file's place at the end, and nothing of it stays on an error.

    The content is on the disk before the name is, so that a machine that loses its power leaves the file whole.

    Raises:
        OSError: of the system, always with a name; a full disk is told without one.
    """
    # Of this process: another one may be replacing the same file.
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        sync(partial)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        error.filename = error.filename or str(path)
        raise


def write_json(path: Path, tree: Mapping[str, Any]) -> None:
    """Write a tree as JSON beside its place, then rename it into it."""
    with replacing(path) as partial, partial.open("w", encoding="utf-8") as file:
        json.dump(tree, file, indent=1, ensure_ascii=False, default=str)
        file.write("\n")


def read_manifest(folder: Path, kind: type[ManifestT], *, remedy: str) -> ManifestT:
    """Read a manifest and compare the sizes of all files it lists.

    Args:
        folder: of the store, or of one feature table.
        kind: which manifest is expected.
        remedy: how to make the folder anew; it ends the messages.

    Raises:
        DataError: the manifest is missing, is not one, or has another format version; it names what lies outside the
            folder; a file is missing or has another size.
    """
    path = folder / MANIFEST
    if not path.is_file():
        what = "an unfinished folder" if folder.is_dir() else "no such folder"
        raise DataError(f"{path}: expected a manifest, found none ({what}); {remedy}")
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        version = tree["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: expected the manifest of a store, got {error!r}; {remedy}") from error
    if version != FORMAT_VERSION:
        raise DataError(f"{path}: expected format version {FORMAT_VERSION}, got {version}; {remedy}")
    try:
        manifest = kind.model_validate(tree)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{path}: field {field}: {first['msg']}; {remedy}") from error
    _check_names(manifest, path, remedy)
    for name, record in manifest.files.items():
        file = folder / name
        size = file.stat().st_size if file.is_file() else None
        if size != record.num_bytes:
            found = "none" if size is None else f"{size} bytes"
            raise DataError(f"{file}: expected {record.num_bytes} bytes, found {found}; {remedy}")
    return manifest


def _check_names(manifest: Manifest, path: Path, remedy: str) -> None:
    outside = [name for name in manifest.files if not stays_inside(name)]
    if outside:
        raise DataError(f"{path}: files: expected paths below the folder, got {outside[0]!r}; {remedy}")
    splits = manifest.num_triples if isinstance(manifest, StoreManifest) else ()
    strange = [split for split in splits if not is_plain(split)]
    if strange:
        raise DataError(f"{path}: num_triples: expected plain names of splits, got {strange[0]!r}; {remedy}")


def hash_source(path: Path) -> str:
    """Hash a file of the user.

    Raises:
        DataError: it is not there.
    """
    if not path.is_file():
        raise DataError(f"{path}: expected a file, found none; mend the path")
    return hash_file(path)


def verify_files(folder: Path, files: Mapping[str, FileRecord], *, remedy: str) -> None:
    """Hash every file anew and compare.

    Raises:
        DataError: naming the first file whose content has changed.
    """
    for name, record in files.items():
        found = hash_file(folder / name)
        if found != record.sha256:
            # A digest that was damaged itself may begin alike.
            length = 12 if found[:12] != record.sha256[:12] else None
            raise DataError(
                f"{folder / name}: expected sha256 {record.sha256[:length]}, found {found[:length]}: "
                f"the file was changed; {remedy}"
            )
