"""Whether what a run reads of a store is still what was written: sha256 of the files, before the first step.

Opening a store compares sizes alone; a byte that a disk or a copy has changed would be trained on in silence.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from snag_dist.store.manifest import FileRecord, verify_files
from snag_dist.store.missing import MissingConfig, open_overlay
from snag_dist.store.opened import Store
from snag_dist.store.schema import STATISTICS, presence_file, shard_file

_COPY = "restore the file from a copy, or "
_REMAKE = _COPY + "remove the store and make it anew with jobs/ingest.py"
_REMAKE_FEATURES = _COPY + "remove the folder of the modality and extract it again with jobs/extract.py"
_REMAKE_OVERLAY = _COPY + "remove the folder of the overlay and make it again with jobs/ingest.py"


def verify_read_files(
    store: Store,
    modalities: Iterable[str],
    missing: Mapping[str, MissingConfig],
    shards: Iterable[int],
    *,
    shared: bool,
) -> None:
    """Hash the files that a worker reads, and compare them with the manifests.

    Costs one reading of the files and sha256 over them: 1 to 2 GB/s on a core of its own (0.5 measured where the core
    was shared). What is read stays in the page cache, where training finds it.

    Args:
        store: opened.
        modalities: that the run uses.
        missing: overlays over them, by modality; made before.
        shards: virtual shards whose vectors the worker maps.
        shared: also what all workers read: graph, links, statistics. Once a node is enough.

    Raises:
        DataError: naming the first file that was changed, or see `Store.feature` and `open_overlay`.
    """
    if shared:
        verify_files(store.path, store.manifest.files, remedy=_REMAKE)
    shards = list(shards)
    presence, vectors = map(presence_file, shards), map(shard_file, shards)
    names = {*presence, *vectors, *([STATISTICS] if shared else [])}
    for modality in modalities:
        table = store.feature(modality).files
        _verify_some(store.feature_folder(modality), table, names, _REMAKE_FEATURES)
        if modality in missing:
            folder, overlay = open_overlay(store, modality, missing[modality])
            _verify_some(folder, overlay.files, names, _REMAKE_OVERLAY)


def _verify_some(folder: Path, files: Mapping[str, FileRecord], names: set[str], remedy: str) -> None:
    verify_files(folder, {name: record for name, record in files.items() if name in names}, remedy=remedy)
