"""Bags and names of a store of two graphs, through the ordinary extraction."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter

from snag_dist.errors import DataError
from snag_dist.kg.alignment_formats import read_alignment
from snag_dist.kg.bags import attribute_bag, relation_bag
from snag_dist.store.alignment_source import AlignmentConfig
from snag_dist.store.array_features import ArrayConfig
from snag_dist.store.bag_features import AttributeBagConfig, RelationBagConfig
from snag_dist.store.encoders import HashingConfig
from snag_dist.store.extract import ExtractOptions, FeatureConfig, extract
from snag_dist.store.gather import FeatureRows
from snag_dist.store.ingest import IngestConfig, ingest
from snag_dist.store.name_texts import NamesConfig
from snag_dist.store.opened import Store, open_store
from snag_dist.store.parquet_source import ParquetConfig
from snag_dist.store.samples import read_samples
from snag_dist.store.text_features import TextConfig

pytestmark = pytest.mark.ray


def stored(store: Store, name: str) -> dict[str, list[float]]:
    """Return the stored vector of each entity that has one, by key."""
    vectors, present = FeatureRows.open(store, name, 0, store.num_entities).gather(np.arange(store.num_entities))
    keys = store.entities()["key"].to_pylist()
    return {keys[row]: vectors[row].tolist() for row in np.flatnonzero(present)}


def test_bags_and_names_are_feature_tables(pair_store: Store, pair_folder: Path):
    features = {
        "relation": RelationBagConfig(),
        "attribute": AttributeBagConfig(folder=pair_folder, num_columns=1),
        "names": TextConfig(source=NamesConfig(), encoder=HashingConfig(width=64, analyzer="char_wb", ngram_max=3)),
    }
    manifests = extract(features, pair_store.path)
    # Relation 7 stands in three triples, relation 3 in one, from an entity to itself.
    assert stored(pair_store, "relation") == {
        "http://x/a_one": [1, 2],
        "http://x/b": [2, 0],
        "http://x/c": [1, 0],
        "http://y/a": [1, 0],
        "http://y/b_two": [1, 0],
    }
    # Three entities have a size, which leaves no column for age.
    assert stored(pair_store, "attribute") == {"http://x/a_one": [1], "http://x/b": [1], "http://y/a": [1]}
    assert manifests["attribute"].num_present == 3 and manifests["attribute"].width == 1
    names = stored(pair_store, "names")
    assert len(names) == 5
    np.testing.assert_allclose(np.linalg.norm(list(names.values()), axis=1), 1, atol=1e-3)
    of_row = {pair_store.entities()["key"].to_pylist()[row]: seen for row, seen in read_samples(pair_store).items()}
    assert of_row["http://x/a_one"] == {"relation": "7, 3", "attribute": "size", "names": "a one"}
    # Made in the same way, they are kept.
    assert extract(features, pair_store.path) == manifests


def test_a_bag_of_another_graph_is_not_taken_over(pair_store: Store, pair_folder: Path, tmp_path: Path):
    extract({"relation": RelationBagConfig()}, pair_store.path)
    folder = shutil.copytree(pair_folder, tmp_path / "grown")
    with (folder / "triples_2").open("a") as file:
        file.write("40\t7\t20\n")
    ingest(IngestConfig(source=AlignmentConfig(folder=folder), virtual_shards=3), tmp_path / "store")
    with pytest.raises(DataError, match=r"expected vectors by relation bag of 2 columns .*; encode alike, or extract"):
        extract({"relation": RelationBagConfig()}, tmp_path / "store", options=ExtractOptions(reuse=pair_store.path))


def test_counts_that_float16_would_round_are_refused(pair_folder: Path, tmp_path: Path, local_ray: None):
    folder = shutil.copytree(pair_folder, tmp_path / "pair")
    (folder / "triples_2").write_text("20\t7\t40\n" * 2049)
    ingest(IngestConfig(source=AlignmentConfig(folder=folder), virtual_shards=3), tmp_path / "store")
    with pytest.raises(
        DataError,
        match=r"store: entity 'http://y/\w+': expected counts up to 2048, which float16 holds exactly, got 2049; set "
        "dtype to float32",
    ):
        extract({"relation": RelationBagConfig()}, tmp_path / "store")
    extract({"relation": RelationBagConfig(dtype="float32")}, tmp_path / "store")
    assert stored(open_store(tmp_path / "store"), "relation")["http://y/a"] == [2049, 0]


def test_a_source_without_attributes_is_told(pair_store: Store, tmp_path: Path):
    with pytest.raises(
        DataError, match=r"expected attributes in training_attrs_1 or training_attrs_2, found neither; mend the folder"
    ):
        extract({"attribute": AttributeBagConfig(folder=tmp_path)}, pair_store.path)


def test_names_are_translated_ones_and_none_where_empty(pair_folder: Path, tmp_path: Path, local_ray: None):
    folder = shutil.copytree(pair_folder, tmp_path / "pair")
    (folder / "translated_names.tsv").write_text("10\tfirst\n40\tsecond\n")
    ingest(IngestConfig(source=AlignmentConfig(folder=folder), virtual_shards=3), tmp_path / "store")
    store = open_store(tmp_path / "store")
    config = TypeAdapter(FeatureConfig).validate_python({"kind": "text", "source": {"kind": "names"}})
    modality = config.open(store, tmp_path / "scratch")
    keys = store.entities()["key"].to_pylist()
    texts = {keys[row]: text for row, text in zip(modality.rows, modality.payload.to_pylist(), strict=True)}
    assert (texts["http://x/a_one"], texts["http://y/b_two"], texts["http://x/b"]) == ("first", "second", "b")
    assert modality.place(0) == f"name of {keys[0]!r} in {store.path}"


def test_an_entity_without_a_name_has_no_text(tmp_path: Path, local_ray: None):
    pq.write_table(pa.table({"key": ["a", "b"], "name": [" \t", "Bee"]}), tmp_path / "entities.parquet")
    triples = pa.table({"head": ["a"], "relation": ["r"], "tail": ["b"]})
    files = {split: tmp_path / f"{split}.parquet" for split in ("train", "valid", "test")}
    for file in files.values():
        pq.write_table(triples, file)
    source = ParquetConfig(**files, entities=tmp_path / "entities.parquet")
    ingest(IngestConfig(source=source, virtual_shards=1), tmp_path / "store")
    store = open_store(tmp_path / "store")
    modality = TextConfig(source=NamesConfig()).open(store, tmp_path / "scratch")
    assert modality.payload.to_pylist() == ["Bee"]
    assert store.entities()["key"][int(modality.rows[0])].as_py() == "b"


@pytest.mark.parametrize("normalise", [False, True])
def test_vectors_by_id_are_by_the_ids_of_the_files(pair_store: Store, tmp_path: Path, normalise: bool):
    vectors = {50: np.array([3.0, 4.0]), 20: np.array([0.0, 2.0]), 2: np.array([1.0, 1.0])}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(vectors))
    array = np.zeros((51, 2))
    array[list(vectors)] = list(vectors.values())
    np.save(tmp_path / "x.npy", array)
    for path in (tmp_path / "x.pkl", tmp_path / "x.npy"):
        config = ArrayConfig(path=path, keys="id", zero_is_missing=True, normalise=normalise)
        modality = config.open(pair_store, tmp_path / "scratch")
        keys = pair_store.entities()["key"].to_pylist()
        read = modality.encoder.spec.load().vectors(modality.payload)
        found = {keys[row]: vector.tolist() for row, vector in zip(modality.rows, read, strict=True)}
        scale = np.array([5.0, 2.0] if normalise else [1.0, 1.0])
        expected = {"http://x/c": vectors[50] / scale[0], "http://y/a": vectors[20] / scale[1]}
        assert found.keys() == expected.keys()
        for key, vector in expected.items():
            np.testing.assert_allclose(found[key], vector, rtol=1e-7)
        assert "2" in modality.unknown_keys


@pytest.mark.data
def test_zh_en_bags_are_those_of_the_mathematics(published: Callable[[str], Path], tmp_path: Path, local_ray: None):
    folder = published("DBP15K") / "zh_en"
    ingest(IngestConfig(source=AlignmentConfig(folder=folder)), tmp_path / "store")
    extract({"relation": RelationBagConfig(), "attribute": AttributeBagConfig(folder=folder)}, tmp_path / "store")
    store, pair = open_store(tmp_path / "store"), read_alignment(folder)
    bags = {"relation": relation_bag(pair.triples, pair.num_entities), "attribute": attribute_bag(pair.attributes)}
    assert {name: store.feature(name).num_present for name in bags} == {"relation": 38204, "attribute": 29840}
    for name, bag in bags.items():
        rows = FeatureRows.open(store, name, 0, store.num_entities)
        vectors, present = rows.gather(np.arange(store.num_entities))
        assert rows.width == 1000
        assert np.array_equal(present[store.rows_of_source_ids], bag.present)
        assert np.array_equal(vectors[store.rows_of_source_ids], bag.dense())
