"""Overlays take a modality from some entities: nested over ratios, without a copy of a vector."""

import hashlib
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from snag_dist.config import validate
from snag_dist.errors import ConfigError, DataError
from snag_dist.kg.missing import choose_missing
from snag_dist.store.alignment_source import AlignmentConfig
from snag_dist.store.bag_features import RelationBagConfig
from snag_dist.store.extract import ExtractOptions, extract
from snag_dist.store.gather import FeatureRows
from snag_dist.store.ingest import IngestConfig, ingest
from snag_dist.store.missing import MissingConfig, make_overlays, open_overlay
from snag_dist.store.opened import Store, open_store
from snag_dist.store.world_features import WorldPixelsConfig

pytestmark = pytest.mark.ray


@pytest.fixture
def store(world_store: Store, tmp_path: Path) -> Store:
    """A copy of the store of the small world, whose vision has gaps of its own."""
    return open_store(shutil.copytree(world_store.path, tmp_path / "world"))


def cover(store: Store, **fields: object) -> FeatureRows:
    """Make an overlay of vision, and open all rows under it."""
    config = validate(MissingConfig, fields, "missing.vision")
    make_overlays(store, {"vision": config})
    return FeatureRows.open(store, "vision", 0, store.num_entities, config)


def test_a_dropped_entity_is_absent_and_its_vector_zeros(store: Store):
    base = FeatureRows.open(store, "vision", 0, store.num_entities)
    covered = cover(store, ratio=0.4)
    everyone = np.arange(store.num_entities)
    vectors, present = covered.gather(everyone)
    before, had = base.gather(everyone)
    assert present.sum() == round(0.4 * store.num_entities) < had.sum()
    assert not (present & ~had).any()
    assert np.array_equal(vectors[present], before[present])
    assert not vectors[~present].any() and before[had & ~present].any()
    # The table itself is as it was.
    store.verify()


def test_part_of_the_rows_is_seen_as_in_the_whole(store: Store):
    config = MissingConfig(ratio=0.4)
    whole = cover(store, ratio=0.4)
    part = FeatureRows.open(store, "vision", 100, 160, config)
    rows = np.arange(100, 160, 7)
    for one, other in zip(part.gather(rows), whole.gather(rows), strict=True):
        assert np.array_equal(one, other)


def test_statistics_are_over_the_entities_that_still_have_it(store: Store):
    covered = cover(store, ratio=0.3)
    vectors, present = covered.gather(np.arange(store.num_entities))
    kept = vectors[present].astype(np.float64)
    np.testing.assert_allclose(covered.mean, kept.mean(axis=0), rtol=1e-10)
    np.testing.assert_allclose(covered.std, kept.std(axis=0, ddof=1), rtol=1e-10)


def test_ratios_are_nested_and_seeds_differ(store: Store):
    lost = [~cover(store, ratio=ratio).present for ratio in (0.5, 0.4, 0.1, 0.0)]
    for more, fewer in zip(lost[1:], lost[:-1], strict=True):
        assert (more | ~fewer).all() and more.sum() > fewer.sum()
    assert lost[-1].all()
    other = ~cover(store, ratio=0.4, seed=1).present
    assert other.sum() == lost[1].sum() and (other != lost[1]).any()


def test_who_loses_it_does_not_depend_on_the_order_of_rows(store: Store, world_store: Store, tmp_path: Path):
    config = validate(IngestConfig, dict(world_store.manifest.config, seed=9), "ingest")
    ingest(config, tmp_path / "reordered")
    extract({"vision": WorldPixelsConfig(pool=4)}, tmp_path / "reordered")
    other = open_store(tmp_path / "reordered")
    kept = [one.entities()["key"].to_numpy()[cover(one, ratio=0.4).present] for one in (store, other)]
    assert set(kept[0]) == set(kept[1]) and list(kept[0]) != list(kept[1])


def test_the_manifest_says_who_and_how_many(store: Store):
    base = FeatureRows.open(store, "vision", 0, store.num_entities)
    covered = cover(store, ratio=0.4, seed=2)
    folder, manifest = open_overlay(store, "vision", MissingConfig(ratio=0.4, seed=2))
    dropped = np.flatnonzero(base.present & ~covered.present)
    assert folder == store.path / "missing" / "vision-0.4-all-seed2"
    assert manifest.base_fingerprint == store.feature("vision").fingerprint
    assert (manifest.num_counted, manifest.num_kept, manifest.num_present) == (300, 120, 120)
    assert (manifest.ratio, manifest.reached, manifest.among) == (0.4, 0.4, "all")
    assert manifest.num_dropped == len(dropped)
    assert manifest.dropped_sha256 == hashlib.sha256(dropped.astype("<i8").tobytes()).hexdigest()


def test_a_ratio_above_the_natural_one_drops_nothing_and_says_so(store: Store, caplog: pytest.LogCaptureFixture):
    base = FeatureRows.open(store, "vision", 0, store.num_entities)
    with caplog.at_level(logging.INFO, "snag_dist.store.missing"):
        covered = cover(store, ratio=1.0)
    assert np.array_equal(covered.present, base.present) and not base.present.all()
    assert np.array_equal(covered.mean, base.mean) and np.array_equal(covered.std, base.std)
    number = int(base.present.sum())
    assert f"{number} of 300 entities have it ({number / 300:.3f}), nothing is dropped to reach 1" in caplog.text


def test_an_overlay_is_kept_until_its_table_changes(store: Store):
    cover(store, ratio=0.4)
    folder, manifest = open_overlay(store, "vision", MissingConfig(ratio=0.4))
    written = (folder / "manifest.json").stat().st_mtime_ns
    cover(store, ratio=0.4)
    assert (folder / "manifest.json").stat().st_mtime_ns == written
    extract({"vision": WorldPixelsConfig(pool=8)}, store.path, options=ExtractOptions(overwrite=True))
    with pytest.raises(
        DataError,
        match=r"vision-0.4-all-seed0: expected an overlay of table \w{12}, got one of \w{12}: the modality was "
        r"extracted anew; make it with jobs/ingest.py and --set missing.vision=0.4",
    ):
        FeatureRows.open(store, "vision", 0, 300, MissingConfig(ratio=0.4))
    covered = cover(store, ratio=0.4)
    assert covered.width == len(covered.mean) == store.feature("vision").width
    assert open_overlay(store, "vision", MissingConfig(ratio=0.4))[1].dropped_sha256 == manifest.dropped_sha256


def test_an_overlay_that_is_not_there_or_was_damaged_is_told(store: Store):
    with pytest.raises(
        DataError, match=r"vision-0.25-all-seed0/manifest.json: expected a manifest, found none .*missing.vision=0.25"
    ):
        FeatureRows.open(store, "vision", 0, 300, MissingConfig(ratio=0.25))
    cover(store, ratio=0.25)
    damaged = store.path / "missing" / "vision-0.25-all-seed0" / "statistics.npz"
    damaged.write_bytes(b"")
    with pytest.raises(DataError, match=r"statistics.npz: expected \d+ bytes, found 0 bytes; make it with jobs/ing"):
        FeatureRows.open(store, "vision", 0, 300, MissingConfig(ratio=0.25))
    # Whoever makes overlays mends it.
    assert cover(store, ratio=0.25).present.sum() == 75
    with pytest.raises(DataError, match="no features for modality 'sound'"):
        make_overlays(store, {"sound": MissingConfig(ratio=0.5)})


def test_linked_entities_are_counted_where_there_are_links(pair_store: Store):
    extract({"vision": RelationBagConfig()}, pair_store.path)
    keys = np.array(pair_store.entities()["key"].to_pylist())
    present = cover(pair_store, ratio=0.5).present
    # Four entities are linked, of which two keep it; c has no link and keeps what it has.
    assert present.sum() == 3 and present[keys == "http://x/c"].all()
    manifest = open_overlay(pair_store, "vision", MissingConfig(ratio=0.5, among="linked"))[1]
    assert (manifest.num_counted, manifest.num_kept, manifest.among) == (4, 2, "linked")
    assert cover(pair_store, ratio=0.0, among="all").present.sum() == 0


def test_links_cannot_be_counted_where_there_are_none(store: Store):
    with pytest.raises(
        ConfigError, match=r"missing.vision.among: expected 'all', got 'linked': .*world has no links; set it to 'all'"
    ):
        cover(store, ratio=0.5, among="linked")


def test_a_bare_number_is_the_ratio():
    assert MissingConfig.model_validate(0.4) == MissingConfig(ratio=0.4)
    assert MissingConfig.model_validate(1) == MissingConfig(ratio=1.0)
    with pytest.raises(ConfigError, match=r"ratio: Input should be less than or equal to 1, got 1\.5"):
        validate(MissingConfig, {"ratio": 1.5}, "missing.vision")


@pytest.mark.data
def test_zh_en_loses_what_the_mathematics_says(published: Callable[[str], Path], tmp_path: Path, local_ray: None):
    folder = published("DBP15K") / "zh_en"
    ingest(IngestConfig(source=AlignmentConfig(folder=folder), seed=5), tmp_path / "store")
    extract({"vision": RelationBagConfig(num_columns=8)}, tmp_path / "store")
    store = open_store(tmp_path / "store")
    base = FeatureRows.open(store, "vision", 0, store.num_entities).present
    present = cover(store, ratio=0.4).present
    by_id, rows = base[store.rows_of_source_ids], store.rows_of_source_ids
    linked = np.flatnonzero(np.isin(rows, store.links()))
    chosen = choose_missing(by_id, ratio=0.4, modality="vision", seed=0, among=linked)
    assert len(linked) == 30000 and chosen.kept == 12000
    assert set(np.flatnonzero(base & ~present)) == set(rows[chosen.dropped])
