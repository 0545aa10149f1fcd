"""Feature tables: every modality of a recipe becomes one, made part by part over Ray Data actors.

A table is made in `features/<modality>.partial` and renamed when it is whole. What is wrong with the source
is said in one line and leaves nothing behind; what is merely interrupted stays there and is gone on with.
"""

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field
from ray.data import ActorPoolStrategy

from snag_dist.errors import ConfigError, DataError
from snag_dist.store.array_features import ArrayConfig
from snag_dist.store.ingest import without_places
from snag_dist.store.manifest import (
    FeatureManifest,
    hash_file,
    hash_tree,
    record_files,
    write_json,
    write_manifest,
)
from snag_dist.store.modality import Modality
from snag_dist.store.opened import Store, open_store
from snag_dist.store.parts import MARKS, PartMaker, PartPlan, load_mark
from snag_dist.store.pipeline import Progress, dataset_of_blocks, no_progress, num_cluster_cpus
from snag_dist.store.schema import FORMAT_VERSION, MANIFEST, STATISTICS
from snag_dist.store.sentences import TextConfig
from snag_dist.store.statistics import Moments
from snag_dist.store.world_features import WorldPixelsConfig, WorldTextConfig

FeatureConfig = Annotated[ArrayConfig | TextConfig | WorldTextConfig | WorldPixelsConfig, Field(discriminator="kind")]

_LOG = logging.getLogger(__name__)
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_PLAN = "plan.json"
_SCRATCH = "scratch"
_NUM_UNKNOWN_SHOWN = 20


@dataclass(frozen=True)
class _Table:
    """A table that is to be made."""

    store: Store
    name: str
    config: FeatureConfig
    identity: str
    modality: Modality
    plan: PartPlan


def extract(
    features: Mapping[str, FeatureConfig],
    path: Path,
    *,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> dict[str, FeatureManifest]:
    """Add a feature table for every modality to a store; those that are there already are kept.

    Args:
        features: modality name to where its vectors come from.
        path: of the store.
        overwrite: whether a table made in another way is replaced; else it is an error.
        progress: told about entities whose vectors are written.

    Returns:
        The manifests, of new tables and of those that were there.

    Raises:
        ConfigError: a modality's name cannot be used.
        DataError: the store or a source is wrong, or a table was made in another way.

    Ray must be initialised.
    """
    store = open_store(path)
    identities = {name: _identity(name, config) for name, config in features.items()}
    done = {name: _existing(store, name, identity, overwrite) for name, identity in identities.items()}
    # All sources are opened before the first vector is made, so that a wrong one is told at once.
    missing = {name: config for name, config in features.items() if done[name] is None}
    try:
        tables = [_open(store, name, config, identities[name]) for name, config in missing.items()]
    except (ConfigError, DataError):
        for name in missing:
            _discard(_plan(store, name, missing[name]))
        raise
    made = {table.name: _make(table, progress) for table in tables}
    return {name: manifest or made[name] for name, manifest in done.items()}


def _identity(name: str, config: FeatureConfig) -> str:
    if not _NAME.fullmatch(name) or name == "graph":
        raise ConfigError(
            f"features.{name}: expected a name of small letters, digits and _ that is not 'graph'; rename the modality"
        )
    for file in config.files():
        if not file.is_file():
            raise DataError(f"{file}: features.{name}: expected a file, found none; mend the path")
    hashes = [hash_file(file) for file in config.files()] + config.weights()
    return hash_tree([FORMAT_VERSION, without_places(config.model_dump()), hashes])


def _existing(store: Store, name: str, identity: str, overwrite: bool) -> FeatureManifest | None:
    folder = store.feature_folder(name)
    if not folder.exists():
        return None
    try:
        manifest = store.feature(name)
    except DataError:
        if overwrite:
            return None
        raise
    if manifest.identity == identity:
        _LOG.info("features/%s: kept, made in the same way before", name)
        return manifest
    if overwrite:
        return None
    raise DataError(
        f"{folder / MANIFEST}: these features were made in another way ({manifest.source}, "
        f"{manifest.encoder.name}); remove the folder, extract with overwrite, or rename the modality"
    )


def _open(store: Store, name: str, config: FeatureConfig, identity: str) -> _Table:
    plan = _plan(store, name, config)
    _prepare_folder(plan, {"identity": identity, "store": store.fingerprint})
    scratch = plan.folder / _SCRATCH
    modality = config.open(store, scratch) if isinstance(config, ArrayConfig) else config.open(store)
    if not len(modality.rows):
        unknown = f" ({len(modality.unknown_keys)} keys are unknown)" if modality.unknown_keys else ""
        raise DataError(
            f"{modality.source}: features.{name}: no entity of the store has the modality{unknown}; "
            "compare the keys of both"
        )
    if modality.unknown_keys:
        _LOG.warning(
            "%s: %d keys are not in the store and their vectors are not used, e.g. %s",
            modality.source,
            len(modality.unknown_keys),
            ", ".join(modality.unknown_keys[:3]),
        )
    return _Table(store, name, config, identity, modality, plan)


def _plan(store: Store, name: str, config: FeatureConfig) -> PartPlan:
    partial = store.feature_folder(name).with_name(f"{name}.partial")
    return PartPlan(partial, config.dtype, store.num_entities, store.virtual_shards)


def _discard(plan: PartPlan) -> None:
    """Remove a table that was not begun; parts that an interrupted extraction made are kept."""
    if not any((plan.folder / MARKS).glob("*.npz")):
        shutil.rmtree(plan.folder, ignore_errors=True)


def _prepare_folder(plan: PartPlan, tree: dict[str, str]) -> None:
    """Keep the parts of an interrupted extraction of the same thing; remove anything else."""
    path = plan.folder / _PLAN
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) == tree:
        return
    shutil.rmtree(plan.folder, ignore_errors=True)
    plan.folder.mkdir(parents=True)
    write_json(path, tree)


def _make(table: _Table, progress: Progress) -> FeatureManifest:
    try:
        _make_parts(table, progress)
    except DataError:
        shutil.rmtree(table.plan.folder)
        raise
    return _finish(table)


def _make_parts(table: _Table, progress: Progress) -> None:
    plan, modality = table.plan, table.modality
    blocks = plan.blocks(modality.rows, modality.payload)
    total = len(modality.rows)
    done = total - sum(len(block["rows"][0]) for block in blocks)
    what = f"features/{table.name}"
    progress(what, done, total)
    if not blocks:
        return
    encoder = modality.encoder
    dataset = dataset_of_blocks(blocks).map_batches(
        PartMaker,
        fn_constructor_args=(plan, encoder.spec),
        batch_size=None,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=_num_actors(modality, len(blocks), total - done)),
        num_gpus=encoder.num_gpus or None,
    )
    for part in dataset.iter_rows():
        if part["bad_row"] >= 0:
            raise _explain_bad_number(table, part["bad_row"], part["bad_column"], part["bad_value"])
        done += part["num_present"]
        progress(what, done, total)


def _num_actors(modality: Modality, num_parts: int, num_items: int) -> int:
    wanted = modality.encoder.num_actors
    if wanted is None:
        wanted = min(num_cluster_cpus(), -(-num_items // modality.encoder.items_per_actor))
    return max(1, min(wanted, num_parts))


def _explain_bad_number(table: _Table, row: int, column: int, value: float) -> DataError:
    index = int(np.searchsorted(table.modality.rows, row))
    key = table.store.entities()["key"][row].as_py()
    fits = "a finite number" if not np.isfinite(value) else f"a number that fits {table.config.dtype}"
    remedy = "mend the vector" if not np.isfinite(value) else "set dtype to float32"
    return DataError(
        f"{table.modality.place(index)} (entity {key!r}) column {column}: expected {fits}, got {value:g}; {remedy}"
    )


def _finish(table: _Table) -> FeatureManifest:
    plan, modality = table.plan, table.modality
    shards = [shard for part in range(plan.num_parts) for shard in load_mark(plan.mark(part))]
    moments = shards[0].moments
    for shard in shards[1:]:
        moments = moments.merge(shard.moments)
    _save_statistics(plan.folder / STATISTICS, moments)
    for name in (MARKS, _SCRATCH):
        shutil.rmtree(plan.folder / name, ignore_errors=True)
    (plan.folder / _PLAN).unlink()
    width = len(moments.mean)
    content = hashlib.sha256(f"{table.config.dtype} {width}\n".encode())
    content.update(b"".join(shard.sha256 for shard in shards))
    manifest = FeatureManifest(
        format_version=FORMAT_VERSION,
        modality=table.name,
        store_fingerprint=table.store.fingerprint,
        identity=table.identity,
        fingerprint=content.hexdigest(),
        width=width,
        dtype=table.config.dtype,
        num_entities=plan.num_entities,
        num_present=moments.count,
        num_unknown_keys=len(modality.unknown_keys),
        unknown_keys=modality.unknown_keys[:_NUM_UNKNOWN_SHOWN],
        source=modality.source,
        encoder=modality.encoder.record,
        config=table.config.model_dump(mode="json"),
        files=record_files(plan.folder),
    )
    write_manifest(plan.folder, manifest)
    _put_in_place(plan.folder, table.store.feature_folder(table.name))
    return manifest


def _save_statistics(path: Path, moments: Moments) -> None:
    with path.open("wb") as file:
        np.savez(file, mean=moments.mean, std=moments.std())


def _put_in_place(partial: Path, folder: Path) -> None:
    replaced = folder.with_name(f"{folder.name}.replaced.partial")
    if folder.exists():
        folder.rename(replaced)
    partial.rename(folder)
    shutil.rmtree(replaced, ignore_errors=True)
