"""The audit of a store in the making, from its own files: whole where it is small, else in parts on disk."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from snag_dist.kg.audit import AuditConfig, AuditedParts, AuditReport, audit_parts
from snag_dist.store.blocks import Ints
from snag_dist.store.opened import read_triples
from snag_dist.store.schema import RELATIONS, triple_parts

TRIPLES_PER_PART = 1 << 21
"""Triples that are examined together: about 0.3 GB at their peak."""


def audit_store(
    store: Path,
    num_entities: int,
    num_triples: Mapping[str, int],
    num_literals: Mapping[str, int],
    config: AuditConfig,
    scratch: Path,
    triples_per_part: int = TRIPLES_PER_PART,
) -> AuditReport:
    """Examine the splits of a store.

    Args:
        store: folder with triples and relations.
        num_entities: E.
        num_triples: split name to its triples.
        num_literals: split name to the statements about literals that were left out of it.
        config: thresholds.
        scratch: folder for parts, which must not exist.
        triples_per_part: see `TRIPLES_PER_PART`.
    """
    relations = pq.read_table(store / RELATIONS, columns=["key"])["key"].to_pylist()
    num_parts = -(-sum(num_triples.values()) // triples_per_part)
    parts: Sequence[Callable[[], Mapping[str, Ints]]] = [partial(_read_all, store, tuple(num_triples))]
    if num_parts > 1:
        _spread(store, num_triples, num_entities, num_parts, scratch)
        parts = [partial(_read_part, scratch, part, tuple(num_triples)) for part in range(num_parts)]
    return audit_parts(AuditedParts(num_entities, relations, num_triples, parts, num_literals), config=config)


def _read_all(store: Path, splits: Sequence[str]) -> Mapping[str, Ints]:
    return {split: read_triples(triple_parts(store, split)) for split in splits}


def _read_part(scratch: Path, part: int, splits: Sequence[str]) -> Mapping[str, Ints]:
    return {split: np.fromfile(_part_file(scratch, part, split), dtype=np.int64).reshape(-1, 3) for split in splits}


def _spread(store: Path, splits: Mapping[str, int], num_entities: int, num_parts: int, scratch: Path) -> None:
    """Write every triple to the part of its unordered pair of entities."""
    scratch.mkdir()
    for split in splits:
        files = [_part_file(scratch, part, split).open("wb") for part in range(num_parts)]
        for path in triple_parts(store, split):
            triples = read_triples([path])
            low, high = triples[:, [0, 2]].min(axis=1), triples[:, [0, 2]].max(axis=1)
            # Rows are drawn at random, so a product of them with an odd number is spread well enough.
            part = ((low * num_entities + high).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(33)
            part = (part % np.uint64(num_parts)).astype(np.int64)
            triples = triples[np.argsort(part, kind="stable")]
            ends = np.cumsum(np.bincount(part, minlength=num_parts))
            for file, begin, end in zip(files, [0, *ends[:-1]], ends, strict=True):
                triples[begin:end].tofile(file)
        for file in files:
            file.close()


def _part_file(scratch: Path, part: int, split: str) -> Path:
    return scratch / f"{split}-{part:06}.int64"
