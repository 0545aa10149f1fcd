import logging
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from snag_dist.errors import ConfigError, DataError
from snag_dist.store import extract as extraction
from snag_dist.store.array_features import ArrayConfig
from snag_dist.store.encoders import HashingConfig, SentenceTransformersConfig
from snag_dist.store.extract import ExtractOptions, FeatureConfig, extract
from snag_dist.store.gather import FeatureRows
from snag_dist.store.ingest import IngestConfig, ingest
from snag_dist.store.opened import Store, open_store
from snag_dist.store.sentences import SentenceFileConfig
from snag_dist.store.sources import TsvConfig
from snag_dist.store.text_features import TextConfig

pytestmark = pytest.mark.ray


def save(path: Path, array: np.ndarray) -> ArrayConfig:
    np.save(path, array)
    return ArrayConfig(path=path)


def tables(store: Store) -> list[str]:
    folder = store.path / "features"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def ingested_ring(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Path:
    """The store of 600 entities in a ring, as ingest made it: its feature tables have four parts."""
    source = tmp_path_factory.mktemp("ring")
    lines = [f"e{i} next e{(i + 1) % 600}" for i in range(600)]
    for split, part in (("train", lines), ("valid", lines[:1]), ("test", lines[1:2])):
        (source / f"{split}.tsv").write_text("\n".join(part) + "\n")
    ingest(IngestConfig(source=TsvConfig(folder=source), virtual_shards=16), source / "store")
    return source / "store"


@pytest.fixture
def ring_store(ingested_ring: Path, tmp_path: Path) -> Store:
    """A copy of the store of the ring, for one test to add to."""
    return open_store(shutil.copytree(ingested_ring, tmp_path / "store"))


def test_vectors_come_out_at_the_rows_of_their_entities(ring_store: Store, tmp_path: Path):
    array = np.random.default_rng(0).normal(size=(600, 5)).astype(np.float32)
    manifest = extract({"vision": save(tmp_path / "x.npy", array)}, ring_store.path)["vision"]
    assert (manifest.width, manifest.dtype, manifest.num_present) == (5, "float16", 600)
    assert manifest.store_fingerprint == ring_store.fingerprint
    vectors, present = FeatureRows.open(ring_store, "vision", 0, 600).gather(np.arange(600))
    assert present.all()
    np.testing.assert_array_equal(vectors[ring_store.rows_of_source_ids], array.astype(np.float16))
    ring_store.verify()
    assert tables(ring_store) == ["vision"]


def test_the_same_table_is_kept_and_another_is_refused_unless_asked(ring_store: Store, tmp_path: Path):
    config = save(tmp_path / "x.npy", np.ones((600, 2)))
    first = extract({"vision": config}, ring_store.path)["vision"]
    written = (ring_store.feature_folder("vision") / "manifest.json").stat().st_mtime_ns
    assert extract({"vision": config}, ring_store.path)["vision"] == first
    assert (ring_store.feature_folder("vision") / "manifest.json").stat().st_mtime_ns == written

    # The same config, but the file has changed.
    save(tmp_path / "x.npy", np.zeros((600, 2)))
    with pytest.raises(DataError, match=r"made in another way \(array .*x.npy, .*extract with overwrite"):
        extract({"vision": config}, ring_store.path)
    second = extract({"vision": config}, ring_store.path, options=ExtractOptions(overwrite=True))["vision"]
    assert second.fingerprint != first.fingerprint
    assert tables(ring_store) == ["vision"]


def test_a_second_modality_is_added_beside_the_first(ring_store: Store, tmp_path: Path):
    extract({"one": save(tmp_path / "x.npy", np.ones((600, 2)))}, ring_store.path)
    manifests = extract({name: save(tmp_path / f"{name}.npy", np.ones((600, 2))) for name in ("two",)}, ring_store.path)
    assert list(manifests) == ["two"]
    assert ring_store.modalities() == ("one", "two")
    assert set(ring_store.features()) == {"one", "two"}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_is_found_by_row_key_and_column(ring_store: Store, tmp_path: Path, bad: float):
    array = np.ones((600, 4))
    array[411, 2] = bad
    with pytest.raises(DataError) as error:
        extract({"vision": save(tmp_path / "x.npy", array)}, ring_store.path)
    assert str(error.value) == (
        f"{tmp_path}/x.npy row 411 (entity 'e411') column 2: expected a finite number, got {bad:g}; mend the vector"
    )
    assert tables(ring_store) == []


def test_a_number_too_large_for_float16_is_refused_and_fits_float32(ring_store: Store, tmp_path: Path):
    array = np.ones((600, 4))
    array[5, 1] = 70_000
    config = save(tmp_path / "x.npy", array)
    with pytest.raises(DataError, match=r"row 5 .*column 1: expected a number that fits float16, got 70000; set"):
        extract({"vision": config}, ring_store.path)
    extract({"vision": config.model_copy(update={"dtype": "float32"})}, ring_store.path)
    vectors, _ = FeatureRows.open(ring_store, "vision", 0, 600).gather(np.arange(600))
    assert vectors.max() == 70_000


def test_nothing_is_made_if_one_source_is_wrong(ring_store: Store, tmp_path: Path):
    features = {
        "good": save(tmp_path / "good.npy", np.ones((600, 4))),
        "short": save(tmp_path / "short.npy", np.ones((599, 4))),
    }
    with pytest.raises(DataError, match=r"short.npy: expected 600 rows"):
        extract(features, ring_store.path)
    assert tables(ring_store) == []
    with pytest.raises(DataError, match=r"gone.npy: expected a file, found none"):
        extract({"gone": ArrayConfig(path=tmp_path / "gone.npy")}, ring_store.path)


def test_unknown_keys_are_counted_and_told(ring_store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    keys = [f"e{i}" for i in range(10)] + [f"x{i}" for i in range(30)]
    table = pa.table({"key": keys, "vector": [[1.0, 2.0]] * 40})
    pq.write_table(table, tmp_path / "x.parquet")
    with caplog.at_level(logging.WARNING):
        config = ArrayConfig(path=tmp_path / "x.parquet", keys="key")
        manifest = extract({"vision": config}, ring_store.path)["vision"]
    assert manifest.num_present == 10 and manifest.coverage == pytest.approx(10 / 600)
    assert manifest.num_unknown_keys == 30
    assert manifest.unknown_keys == tuple(f"x{i}" for i in range(20))
    assert "x.parquet: 30 keys are not in the store" in caplog.text


def test_a_source_about_other_entities_is_refused(ring_store: Store, tmp_path: Path):
    (tmp_path / "x.tsv").write_text("key\tname\nx\tnobody\n")
    config = TextConfig(source=SentenceFileConfig(path=tmp_path / "x.tsv", columns=("name",)))
    with pytest.raises(DataError, match=r"no entity of the store has the modality \(1 keys are unknown, e\.g\. 'x'\)"):
        extract({"text": config}, ring_store.path)
    assert tables(ring_store) == []


@pytest.mark.parametrize("name", ["graph", "My Text", "../text"])
def test_names_that_cannot_be_used_are_refused(ring_store: Store, tmp_path: Path, name: str):
    with pytest.raises(ConfigError, match="expected a name of small letters"):
        extract({name: save(tmp_path / "x.npy", np.ones((600, 2)))}, ring_store.path)


def test_a_damaged_table_is_named_and_can_be_made_anew(ring_store: Store, tmp_path: Path):
    features = {"vision": save(tmp_path / "x.npy", np.ones((600, 2)))}
    extract(features, ring_store.path)
    (ring_store.feature_folder("vision") / "hot" / "shard-00003.npy").unlink()
    with pytest.raises(DataError, match=r"hot/shard-00003.npy: expected \d+ bytes, found none; remove the folder"):
        extract(features, ring_store.path)
    extract(features, ring_store.path, options=ExtractOptions(overwrite=True))
    ring_store.verify()


class Killed(BaseException):
    """Stands for the signal that ends a process."""


def extract_until_a_part_is_made(features: Mapping[str, FeatureConfig], store: Store) -> None:
    """Begin to extract, and end as a killed process does."""

    def stop(what: str, done: int, total: int) -> None:
        if done:
            raise Killed

    with pytest.raises(Killed):
        extract(features, store.path, progress=stop)


def test_a_killed_extraction_goes_on_with_the_parts_that_are_left(ring_store: Store, tmp_path: Path):
    path = tmp_path / "names.tsv"
    lines = [f"e{i}\tthe entity number {i} of the ring" for i in range(600) if i % 7]
    path.write_text("\n".join(["key\tname", *lines]) + "\n")
    source = SentenceFileConfig(path=path, columns=("name",))
    features = {"text": TextConfig(source=source, encoder=HashingConfig(width=32))}

    extract_until_a_part_is_made(features, ring_store)
    (partial,) = ring_store.path.glob("features/text.*.partial")
    marks = {mark: mark.stat().st_mtime_ns for mark in (partial / "parts").glob("*.npz")}
    assert 1 <= len(marks) <= 4
    # A part that was under way leaves files without a mark.
    last = max(marks)
    last.unlink()
    kept = {mark: time for mark, time in marks.items() if mark != last}

    reports: list[tuple[int, int]] = []
    extract(features, ring_store.path, progress=lambda _, done, total: reports.append((done, total)))
    assert reports[-1] == (514, 514)
    assert (reports[0][0] > 0) == bool(kept)
    resumed = contents(ring_store.feature_folder("text"))
    extract({"text": features["text"]}, ring_store.path)
    fresh = extract({"again": features["text"]}, ring_store.path)["again"]
    assert fresh.fingerprint == ring_store.feature("text").fingerprint
    at_once = contents(ring_store.feature_folder("again"))
    del resumed["manifest.json"], at_once["manifest.json"]
    assert resumed == at_once


def test_parts_of_another_source_are_not_gone_on_with(ring_store: Store, tmp_path: Path):
    extract_until_a_part_is_made({"vision": save(tmp_path / "x.npy", np.ones((600, 2)))}, ring_store)
    extract({"vision": save(tmp_path / "x.npy", np.full((600, 2), 2.0))}, ring_store.path)
    vectors, _ = FeatureRows.open(ring_store, "vision", 0, 600).gather(np.arange(600))
    assert (vectors == 2).all()


def test_the_last_breath_of_an_interrupted_extraction_stays_out_of_the_next(ring_store: Store, tmp_path: Path):
    extract_until_a_part_is_made({"vision": save(tmp_path / "x.npy", np.ones((600, 2)))}, ring_store)
    (old,) = ring_store.path.glob("features/vision.*.partial")
    mark = sorted((old / "parts").glob("*.npz"))[0]
    late = mark.read_bytes()

    def write_late(what: str, done: int, total: int) -> None:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_bytes(late)

    features = {"vision": save(tmp_path / "x.npy", np.full((600, 2), 2.0))}
    extract(features, ring_store.path, progress=write_late)
    vectors, _ = FeatureRows.open(ring_store, "vision", 0, 600).gather(np.arange(600))
    assert (vectors == 2).all()
    assert ring_store.modalities() == ("vision",)


def test_the_result_does_not_depend_on_the_number_of_actors(
    ring_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(600, 3)))
    one = extract({"one": config}, ring_store.path)["one"]
    monkeypatch.setattr(extraction, "_num_actors", lambda *_: 3)
    three = extract({"three": config}, ring_store.path)["three"]
    assert one.files == three.files


def test_sentences_through_a_sentence_model_in_actors(ring_store: Store, tmp_path: Path, tiny_model: Path):
    lines = [f"e{i}\t{'a city in the north' if i % 2 else 'the south'}" for i in range(600)]
    (tmp_path / "names.tsv").write_text("\n".join(["key\tname", *lines]) + "\n")
    encoder = SentenceTransformersConfig(model=str(tiny_model), num_actors=2, batch_size=16)
    source = SentenceFileConfig(path=tmp_path / "names.tsv", columns=("name",))
    manifest = extract({"text": TextConfig(source=source, encoder=encoder)}, ring_store.path)["text"]
    assert manifest.width == 32
    assert manifest.encoder.name == f"sentence_transformers {tiny_model}"
    vectors, _ = FeatureRows.open(ring_store, "text", 0, 600).gather(np.arange(600))
    by_source = vectors[ring_store.rows_of_source_ids]
    assert np.abs(by_source[0] - by_source[2]).max() < 1e-3 < np.abs(by_source[0] - by_source[1]).max()


def test_another_model_under_the_same_name_is_another_way(ring_store: Store, tmp_path: Path, tiny_model: Path):
    model = shutil.copytree(tiny_model, tmp_path / "model")
    (tmp_path / "names.tsv").write_text("key\tname\ne1\ta city\n")
    source = SentenceFileConfig(path=tmp_path / "names.tsv", columns=("name",))
    features = {"text": TextConfig(source=source, encoder=SentenceTransformersConfig(model=str(model)))}
    first = extract(features, ring_store.path)["text"]
    assert extract(features, ring_store.path)["text"] == first
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + b" ")
    with pytest.raises(DataError, match=r"made in another way"):
        extract(features, ring_store.path)
