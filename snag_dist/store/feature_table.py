"""A feature table in the making, and how it is finished: statistics, problems, manifest, then its place."""

import hashlib
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from snag_dist.store.feature_report import FeatureReport
from snag_dist.store.manifest import FeatureManifest, record_files, write_json, write_manifest
from snag_dist.store.modality import Modality
from snag_dist.store.opened import Store
from snag_dist.store.parts import MARKS, PartPlan
from snag_dist.store.samples import save_samples
from snag_dist.store.schema import FORMAT_VERSION, PROBLEM_SCHEMA, PROBLEMS, REPORT, SAMPLES, STATISTICS, FeatureDtype
from snag_dist.store.shard_files import load_mark
from snag_dist.store.statistics import save_statistics

SCRATCH = "scratch"
"""In a table in the making: what a source lays out for the actors."""

_LOG = logging.getLogger(__name__)
_NUM_UNKNOWN_SHOWN = 20


@dataclass(frozen=True)
class FeatureTable:
    """A table in the making.

    Attributes:
        store: it belongs to.
        name: of the modality.
        dtype: of the stored numbers.
        config: of the features, as a plain tree.
        identity: hash of config, source and encoder.
        modality: what is to be stored.
        plan: its parts.
    """

    store: Store
    name: str
    dtype: FeatureDtype
    config: dict[str, Any]
    identity: str
    modality: Modality
    plan: PartPlan


def finish(table: FeatureTable) -> FeatureManifest:
    """Write statistics, problems and manifest of a table whose parts are all made, and put it in its place."""
    plan, modality = table.plan, table.modality
    shards = [shard for part in range(plan.num_parts) for shard in load_mark(plan.mark(part))]
    moments = shards[0].moments
    for shard in shards[1:]:
        moments = moments.merge(shard.moments)
    save_statistics(plan.folder / STATISTICS, moments)
    num_problems = _save_problems(table)
    report = FeatureReport.of(plan.folder, plan.num_entities, moments.std())
    write_json(plan.folder / REPORT, report.model_dump(mode="json"))
    save_samples(modality, plan.folder / SAMPLES)
    for name in (MARKS, SCRATCH):
        shutil.rmtree(plan.folder / name, ignore_errors=True)
    width = len(moments.mean)
    content = hashlib.sha256(f"{table.dtype} {width}\n".encode())
    content.update(b"".join(shard.sha256 for shard in shards))
    manifest = FeatureManifest(
        format_version=FORMAT_VERSION,
        modality=table.name,
        store_fingerprint=table.store.fingerprint,
        identity=table.identity,
        fingerprint=content.hexdigest(),
        width=width,
        dtype=table.dtype,
        num_entities=plan.num_entities,
        num_present=moments.count,
        num_problems=num_problems,
        num_unknown_keys=len(modality.unknown_keys),
        unknown_keys=modality.unknown_keys[:_NUM_UNKNOWN_SHOWN],
        source=modality.source,
        encoder=modality.encoder.record,
        config=table.config,
        files=record_files(plan.folder),
    )
    write_manifest(plan.folder, manifest)
    _put_in_place(plan.folder, table.store.feature_folder(table.name))
    return manifest


def _save_problems(table: FeatureTable) -> int:
    plan = table.plan
    listed = [{"row": None, "item": item, "reason": reason} for item, reason in table.modality.problems]
    tables = [pq.read_table(plan.problems(part)) for part in range(plan.num_parts)]
    problems = pa.concat_tables([pa.Table.from_pylist(listed, schema=PROBLEM_SCHEMA), *tables])
    if problems.num_rows:
        _LOG.warning(
            "%s: %d items cannot be used, e.g. %s (%s); all of them: %s",
            table.modality.source,
            problems.num_rows,
            problems["item"][0].as_py(),
            problems["reason"][0].as_py(),
            table.store.feature_folder(table.name) / PROBLEMS,
        )
    pq.write_table(problems, plan.folder / PROBLEMS)
    return problems.num_rows


def _put_in_place(partial: Path, folder: Path) -> None:
    replaced = folder.with_name(f"{folder.name}.replaced.partial")
    if folder.exists():
        folder.rename(replaced)
    partial.rename(folder)
    shutil.rmtree(replaced, ignore_errors=True)
