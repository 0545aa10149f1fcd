import shutil
from pathlib import Path

import pytest

from snag_dist.errors import DataError
from snag_dist.store.opened import Store, open_store

pytestmark = pytest.mark.ray


def test_a_store_without_manifest_is_refused(letter_store: Store):
    (letter_store.path / "manifest.json").unlink()
    with pytest.raises(DataError, match=r"manifest.json: expected a manifest, found none .*jobs/ingest.py"):
        open_store(letter_store.path)


def test_a_truncated_file_is_refused(letter_store: Store):
    path = letter_store.path / "entities.parquet"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match=r"entities.parquet: expected \d+ bytes, found \d+ bytes; make the store"):
        open_store(letter_store.path)


def test_a_flipped_byte_is_found_by_verify(letter_store: Store):
    letter_store.verify()
    path = letter_store.triple_parts("train")[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"train/part-000000-0.parquet: expected sha256 .*the file was changed"):
        open_store(letter_store.path).verify()


def test_an_unknown_split_is_named(letter_store: Store):
    with pytest.raises(DataError, match="split 'dev': expected one of train, valid, test"):
        letter_store.triples("dev")


def test_a_modality_that_is_not_there_is_named(world_store: Store):
    assert world_store.modalities() == ("text", "vision")
    with pytest.raises(DataError, match=r"no features for modality 'audio' \(it has: text, vision\)"):
        world_store.feature("audio")


def test_features_of_another_store_are_refused(world_store: Store, letter_store: Store):
    shutil.copytree(world_store.feature_folder("text"), letter_store.feature_folder("text"))
    with pytest.raises(DataError, match=r"features belong to store .*, this store is .*; remove the folder"):
        letter_store.feature("text")


def test_a_store_can_be_moved(letter_store: Store, tmp_path: Path):
    moved = tmp_path / "moved"
    shutil.move(letter_store.path, moved)
    assert open_store(moved).triples("train").shape == (6, 3)
