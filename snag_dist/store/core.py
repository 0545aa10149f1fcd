"""The k-core of a store, as a store of its own inside it: `cores/k-<k>/`.

Entities with at least k training triples among themselves stay, with the triples of every split between them, all
relations, and the vectors of every modality. Rows are drawn anew by the seed of the store, so the graph is the one
that ingest would make of the core alone. Splits are kept: what is test in the whole is test in the core, or not in it.

Vectors are copied as they are, bags of relations too; what the audit found is of the whole.
"""

import importlib.metadata
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from snag_dist.errors import ConfigError, DataError
from snag_dist.kg.core import Core, choose_core, find_core
from snag_dist.store.core_record import CoreRecord
from snag_dist.store.encoders import ResolvedEncoder
from snag_dist.store.feature_table import FeatureTable, finish
from snag_dist.store.fingerprint import fingerprint_graph
from snag_dist.store.manifest import StoreManifest, hash_tree, record_files, write_manifest
from snag_dist.store.modality import Modality
from snag_dist.store.opened import Store, open_store, read_table, read_triples, rows_of_source_ids
from snag_dist.store.parts import PartMaker, PartPlan
from snag_dist.store.reuse import CopySpec, rows_with_vectors
from snag_dist.store.schema import (
    AUDIT,
    CORES,
    ENTITIES,
    ENTITY_SCHEMA,
    FORMAT_VERSION,
    RELATIONS,
    TRIPLE_SCHEMA,
    TRIPLES,
)

_LOG = logging.getLogger(__name__)
_OUTSIDE = -1


def core_of_share(store: Store, share: float) -> Store:
    """Return the smallest core of a store that still has a share of its entities, made where it is not there.

    Args:
        store: of one graph.
        share: of the entities, in (0, 1].

    Returns:
        The core of the highest k; the store itself where even the 1-core has fewer entities.

    Raises:
        ConfigError: the store is of two graphs.
        DataError: see `core_of_degree`.
    """
    _refuse_pair(store)
    core = choose_core(lambda: _training_triples(store), store.num_entities, share)
    return _make(store, core) if core.k else store


def core_of_degree(store: Store, k: int) -> Store:
    """Return the k-core of a store, made where it is not there.

    Args:
        store: of one graph.
        k: training triples that every entity has with others of the core, at least 1.

    Raises:
        ConfigError: the store is of two graphs, or no entity is in its k-core.
        DataError: no entity of the core has one of the modalities, or a file of the store is damaged.
    """
    _refuse_pair(store)
    there = _open(store, k)
    if there is not None:
        return there
    core = find_core(lambda: _training_triples(store), store.num_entities, k)
    if not core.num_entities:
        deepest = choose_core(lambda: _training_triples(store), store.num_entities, 1 / store.num_entities)
        raise ConfigError(f"{store.path}: expected k of at most {deepest.k}, the deepest core, got {k}; lower k")
    return _make(store, core)


def _refuse_pair(store: Store) -> None:
    if store.manifest.num_links:
        raise ConfigError(
            f"{store.path}: expected a store of one graph, got two with links: a core would draw its train and dev "
            "links anew, among those that are test in the whole; use the whole store"
        )


def _training_triples(store: Store) -> Iterator[NDArray[np.int64]]:
    return (read_triples([part]) for part in store.triple_parts("train"))


def _make(store: Store, core: Core) -> Store:
    """Open the core if it is there, else make it beside its place."""
    there = _open(store, core.k)
    if there is not None:
        return there
    folder = _folder(store, core.k)
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        _write_graph(store, core, partial)
        _copy_features(store, open_store(partial))
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    _LOG.info("%s: %d of %d entities (%.1f %%)", folder, core.num_entities, store.num_entities, 100 * core.share)
    return open_store(folder)


def _open(store: Store, k: int) -> Store | None:
    """Open a core that is there, and add what the store has got since; None where it must be made."""
    folder = _folder(store, k)
    if not folder.exists():
        return None
    try:
        core = open_store(folder)
    except DataError as error:
        _LOG.info("%s: made anew: %s", folder, error)
        return None
    if core.manifest.identity != _identity(store, k):
        return None
    _copy_features(store, core)
    return core


def _folder(store: Store, k: int) -> Path:
    return store.path / CORES / f"k-{k}"


def _identity(store: Store, k: int) -> str:
    return hash_tree(["core", k, store.fingerprint])


def _write_graph(store: Store, core: Core, folder: Path) -> None:
    parent, rows = store.manifest, store.rows_of_source_ids
    kept = rows[core.members[rows]]
    row_of_kept = rows_of_source_ids(parent.seed, len(kept))
    parent_row = np.empty_like(kept)
    parent_row[row_of_kept] = kept
    row_of_parent = np.full(store.num_entities, _OUTSIDE, dtype=np.int64)
    row_of_parent[kept] = row_of_kept
    entities = store.entities().take(pa.array(parent_row))
    entities = entities.set_column(0, "row", pa.array(np.arange(len(kept))))
    pq.write_table(entities.cast(ENTITY_SCHEMA), folder / ENTITIES)
    for name in (RELATIONS, AUDIT):
        shutil.copyfile(store.path / name, folder / name)
    num_triples = {split: _write_split(store, split, row_of_parent, folder) for split in parent.num_triples}
    manifest = StoreManifest(
        format_version=FORMAT_VERSION,
        fingerprint=fingerprint_graph(
            folder, seed=parent.seed, virtual_shards=parent.virtual_shards, splits=parent.num_triples
        ),
        identity=_identity(store, core.k),
        seed=parent.seed,
        virtual_shards=parent.virtual_shards,
        num_entities=len(kept),
        num_relations=parent.num_relations,
        num_triples=num_triples,
        source=f"{core.k}-core of {parent.source}",
        core=CoreRecord(
            k=core.k,
            parent_fingerprint=parent.fingerprint,
            parent_entities=parent.num_entities,
            parent_triples=parent.num_triples,
        ),
        config=parent.config,
        licence=parent.licence,
        audit=parent.audit,
        versions={name: importlib.metadata.version(name) for name in ("snag-dist", "pyarrow")},
        files=record_files(folder),
    )
    write_manifest(folder, manifest)


def _write_split(store: Store, split: str, row_of_parent: NDArray[np.int64], folder: Path) -> int:
    """Write the triples of a split with both ends in the core, file by file; return their number."""
    written = 0
    for part in store.triple_parts(split):
        table = read_table(part)
        head, tail = (row_of_parent[table[name].to_numpy()] for name in ("head", "tail"))
        inside = (head != _OUTSIDE) & (tail != _OUTSIDE)
        columns = (head, table["relation"].to_numpy(), tail)
        kept = pa.table([pa.array(column[inside]) for column in columns], schema=TRIPLE_SCHEMA)
        path = folder / TRIPLES / split / part.name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(kept, path, compression="zstd")
        written += kept.num_rows
    return written


def _copy_features(store: Store, core: Store) -> None:
    """Copy every modality that the core lacks, or has of a table that was extracted anew since."""
    for name in store.modalities():
        base = store.feature(name)
        identity = hash_tree(["core", base.fingerprint])
        if name in core.modalities() and core.feature(name).identity == identity:
            continue
        plan = PartPlan(
            core.feature_folder(name).with_name(f"{name}.core.partial"),
            base.dtype,
            core.num_entities,
            core.virtual_shards,
        )
        modality = _modality(store, core, name)
        shutil.rmtree(plan.folder, ignore_errors=True)
        try:
            maker = PartMaker(plan, CopySpec(store.path, name))
            for block in plan.blocks(modality.rows, modality.payload):
                maker(block)
            finish(FeatureTable(core, name, base.dtype, base.config, identity, modality, plan))
        finally:
            shutil.rmtree(plan.folder, ignore_errors=True)


def _modality(store: Store, core: Store, name: str) -> Modality:
    base, parent_row = store.feature(name), rows_with_vectors(core, store, name)
    rows = np.flatnonzero(parent_row >= 0)
    if not len(rows):
        raise DataError(
            f"{store.feature_folder(name)}: expected entities of the core that have it, found none of "
            f"{core.num_entities}; take a larger core, or leave the modality out of the store"
        )
    keys = core.entities()["key"]
    return Modality(
        rows=rows,
        payload=pa.array(parent_row[rows]),
        encoder=ResolvedEncoder(CopySpec(store.path, name), base.encoder, items_per_actor=1),
        place=lambda index: f"{store.feature_folder(name)}: entity {keys[int(rows[index])].as_py()!r}",
        source=base.source,
    )
