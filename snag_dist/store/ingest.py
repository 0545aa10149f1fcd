"""From a source to a store: rows for entities by a seeded permutation, triples block by block, the manifest last.

The store is made in `<path>.partial` and renamed when it is whole; what is wrong with the source is said in
one line, and nothing is left behind. What is too large to be held lies in a folder of it meanwhile.
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
from pydantic import Field, model_validator

from snag_dist.config import Config
from snag_dist.errors import DataError
from snag_dist.kg.audit import AuditConfig, AuditReport
from snag_dist.kg.graph import Graph
from snag_dist.kg.repair import repair_splits
from snag_dist.store.alignment_source import AlignmentConfig, write_pair
from snag_dist.store.auditing import audit_store
from snag_dist.store.blocks import InOrder, rows_table
from snag_dist.store.findings import Findings
from snag_dist.store.fingerprint import fingerprint_graph
from snag_dist.store.keys import keys_in_order
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
from snag_dist.store.pipeline import Progress, Threads, no_progress, threads
from snag_dist.store.reading import Reading, read_source
from snag_dist.store.schema import (
    AUDIT,
    ENTITIES,
    ENTITY_SCHEMA,
    FORMAT_VERSION,
    MANIFEST,
    RELATION_SCHEMA,
    RELATIONS,
    TRIPLES,
    triple_parts,
)
from snag_dist.store.sources import Source, SourceConfig, open_source, source_files
from snag_dist.store.triple_files import TripleFiles

_LOG = logging.getLogger(__name__)
_SCRATCH = "scratch"


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
    """Triples in a Parquet file of the store, and in a block of the ingest."""
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
    scratch = folder / _SCRATCH
    scratch.mkdir()
    with threads() as pool:
        progress("reading the source", 0, 1)
        source = open_source(config.source, config.triples_per_part)
        reading = read_source(source, config.seed, scratch, pool)
        progress("reading the source", 1, 1)
        sides = None if source.pair is None else source.pair.graph
        keys = pool.later(partial(_write_keys, reading, sides, folder))
        num_triples = _write_triples(source, reading, config.triples_per_part, pool, folder, progress)
        keys.result()
        description = source.description
        if source.pair is not None:
            write_pair(source.pair, rows_of_source_ids(config.seed, reading.rows.num), folder)
        progress("examining the splits", 0, 1)
        findings = Findings()
        if config.repair is not None:
            findings, num_triples = _repair(config, config.repair, reading, num_triples, pool, folder)
            description = f"{description}, repaired"
        # Sorting and hashing, each on a core.
        of_what = {"seed": config.seed, "virtual_shards": config.virtual_shards, "splits": list(num_triples)}
        fingerprint = pool.later(partial(fingerprint_graph, folder, **of_what))
        stored = _audit(config, reading, num_triples, scratch / "audit", folder)
        findings = findings.model_copy(update={"stored": stored})
        progress("examining the splits", 1, 1)
    write_json(folder / AUDIT, findings.model_dump(mode="json"))
    shutil.rmtree(scratch)
    manifest = StoreManifest(
        format_version=FORMAT_VERSION,
        fingerprint=fingerprint.result(),
        identity=identity,
        seed=config.seed,
        virtual_shards=config.virtual_shards,
        num_entities=reading.entities.num,
        num_relations=reading.relations.num,
        num_triples=num_triples,
        num_links=0 if source.pair is None else len(source.pair.links),
        source=description,
        config=config.model_dump(mode="json"),
        licence=config.licence,
        audit=findings.summary(),
        versions={name: importlib.metadata.version(name) for name in ("snag-dist", "pyarrow", "ray")},
        files=record_files(folder),
    )
    write_manifest(folder, manifest)
    return manifest


def _write_keys(reading: Reading, sides: Any, folder: Path) -> None:
    rows = reading.rows
    with pq.ParquetWriter(folder / ENTITIES, ENTITY_SCHEMA) as writer:
        row = 0
        for table in keys_in_order(reading.entities, rows):
            numbers = np.arange(row, row + table.num_rows, dtype=np.int64)
            graph = np.zeros(len(numbers), dtype=np.int8) if sides is None else sides[rows.ids(numbers)]
            columns = [pa.array(numbers), table["key"], pa.array(graph), table["name"]]
            writer.write_table(pa.table(columns, schema=ENTITY_SCHEMA))
            row += len(numbers)
    with pq.ParquetWriter(folder / RELATIONS, RELATION_SCHEMA) as writer:
        row = 0
        for table in keys_in_order(reading.relations, InOrder(reading.relations.num)):
            numbers = pa.array(np.arange(row, row + table.num_rows, dtype=np.int32))
            writer.write_table(pa.table([numbers, table["key"], table["name"]], schema=RELATION_SCHEMA))
            row += table.num_rows


def _write_triples(
    source: Source, reading: Reading, rows_per_part: int, pool: Threads, folder: Path, progress: Progress
) -> dict[str, int]:
    """Write all splits; return how many triples each has."""
    files = TripleFiles(folder, rows_per_part, pool)
    done, total = 0, reading.num_triples
    progress("writing triples", 0, total)
    for told in pool.in_order(reading.blocks()):
        for split, table in told:
            files.add(split, table)
            done += table.num_rows
        progress("writing triples", min(done, total), total)
    files.close()
    progress("writing triples", total, total)
    return {split: files.num_triples.get(split, 0) for split in source.splits}


def _audit(
    config: IngestConfig, reading: Reading, num_triples: Mapping[str, int], scratch: Path, folder: Path
) -> AuditReport:
    return audit_store(folder, reading.entities.num, num_triples, reading.num_literals, config.audit, scratch)


def _repair(
    config: IngestConfig,
    repair: RepairConfig,
    reading: Reading,
    num_triples: Mapping[str, int],
    pool: Threads,
    folder: Path,
) -> tuple[Findings, dict[str, int]]:
    """Write clean splits over those of the source; unlike all else here, it holds the whole graph."""
    before = _audit(config, reading, num_triples, folder / _SCRATCH / "source", folder)
    graph = Graph(
        entities=tuple(pq.read_table(folder / ENTITIES, columns=["key"])["key"].to_pylist()),
        relations=tuple(pq.read_table(folder / RELATIONS, columns=["key"])["key"].to_pylist()),
        triples={split: read_triples(triple_parts(folder, split)) for split in num_triples},
    )
    repaired, changes = repair_splits(graph, dev_share=repair.dev_share, seed=repair.seed)
    shutil.rmtree(folder / TRIPLES)
    files = TripleFiles(folder, config.triples_per_part, pool)
    for split, triples in repaired.triples.items():
        head, relation, tail = np.ascontiguousarray(triples.T)
        files.add(split, rows_table(head, relation, tail))
    files.close()
    return Findings(source=before, repair=changes), files.num_triples
