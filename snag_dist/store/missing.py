"""Overlays: who keeps a modality when some entities lose it, laid over a feature table whose vectors stay where they
are.

    missing/<modality>-<ratio>-<among>-seed<seed>/
        manifest.json                        written last
        hot/shard-00000.present.npy          one bit a row, as in the table itself
        statistics.npz                       mean and std of every column over the entities that still have it

What is missing at one ratio is missing at every lower one (see `snag_dist.kg.missing`), whatever the order of rows.
"""

import hashlib
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from snag_dist.config import Config
from snag_dist.errors import ConfigError, DataError
from snag_dist.kg.missing import Missing, choose_missing
from snag_dist.store.manifest import FeatureManifest, MissingManifest, read_manifest, record_files, write_manifest
from snag_dist.store.opened import Store
from snag_dist.store.schema import FORMAT_VERSION, MISSING, STATISTICS, presence_file, shard_file
from snag_dist.store.shard_files import map_shard, read_presence, save_presence, steps
from snag_dist.store.statistics import Moments, save_statistics

_LOG = logging.getLogger(__name__)


class MissingConfig(Config):
    """Take a modality away from some entities; a bare number is the ratio."""

    ratio: float = Field(ge=0.0, le=1.0)
    """Share of the counted entities that keep the modality (R_img); above the natural share nothing is dropped."""
    seed: int = Field(default=0, ge=0)
    """Of who loses it."""
    among: Literal["linked", "all"] | None = None
    """Who is counted and may lose it: entities with a link, as published, or all; unset: linked where there are links.
    The others keep what they have."""

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, value: Any) -> Any:
        return {"ratio": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


def make_overlays(store: Store, missing: Mapping[str, MissingConfig]) -> dict[str, MissingManifest]:
    """Make the overlay of every modality that some entities shall lose; those that fit are kept.

    Raises:
        ConfigError: entities with a link are to be counted, and the store has no links.
        DataError: the store has no such modality, or see `Store.feature`.
    """
    return {modality: _make(store, modality, config) for modality, config in missing.items()}


def open_overlay(store: Store, modality: str, config: MissingConfig) -> tuple[Path, MissingManifest]:
    """Find the overlay of a modality.

    Returns:
        Its folder, and its manifest.

    Raises:
        ConfigError: see `make_overlays`.
        DataError: it is not there, was made over another table, or a file is missing or was changed in size.
    """
    folder = _folder(store, modality, config)
    remedy = f"make it with jobs/ingest.py and --set missing.{modality}={config.ratio:g}, or the recipe that has it"
    manifest = read_manifest(folder, MissingManifest, remedy=remedy)
    base = store.feature(modality)
    if manifest.base_fingerprint != base.fingerprint:
        raise DataError(
            f"{folder}: expected an overlay of table {base.fingerprint[:12]}, got one of "
            f"{manifest.base_fingerprint[:12]}: the modality was extracted anew; {remedy}"
        )
    return folder, manifest


def _folder(store: Store, modality: str, config: MissingConfig) -> Path:
    return store.path / MISSING / f"{modality}-{config.ratio:g}-{_among(store, modality, config)}-seed{config.seed}"


def _among(store: Store, modality: str, config: MissingConfig) -> Literal["linked", "all"]:
    if config.among == "linked" and not store.manifest.num_links:
        raise ConfigError(
            f"missing.{modality}.among: expected 'all', got 'linked': {store.path} has no links; set it to 'all' or "
            "leave it out"
        )
    return config.among or ("linked" if store.manifest.num_links else "all")


def _make(store: Store, modality: str, config: MissingConfig) -> MissingManifest:
    base, folder = store.feature(modality), _folder(store, modality, config)
    if folder.exists():
        try:
            return open_overlay(store, modality, config)[1]
        except DataError as error:
            _LOG.info("%s: made anew: %s", folder, error)
    present = _presence(store, modality)
    missing = _choose(store, modality, config, present)
    present[missing.dropped] = False
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        moments = _write_presence(store, modality, present, partial)
        if len(missing.dropped):
            save_statistics(partial / STATISTICS, moments)
        else:
            shutil.copyfile(store.feature_folder(modality) / STATISTICS, partial / STATISTICS)
        manifest = _describe(store, base, config, missing, int(present.sum()), partial)
        write_manifest(partial, manifest)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    _report(folder, config, manifest)
    return manifest


def _presence(store: Store, modality: str) -> NDArray[np.bool_]:
    """Read (E,) which rows of a table have the modality."""
    folder, bounds = store.feature_folder(modality), store.shard_bounds
    sizes = np.diff(bounds).tolist()
    return np.concatenate([read_presence(folder / presence_file(shard), size) for shard, size in enumerate(sizes)])


def _choose(store: Store, modality: str, config: MissingConfig, present: NDArray[np.bool_]) -> Missing:
    """Choose the rows that lose the modality, by source id: the order of the rows decides nothing."""
    rows = store.rows_of_source_ids
    counted = None
    if _among(store, modality, config) == "linked":
        ids = np.empty_like(rows)
        ids[rows] = np.arange(len(rows))
        counted = np.sort(ids[store.links().ravel()])
    chosen = choose_missing(present[rows], ratio=config.ratio, modality=modality, seed=config.seed, among=counted)
    return Missing(np.sort(rows[chosen.dropped]), chosen.kept, chosen.counted)


def _write_presence(store: Store, modality: str, present: NDArray[np.bool_], partial: Path) -> Moments:
    """Write the bitmaps; return the moments of the vectors that are left."""
    moments = Moments.zero(store.feature(modality).width)
    bounds = store.shard_bounds.tolist()
    for shard in range(store.virtual_shards):
        kept = present[bounds[shard] : bounds[shard + 1]]
        array = map_shard(store.feature_folder(modality) / shard_file(shard))
        path = partial / presence_file(shard)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_presence(path, kept)
        for begin, end in steps(0, len(array)):
            moments = moments.merge(Moments.of(array[begin:end][kept[begin:end]]))
    return moments


def _describe(
    store: Store, base: FeatureManifest, config: MissingConfig, missing: Missing, num_present: int, partial: Path
) -> MissingManifest:
    return MissingManifest(
        format_version=FORMAT_VERSION,
        modality=base.modality,
        store_fingerprint=store.fingerprint,
        base_fingerprint=base.fingerprint,
        ratio=config.ratio,
        reached=missing.ratio,
        seed=config.seed,
        among=_among(store, base.modality, config),
        num_counted=missing.counted,
        num_kept=missing.kept,
        num_dropped=len(missing.dropped),
        num_present=num_present,
        dropped_sha256=hashlib.sha256(missing.dropped.astype("<i8").tobytes()).hexdigest(),
        files=record_files(partial),
    )


def _report(folder: Path, config: MissingConfig, manifest: MissingManifest) -> None:
    counts = folder, manifest.num_kept, manifest.num_counted, manifest.reached
    if not manifest.num_dropped:
        _LOG.info("%s: %d of %d entities have it (%.3f), nothing is dropped to reach %g", *counts, config.ratio)
        return
    _LOG.info("%s: %d of %d entities keep it (%.3f), %d lose it", *counts, manifest.num_dropped)
