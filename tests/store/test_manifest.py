import json
from pathlib import Path

import pytest

from snag_dist.errors import DataError
from snag_dist.store.manifest import (
    FeatureManifest,
    hash_file,
    hash_tree,
    read_manifest,
    record_files,
    verify_files,
    write_json,
    write_manifest,
)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "hot").mkdir()
    (tmp_path / "hot" / "shard.npy").write_bytes(b"abc")
    manifest = FeatureManifest(
        format_version=2,
        modality="text",
        store_fingerprint="0",
        identity="1",
        fingerprint="2",
        width=4,
        dtype="float16",
        num_entities=8,
        num_problems=0,
        num_present=6,
        num_unknown_keys=0,
        unknown_keys=(),
        source="somewhere",
        encoder={"name": "hashing", "revision": "1", "weights_sha256": "3"},  # pyright: ignore
        config={},
        files=record_files(tmp_path),
    )
    write_manifest(tmp_path, manifest)
    return tmp_path


def read(folder: Path) -> FeatureManifest:
    return read_manifest(folder, FeatureManifest, remedy="make it anew")


def test_known_sha256(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"abc")
    assert hash_file(tmp_path / "a").startswith("ba7816bf8f01cfea")


def test_tree_hash_ignores_the_order_of_keys_and_sees_values():
    assert hash_tree({"a": 1, "b": [2, 3]}) == hash_tree({"b": [2, 3], "a": 1})
    assert hash_tree({"a": 1}) != hash_tree({"a": 2})


def test_a_manifest_comes_back(table: Path):
    manifest = read(table)
    assert manifest.coverage == 0.75
    assert manifest.files["hot/shard.npy"].num_bytes == 3
    assert "manifest.json" not in manifest.files


def test_json_is_written_whole_or_not_at_all(tmp_path: Path):
    write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"x": {1: 2, "a": 3}, ("a", "b"): 1})  # pyright: ignore
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 1}


def test_no_manifest_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"manifest.json: expected a manifest, found none .*; make it anew"):
        read(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        read(tmp_path / "nowhere")


def test_another_format_version_is_refused(table: Path):
    path = table / "manifest.json"
    path.write_text(path.read_text().replace('"format_version": 2', '"format_version": 7'))
    with pytest.raises(DataError, match=r"expected format version 2, got 7; make it anew"):
        read(table)


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_what_is_no_manifest_is_refused(table: Path, text: str):
    (table / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=r"manifest.json: expected the manifest of a store"):
        read(table)


def test_a_field_that_is_wrong_is_named(table: Path):
    path = table / "manifest.json"
    path.write_text(path.read_text().replace('"width": 4', '"width": "wide"'))
    with pytest.raises(DataError, match=r"field width: .*; make it anew"):
        read(table)


def test_a_changed_size_is_refused(table: Path):
    (table / "hot" / "shard.npy").write_bytes(b"abcd")
    with pytest.raises(DataError, match=r"shard.npy: expected 3 bytes, found 4 bytes; make it anew"):
        read(table)


def test_a_missing_file_is_refused(table: Path):
    (table / "hot" / "shard.npy").unlink()
    with pytest.raises(DataError, match=r"shard.npy: expected 3 bytes, found none"):
        read(table)


def test_changed_content_of_the_same_size_is_found_by_hash(table: Path):
    manifest = read(table)
    verify_files(table, manifest.files, remedy="make it anew")
    (table / "hot" / "shard.npy").write_bytes(b"abd")
    with pytest.raises(DataError, match=r"shard.npy: expected sha256 ba7816bf8f01.*the file was changed"):
        verify_files(table, read(table).files, remedy="make it anew")
