"""From a source to a store: rows for entities by a seeded permutation, triples through Ray Data, the manifest
last.

The store is made in `<path>.partial` and renamed when it is whole; what is wrong with the source is said in
one line, and nothing is left behind.
"""

import importlib.metadata
import logging
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path, PurePath
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from numpy.typing import NDArray
from pydantic import Field, model_validator
from ray.data import SaveMode

from snag_dist.config import Config
from snag_dist.errors import DataError
from snag_dist.kg.audit import AuditConfig, audit
from snag_dist.kg.graph import COLUMNS
from snag_dist.kg.repair import repair_splits
from snag_dist.store.alignment_source import AlignmentConfig, write_pair
from snag_dist.store.findings import Findings
from snag_dist.store.fingerprint import fingerprint_graph
from snag_dist.store.manifest import (
    StoreManifest,
    hash_sources,
    hash_tree,
    read_manifest,
    record_files,
    write_json,
    write_manifest,
)
from snag_dist.store.opened import read_triples, rows_of_source_ids
from snag_dist.store.pipeline import Progress, no_progress
from snag_dist.store.remap import UNKNOWN, PartNames, to_rows
from snag_dist.store.schema import (
    AUDIT,
    ENTITIES,
    ENTITY_SCHEMA,
    FORMAT_VERSION,
    MANIFEST,
    RELATION_SCHEMA,
    RELATIONS,
    TRIPLE_SCHEMA,
    TRIPLES,
    triple_parts,
)
from snag_dist.store.sources import (
    Source,
    SourceConfig,
    collect_graph,
    collect_triples,
    open_source,
    source_files,
    source_of_graph,
)

_LOG = logging.getLogger(__name__)
# Beyond this many triples an audit no longer fits the driver's memory beside everything else.
_LARGEST_AUDIT = 50_000_000


class RepairConfig(Config):
    """Clean splits instead of the published ones."""

    dev_share: float = Field(default=0.05, gt=0.0, lt=1.0)
    """Share of the triples outside test that shall be dev."""
    seed: int = 0
    """Of the draw of dev triples."""


class IngestConfig(Config):
    """How a store is made."""

    source: SourceConfig
    """Where the graph comes from."""
    seed: int = 0
    """Of the permutation from source ids to rows."""
    virtual_shards: int = Field(default=64, ge=1, le=65536)
    """V: row ranges that per-entity files are cut into; at most so many workers can train."""
    triples_per_part: int = Field(default=262_144, ge=1)
    """Triples in a Parquet file of the store, and in a task of the ingest."""
    repair: RepairConfig | None = None
    """Clean splits; none keeps the splits of the source, contaminated or not."""
    audit: AuditConfig = AuditConfig()
    """Thresholds of the audit."""
    licence: str = "not stated"
    """Licence of the data; it goes into the manifest."""

    @model_validator(mode="after")
    def _check_repair(self) -> Self:
        if self.repair is not None and isinstance(self.source, AlignmentConfig):
            raise ValueError(
                "expected no repair beside an alignment source, whose triples are all for training: dev is a share of "
                "the links; remove repair"
            )
        return self


def ingest(config: IngestConfig, path: Path, *, progress: Progress = no_progress) -> StoreManifest:
    """Make a store, or find that it is there already.

    Args:
        config: the source, and how it is stored.
        path: folder of the store, on a file system that all nodes of the cluster share.
        progress: told about triples written.

    Returns:
        The manifest.

    Raises:
        DataError: the source is wrong; or the folder holds something else, or a store of another source or
            config.

    Ray must be initialised.
    """
    path = path.absolute()
    identity = hash_tree([without_places(config.model_dump()), _source_hashes(config)])
    if path.exists():
        return _existing(path, identity)
    partial = path.with_name(f"{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        manifest = _write(config, identity, partial, progress)
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    _LOG.info("store %s: %d entities, %s triples", path, manifest.num_entities, manifest.num_triples)
    return manifest


def without_places(tree: Any) -> Any:
    """Return a plain tree with only the last name of every path, so that moved files stay the same files."""
    if isinstance(tree, Mapping):
        return {key: without_places(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [without_places(value) for value in tree]
    return tree.name if isinstance(tree, PurePath) else tree


def _source_hashes(config: IngestConfig) -> list[str]:
    files = source_files(config.source)
    for file in files:
        if not file.is_file():
            raise DataError(f"{file}: expected a file, found none; check source.folder and the file's name")
    return list(hash_sources(files).values())


def _existing(path: Path, identity: str) -> StoreManifest:
    remedy = "remove the folder, or give store.path another one"
    manifest = read_manifest(path, StoreManifest, remedy=remedy)
    if manifest.identity != identity:
        raise DataError(
            f"{path / MANIFEST}: this store was made from another source or config ({manifest.source}, seed "
            f"{manifest.seed}); {remedy}"
        )
    return manifest


def _write(config: IngestConfig, identity: str, folder: Path, progress: Progress) -> StoreManifest:
    progress("reading the source", 0, 1)
    source = open_source(config.source, config.triples_per_part)
    progress("reading the source", 1, 1)
    source, findings = _examine(config, source)
    rows = rows_of_source_ids(config.seed, len(source.entities.keys))
    _write_keys(source, rows, folder)
    if source.pair is not None:
        write_pair(source.pair, rows, folder)
    _write_triples(source, rows, folder, progress)
    if findings.stored is None and sum(split.num_rows for split in source.splits.values()) <= _LARGEST_AUDIT:
        ids = np.argsort(rows)
        stored = {split: read_triples(triple_parts(folder, split)) for split in source.splits}
        for triples in stored.values():
            triples[:, [0, 2]] = ids[triples[:, [0, 2]]]
        findings = Findings(stored=audit(collect_graph(source, stored), config=config.audit))
    write_json(folder / AUDIT, findings.model_dump(mode="json"))
    manifest = StoreManifest(
        format_version=FORMAT_VERSION,
        fingerprint=fingerprint_graph(
            folder, seed=config.seed, virtual_shards=config.virtual_shards, splits=source.splits
        ),
        identity=identity,
        seed=config.seed,
        virtual_shards=config.virtual_shards,
        num_entities=len(source.entities.keys),
        num_relations=len(source.relations.keys),
        num_triples={split: blocks.num_rows for split, blocks in source.splits.items()},
        num_links=0 if source.pair is None else len(source.pair.links),
        source=source.description,
        config=config.model_dump(mode="json"),
        licence=config.licence,
        audit=findings.summary(),
        versions={name: importlib.metadata.version(name) for name in ("snag-dist", "pyarrow", "ray")},
        files=record_files(folder),
    )
    write_manifest(folder, manifest)
    return manifest


def _examine(config: IngestConfig, source: Source) -> tuple[Source, Findings]:
    """Audit a source that is in memory, and repair it if asked; a repair brings any source into memory."""
    graph = source.graph
    if graph is None:
        if config.repair is None:
            return source, Findings()
        sizes = len(source.entities.keys), len(source.relations.keys)
        graph = collect_graph(
            source, {split: collect_triples(blocks, *sizes) for split, blocks in source.splits.items()}
        )
    report = audit(graph, config=config.audit)
    if config.repair is None:
        return source, Findings(stored=report)
    repaired, changes = repair_splits(graph, dev_share=config.repair.dev_share, seed=config.repair.seed)
    findings = Findings(source=report, repair=changes, stored=audit(repaired, config=config.audit))
    return source_of_graph(repaired, f"{source.description}, repaired", config.triples_per_part), findings


def _write_keys(source: Source, rows: NDArray[np.int64], folder: Path) -> None:
    ids = pa.array(np.argsort(rows))
    num_entities = len(ids)
    graph = np.zeros(num_entities, dtype=np.int8) if source.pair is None else source.pair.graph[ids]
    columns = [
        pa.array(np.arange(num_entities)),
        source.entities.keys.take(ids),
        pa.array(graph),
        source.entities.names.take(ids),
    ]
    pq.write_table(pa.table(columns, schema=ENTITY_SCHEMA), folder / ENTITIES)
    relation_ids = pa.array(np.arange(len(source.relations.keys), dtype=np.int32))
    columns = [relation_ids, source.relations.keys, source.relations.names]
    pq.write_table(pa.table(columns, schema=RELATION_SCHEMA), folder / RELATIONS)


def _write_triples(source: Source, rows: NDArray[np.int64], folder: Path, progress: Progress) -> None:
    map_block = partial(to_rows, rows=ray.put(rows), num_relations=len(source.relations.keys))
    total = sum(blocks.num_rows for blocks in source.splits.values())
    done = 0
    progress("writing triples", done, total)
    for split, blocks in source.splits.items():
        target = folder / TRIPLES / split
        mapped = blocks.dataset.map_batches(map_block, batch_size=None, batch_format="pyarrow")
        # There is nothing to overwrite: the mode is what allows names without Ray's random part.
        mapped.write_parquet(
            str(target),
            filename_provider=PartNames(),
            mode=SaveMode.OVERWRITE,
            schema=TRIPLE_SCHEMA,
            compression="zstd",
        )
        _check_written(triple_parts(folder, split), blocks.num_rows, blocks.explain)
        done += blocks.num_rows
        progress("writing triples", done, total)


def _check_written(parts: list[Path], num_rows: int, explain: Any) -> None:
    written = 0
    for part in parts:
        table = pq.read_table(part)
        for column, name in enumerate(COLUMNS):
            unknown = table[name].index(UNKNOWN).as_py()
            if unknown >= 0:
                raise explain(written + unknown, column)
        written += table.num_rows
    assert written == num_rows, f"Ray Data wrote {written} of {num_rows} triples to {parts[0].parent}"
