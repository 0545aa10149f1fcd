"""Some entities of a store, as a store of its own inside it.

The entities that are cut out stay with the triples of every split between them, all relations, and the vectors of every
modality. Rows are drawn anew by the seed of the store, so the graph is the one that ingest would make of them alone.
Splits are kept: what is test in the whole is test in the cut, or not in it.

Vectors are copied as they are, bags of relations too; what the audit found is of the whole.
"""

import importlib.metadata
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from snag_dist.errors import ConfigError, DataError
from snag_dist.store.encoders import ResolvedEncoder
from snag_dist.store.feature_table import FeatureTable, finish
from snag_dist.store.fingerprint import fingerprint_graph
from snag_dist.store.manifest import StoreManifest, hash_tree, record_files, write_manifest
from snag_dist.store.modality import Modality
from snag_dist.store.opened import Store, open_store, read_table, rows_of_source_ids
from snag_dist.store.parts import PartMaker, PartPlan
from snag_dist.store.reuse import CopySpec, rows_with_vectors
from snag_dist.store.schema import AUDIT, ENTITIES, ENTITY_SCHEMA, FORMAT_VERSION, RELATIONS, TRIPLE_SCHEMA, TRIPLES

_LOG = logging.getLogger(__name__)
_OUTSIDE = -1


@dataclass(frozen=True)
class Cut:
    """Which entities of a store become a store of their own.

    Attributes:
        place: folder, below that of the store.
        choice: what was chosen, as plain values: with the store's fingerprint it tells one cut from another.
        members: gives (E,) which entities; called where the cut has to be made.
        title: what the entities are, for the source in the manifest.
        record: fields of the manifest that are the cut's own.
    """

    place: Path
    choice: tuple[Any, ...]
    members: Callable[[], NDArray[np.bool_]]
    title: str
    record: Mapping[str, Any]


def refuse_pair(store: Store) -> None:
    """Refuse a store of two graphs.

    Raises:
        ConfigError: it is one.
    """
    if store.manifest.num_links:
        raise ConfigError(
            f"{store.path}: expected a store of one graph, got two with links: a part of it would draw its train and "
            "dev links anew, among those that are test in the whole; use the whole store"
        )


def make_cut(store: Store, cut: Cut) -> Store:
    """Open a cut if it is there, else make it beside its place.

    Raises:
        DataError: no entity of the cut has one of the modalities, or a file of the store is damaged.
    """
    there = open_cut(store, cut)
    if there is not None:
        return there
    folder = store.path / cut.place
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        num = _write_graph(store, cut, partial)
        _copy_features(store, open_store(partial))
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    _LOG.info("%s: %d of %d entities (%.1f %%)", folder, num, store.num_entities, 100 * num / store.num_entities)
    return open_store(folder)


def find_cut(store: Store, cut: Cut) -> Store:
    """Open a cut that was made before, and write nothing.

    Raises:
        DataError: it is not there, is of something else, or is damaged.
    """
    folder = store.path / cut.place
    there = open_store(folder)
    if there.manifest.identity != _identity(store, cut):
        raise DataError(
            f"{folder}: expected {cut.title} of {store.path}, found those of another store; start the run again"
        )
    return there


def open_cut(store: Store, cut: Cut) -> Store | None:
    """Open a cut that is there, and add what the store has got since; None where it must be made."""
    folder = store.path / cut.place
    if not folder.exists():
        return None
    try:
        there = open_store(folder)
    except DataError as error:
        _LOG.info("%s: made anew: %s", folder, error)
        return None
    if there.manifest.identity != _identity(store, cut):
        return None
    _copy_features(store, there)
    return there


def _identity(store: Store, cut: Cut) -> str:
    return hash_tree([*cut.choice, store.fingerprint])


def _write_graph(store: Store, cut: Cut, folder: Path) -> int:
    parent, rows = store.manifest, store.rows_of_source_ids
    kept = rows[cut.members()[rows]]
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
        identity=_identity(store, cut),
        seed=parent.seed,
        virtual_shards=parent.virtual_shards,
        num_entities=len(kept),
        num_relations=parent.num_relations,
        num_triples=num_triples,
        source=f"{cut.title} of {parent.source}",
        config=parent.config,
        licence=parent.licence,
        audit=parent.audit,
        versions={name: importlib.metadata.version(name) for name in ("snag-dist", "pyarrow")},
        files=record_files(folder),
        **cut.record,
    )
    write_manifest(folder, manifest)
    return len(kept)


def _write_split(store: Store, split: str, row_of_parent: NDArray[np.int64], folder: Path) -> int:
    """Write the triples of a split with both ends in the cut, file by file; return their number."""
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


def _copy_features(store: Store, part: Store) -> None:
    """Copy every modality that the cut lacks, or has of a table that was extracted anew since."""
    for name in store.modalities():
        base = store.feature(name)
        identity = hash_tree(["cut", base.fingerprint])
        if name in part.modalities() and part.feature(name).identity == identity:
            continue
        plan = PartPlan(
            part.feature_folder(name).with_name(f"{name}.cut.partial"),
            base.dtype,
            part.num_entities,
            part.virtual_shards,
        )
        modality = _modality(store, part, name)
        shutil.rmtree(plan.folder, ignore_errors=True)
        try:
            maker = PartMaker(plan, CopySpec(store.path, name))
            for block in plan.blocks(modality.rows, modality.payload):
                maker(block)
            finish(FeatureTable(part, name, base.dtype, base.config, identity, modality, plan))
        finally:
            shutil.rmtree(plan.folder, ignore_errors=True)


def _modality(store: Store, part: Store, name: str) -> Modality:
    base, parent_row = store.feature(name), rows_with_vectors(part, store, name)
    rows = np.flatnonzero(parent_row >= 0)
    if not len(rows):
        raise DataError(
            f"{store.feature_folder(name)}: expected entities of the part that have it, found none of "
            f"{part.num_entities}; take a larger part, or leave the modality out of the store"
        )
    keys = part.entities()["key"]
    return Modality(
        rows=rows,
        payload=pa.array(parent_row[rows]),
        encoder=ResolvedEncoder(CopySpec(store.path, name), base.encoder, items_per_actor=1),
        place=lambda index: f"{store.feature_folder(name)}: entity {keys[int(rows[index])].as_py()!r}",
        source=base.source,
    )
