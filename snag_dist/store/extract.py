"""Feature tables: every modality of a recipe becomes one, made part by part over Ray Data actors.

A table is made in `features/<modality>.<digest>.partial` and renamed when it is whole. What is wrong with the source
is said in one line and leaves nothing behind; what is merely interrupted stays there and is gone on with. An item
that cannot be used (a broken picture) is no error: it is listed in problems.parquet with its reason, and the entity
has the modality if another of its items can be used.
"""

import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow.parquet as pq
from pydantic import Field
from ray.data import ActorPoolStrategy

from snag_dist.errors import ConfigError, DataError
from snag_dist.store.array_features import ArrayConfig
from snag_dist.store.bag_features import AttributeBagConfig, RelationBagConfig
from snag_dist.store.feature_table import SCRATCH, FeatureTable, finish
from snag_dist.store.ingest import without_places
from snag_dist.store.manifest import FeatureManifest, hash_tree
from snag_dist.store.modality import Modality
from snag_dist.store.opened import Store, open_store
from snag_dist.store.parts import MARKS, PartMaker, PartPlan
from snag_dist.store.picture_features import PicturesConfig
from snag_dist.store.pipeline import Progress, dataset_of_blocks, no_progress, num_cluster_cpus
from snag_dist.store.reuse import reuse_vectors
from snag_dist.store.schema import FORMAT_VERSION, MANIFEST
from snag_dist.store.text_features import TextConfig
from snag_dist.store.world_features import WorldPixelsConfig, WorldTextConfig

FeatureConfig = Annotated[
    ArrayConfig
    | TextConfig
    | PicturesConfig
    | RelationBagConfig
    | AttributeBagConfig
    | WorldTextConfig
    | WorldPixelsConfig,
    Field(discriminator="kind"),
]

_LOG = logging.getLogger(__name__)
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class ExtractOptions:
    """How extraction meets what is there already, and what cannot be used.

    Attributes:
        overwrite: whether a table made in another way is replaced; else it is an error.
        strict: whether an item that cannot be used is an error.
        reuse: a store (this one, or one of a smaller graph) whose vectors by the same encoder are taken over for the
            keys it has, so that only new keys are encoded; their items are not looked at again. Tables are replaced.
    """

    overwrite: bool = False
    strict: bool = False
    reuse: Path | None = None


def extract(
    features: Mapping[str, FeatureConfig],
    path: Path,
    *,
    options: ExtractOptions = ExtractOptions(),
    progress: Progress = no_progress,
) -> dict[str, FeatureManifest]:
    """Add a feature table for every modality to a store; those that are there already are kept.

    Args:
        features: modality name to where its vectors come from.
        path: of the store.
        options: what is replaced, reused, or refused.
        progress: told about entities whose vectors are written.

    Returns:
        The manifests, of new tables and of those that were there.

    Raises:
        ConfigError: a modality's name cannot be used.
        DataError: the store or a source is wrong, or a table was made in another way.

    Ray must be initialised.
    """
    store = open_store(path)
    if options.reuse is not None:
        # Also where nothing is missing: a name that was mistyped is not passed over.
        open_store(options.reuse)
    identities = {name: _identity(name, config) for name, config in features.items()}
    replace = options.overwrite or options.reuse is not None
    done = {name: _existing(store, name, identity, replace) for name, identity in identities.items()}
    # All sources are opened before the first vector is made, so that a wrong one is told at once.
    missing = {name: config for name, config in features.items() if done[name] is None}
    try:
        tables = [_open(store, name, config, identities[name], options) for name, config in missing.items()]
    except (ConfigError, DataError):
        for name in missing:
            _discard(_plan(store, name, missing[name], identities[name], options))
        raise
    made = {table.name: _make(table, options, progress) for table in tables}
    return {name: manifest or made[name] for name, manifest in done.items()}


def _identity(name: str, config: FeatureConfig) -> str:
    if not _NAME.fullmatch(name) or name == "graph":
        raise ConfigError(
            f"features.{name}: expected a name of small letters, digits and _ that is not 'graph'; rename the modality"
        )
    return hash_tree([FORMAT_VERSION, without_places(config.model_dump()), config.hashes()])


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


def _open(store: Store, name: str, config: FeatureConfig, identity: str, options: ExtractOptions) -> FeatureTable:
    plan = _plan(store, name, config, identity, options)
    _prepare_folder(plan, store.feature_folder(name))
    modality = config.open(store, plan.folder / SCRATCH)
    if not len(modality.rows):
        raise _explain_nobody(name, modality)
    if modality.unknown_keys:
        _LOG.warning(
            "%s: %d keys are not in the store and their vectors are not used, e.g. %s",
            modality.source,
            len(modality.unknown_keys),
            ", ".join(modality.unknown_keys[:3]),
        )
    if options.strict and modality.problems:
        raise _explain_problem(modality.source, *modality.problems[0])
    if options.reuse is not None:
        modality = reuse_vectors(modality, store, open_store(options.reuse), name, config.dtype)
    return FeatureTable(store, name, config.dtype, config.model_dump(mode="json"), identity, modality, plan)


def _plan(store: Store, name: str, config: FeatureConfig, identity: str, options: ExtractOptions) -> PartPlan:
    # The name says what the parts are of: an actor that outlives its interrupted extraction for a moment cannot leave
    # its last part among those of another source.
    reuse = "" if options.reuse is None else str(options.reuse.absolute())
    digest = hash_tree({"identity": identity, "store": store.fingerprint, "reuse": reuse})[:12]
    partial = store.feature_folder(name).with_name(f"{name}.{digest}.partial")
    return PartPlan(partial, config.dtype, store.num_entities, store.virtual_shards)


def _discard(plan: PartPlan) -> None:
    """Remove a table that was not begun; parts that an interrupted extraction made are kept."""
    if not any((plan.folder / MARKS).glob("*.npz")):
        shutil.rmtree(plan.folder, ignore_errors=True)


def _prepare_folder(plan: PartPlan, final: Path) -> None:
    """Keep the parts of an interrupted extraction of the same thing; remove those of anything else."""
    for other in final.parent.glob(f"{final.name}.*.partial"):
        if other != plan.folder:
            shutil.rmtree(other, ignore_errors=True)
    plan.folder.mkdir(parents=True, exist_ok=True)


def _make(table: FeatureTable, options: ExtractOptions, progress: Progress) -> FeatureManifest:
    try:
        _make_parts(table, options, progress)
    except DataError:
        shutil.rmtree(table.plan.folder, ignore_errors=True)
        raise
    return finish(table)


def _make_parts(table: FeatureTable, options: ExtractOptions, progress: Progress) -> None:
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
        if options.strict and part["num_problems"]:
            first = pq.read_table(plan.problems(part["part"])).to_pylist()[0]
            raise _explain_problem(_name_of(table, first["row"]), first["item"], first["reason"])
        done += part["num_seen"]
        progress(what, done, total)


def _num_actors(modality: Modality, num_parts: int, num_items: int) -> int:
    wanted = modality.encoder.num_actors
    if wanted is None:
        wanted = min(num_cluster_cpus(), -(-num_items // modality.encoder.items_per_actor))
    return max(1, min(wanted, num_parts))


def _explain_bad_number(table: FeatureTable, row: int, column: int, value: float) -> DataError:
    fits = "a finite number" if not np.isfinite(value) else f"a number that fits {table.dtype}"
    remedy = "mend the vector" if not np.isfinite(value) else "set dtype to float32"
    return DataError(f"{_name_of(table, row)} column {column}: expected {fits}, got {value:g}; {remedy}")


def _name_of(table: FeatureTable, row: int) -> str:
    index = int(np.searchsorted(table.modality.rows, row))
    return f"{table.modality.place(index)} (entity {table.store.entities()['key'][row].as_py()!r})"


def _explain_nobody(name: str, modality: Modality) -> DataError:
    unknown, problems = modality.unknown_keys, modality.problems
    if unknown:
        found = f"{len(unknown)} keys are unknown, e.g. {unknown[0]!r}"
    else:
        found = f"{problems[0][0]}: {problems[0][1]}" if problems else "nothing is there"
    return DataError(
        f"{modality.source}: features.{name}: no entity of the store has the modality ({found}); compare the keys of "
        "both"
    )


def _explain_problem(place: str, item: str, reason: str) -> DataError:
    return DataError(
        f"{place}: {item}: expected something that can be used, got one that cannot: {reason}; mend or "
        "remove it, or extract without --strict"
    )
