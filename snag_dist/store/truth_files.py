"""The known-true index of a store whose triples are not held: made out of core once, then mapped by everyone.

It lies in the store, `known_true/<splits>/`, and says which store it was made of: one that was made of another, is
damaged or was never finished is made anew. Several processes may want it at once; each makes it under a name of its
own, and the first that is done gives it its place.
"""

import errno
import importlib.metadata
import logging
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snag_dist.errors import DataError
from snag_dist.kg.truth import Side, TruthIndex, refuse_foreign
from snag_dist.store.answer_runs import RECORDS_AT_A_TIME, Records, map_side, write_side
from snag_dist.store.holdout import NewEntities
from snag_dist.store.manifest import (
    TruthManifest,
    hash_tree,
    read_manifest,
    record_files,
    sync,
    verify_files,
    write_manifest,
)
from snag_dist.store.opened import Store
from snag_dist.store.schema import FORMAT_VERSION, KNOWN_TRUE, MANIFEST

_LOG = logging.getLogger(__name__)
_REMEDY = "start the command again, which makes it anew"
_BY_HEAD, _BY_TAIL = "by_head", "by_tail"

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class TruthPlace:
    """Which triples an index holds, and where its files lie.

    Attributes:
        folder: of the files.
        identity: sha256 of what it is made of.
        splits: whose triples it holds.
        num_entities, num_relations: E and R.
        triples: goes through the triples, (n, 3) int64 at a time; called twice.
    """

    folder: Path
    identity: str
    splits: tuple[str, ...]
    num_entities: int
    num_relations: int
    triples: Callable[[], Iterator[Ids]]


def truth_of_splits(store: Store, splits: Sequence[str]) -> TruthPlace:
    """Describe the index of some splits of a store, in the order given."""
    return TruthPlace(
        folder=store.path / KNOWN_TRUE / "+".join(splits),
        identity=hash_tree(["known true", store.fingerprint, *splits]),
        splits=tuple(splits),
        num_entities=store.num_entities,
        num_relations=store.num_relations,
        triples=lambda: (piece for split in splits for piece in store.iter_triples(split)),
    )


def truth_of_new(store: Store, new: NewEntities) -> TruthPlace:
    """Describe the index of all splits of a whole store, in the ids that known and new entities have together.

    Args:
        store: without the new entities; the files lie in it.
        new: held out of it.
    """
    return TruthPlace(
        folder=store.path / KNOWN_TRUE / "with_new",
        # The store without them tells who was held out.
        identity=hash_tree(["known true with new", new.whole.fingerprint, store.fingerprint, *new.splits]),
        splits=new.splits,
        num_entities=new.whole.num_entities,
        num_relations=new.whole.num_relations,
        triples=lambda: new.iter_triples(*new.splits),
    )


def make_truth(place: TruthPlace, *, verify: bool, records_at_a_time: int = RECORDS_AT_A_TIME) -> None:
    """Make an index, unless it is there and whole. One process does so; workers, which are many, find it.

    Args:
        place: what it holds, and where.
        verify: hash the files of one that is there, and make it anew where they were changed.
        records_at_a_time: see `RECORDS_AT_A_TIME`.

    Raises:
        DataError: a triple is not of the graph, or a file of the store is damaged.
    """
    if _is_whole(place, verify):
        return
    _remove_remains(place.folder)
    partial = _partial_name(place.folder)
    try:
        partial.mkdir(parents=True)
        num = _write(place, partial, records_at_a_time)
        _put(partial, place, verify)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    _LOG.info("%s: %d distinct triples, sorted out of core", place.folder, num)


def open_truth(place: TruthPlace) -> TruthIndex:
    """Map an index that was made before.

    Raises:
        DataError: it is not there, is of something else, or is damaged.
    """
    manifest = read_manifest(place.folder, TruthManifest, remedy=_REMEDY)
    if manifest.identity != place.identity:
        raise DataError(
            f"{place.folder / MANIFEST}: expected the known-true index of {place.identity[:12]}, found that of "
            f"{manifest.identity[:12]}: the store is another one; {_REMEDY}"
        )
    by_head, by_tail = (_map(place, name) for name in (_BY_HEAD, _BY_TAIL))
    return TruthIndex(place.num_entities, place.num_relations, by_head, by_tail)


def _map(place: TruthPlace, name: str) -> Side:
    try:
        return map_side(place.folder / name, place.num_entities)
    except ValueError as error:
        raise DataError(f"{place.folder / name}: expected a known-true index, got: {error}; {_REMEDY}") from error


def _is_whole(place: TruthPlace, verify: bool) -> bool:
    if not place.folder.exists():
        return False
    try:
        open_truth(place)
        if verify:
            files = read_manifest(place.folder, TruthManifest, remedy=_REMEDY).files
            verify_files(place.folder, files, remedy=_REMEDY)
    except DataError as error:
        _LOG.info("%s: made anew: %s", place.folder, error)
        return False
    return True


def _write(place: TruthPlace, folder: Path, records_at_a_time: int) -> int:
    """Write both sides, one after the other, and the manifest; return the number of distinct triples."""
    for name in (_BY_HEAD, _BY_TAIL):
        records = _records(place, by_head=name == _BY_HEAD)
        write_side(records, folder / name, place.num_entities, folder / "scratch", records_at_a_time)
    files = record_files(folder)
    for name in files:
        sync(folder / name)
    num = len(map_side(folder / _BY_HEAD, place.num_entities).codes)
    manifest = TruthManifest(
        format_version=FORMAT_VERSION,
        identity=place.identity,
        splits=place.splits,
        num_triples=num,
        versions={name: importlib.metadata.version(name) for name in ("snag-dist", "numpy")},
        files=files,
    )
    write_manifest(folder, manifest)
    return num


def _records(place: TruthPlace, *, by_head: bool) -> Iterator[Records]:
    first = 0
    for triples in place.triples():
        refuse_foreign(triples, place.num_entities, place.num_relations, first)
        known, answers = (triples[:, 0], triples[:, 2]) if by_head else (triples[:, 2], triples[:, 0])
        yield Records(known * place.num_relations + triples[:, 1], answers)
        first += len(triples)


def _put(partial: Path, place: TruthPlace, verify: bool) -> None:
    """Give a finished folder its place, unless another process was faster; what is damaged there goes."""
    aside = _partial_name(place.folder, ".damaged")
    while not _is_whole(place, verify):
        try:
            if place.folder.exists():
                # Renamed before it is removed, so that nobody finds half of it.
                place.folder.rename(aside)
                shutil.rmtree(aside, ignore_errors=True)
            partial.rename(place.folder)
        except OSError as error:
            # Another process has moved the damaged one, or put its own there, since we looked.
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
                raise


def _partial_name(folder: Path, what: str = "") -> Path:
    return folder.with_name(f"{folder.name}.{socket.gethostname()}{what}.{os.getpid()}.partial")


def _remove_remains(folder: Path) -> None:
    """Remove what processes of this host left that were killed, and this one before."""
    for left in folder.parent.glob(f"{folder.name}.{socket.gethostname()}*.partial"):
        pid = left.name.removesuffix(".partial").rpartition(".")[2]
        if pid.isdigit() and (int(pid) == os.getpid() or not _is_alive(int(pid))):
            shutil.rmtree(left, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
