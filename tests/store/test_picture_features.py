"""Pictures in a folder through actors to a table: means by hand, problems by key, resume, reuse."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from snag_dist.errors import DataError
from snag_dist.store.encoders import PixelsConfig
from snag_dist.store.extract import ExtractOptions, extract
from snag_dist.store.gather import FeatureRows
from snag_dist.store.media.folder import FolderConfig
from snag_dist.store.opened import Store, open_store
from snag_dist.store.picture_features import PicturesConfig, first_items

KEYS = "abcdef"


def save(folder: Path, name: str, colour: tuple[int, int, int]) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), colour).save(path)


def config(folder: Path, **fields: object) -> PicturesConfig:
    pixels = PixelsConfig(side=1, batch_size=2)
    return PicturesConfig(source=FolderConfig(path=folder), encoder=pixels, dtype="float32", **fields)  # pyright: ignore


def gathered(store: Store, name: str = "vision") -> dict[str, list[float] | None]:
    vectors, present = FeatureRows.open(store, name, 0, 6).gather(np.arange(6))
    keys = store.entities()["key"].to_pylist()
    return {key: vector.tolist() if there else None for key, vector, there in zip(keys, vectors, present, strict=True)}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Entity a has three pictures of which one is broken, b one, c a broken one, x is unknown."""
    folder = tmp_path / "pictures"
    save(folder, "a/1.png", (255, 255, 255))
    save(folder, "a/2.png", (0, 0, 0))
    (folder / "a" / "3.png").write_bytes(b"")
    save(folder, "b.png", (255, 0, 0))
    (folder / "c.jpg").write_bytes(b"no picture")
    save(folder, "x.png", (1, 2, 3))
    return folder


@pytest.mark.ray
def test_pictures_are_averaged_and_broken_ones_are_told_by_key(letter_store: Store, pictures: Path):
    manifest = extract({"vision": config(pictures)}, letter_store.path)["vision"]
    assert gathered(letter_store) == {
        "a": [0.0, 0.0, 0.0],
        "b": [1.0, -1.0, -1.0],
        "c": None,
        "d": None,
        "e": None,
        "f": None,
    }
    assert (manifest.num_present, manifest.num_problems, manifest.unknown_keys) == (2, 2, ("x",))
    folder = letter_store.feature_folder("vision")
    keys = letter_store.entities()["key"].to_pylist()
    problems = {keys[line["row"]]: line for line in pq.read_table(folder / "problems.parquet").to_pylist()}
    assert problems["a"]["item"] == str(pictures / "a" / "3.png")
    assert "empty" in problems["a"]["reason"]
    assert problems["c"]["item"] == str(pictures / "c.jpg")
    counts = {
        keys[line["row"]]: line["num_items"]
        for part in sorted((folder / "table").glob("*.parquet"))
        for line in pq.read_table(part).to_pylist()
    }
    assert counts == {"a": 2, "b": 1}
    report = letter_store.feature_report("vision")
    assert (report.num_items, report.most_items, sum(report.problems.values())) == (3, 2, 2)
    letter_store.verify()


@pytest.mark.ray
def test_strict_stops_at_a_broken_picture_and_leaves_nothing(letter_store: Store, pictures: Path):
    with pytest.raises(DataError) as error:
        extract({"vision": config(pictures)}, letter_store.path, options=ExtractOptions(strict=True))
    message = str(error.value)
    assert "(entity 'a')" in message or "(entity 'c')" in message
    assert "mend or remove it, or extract without --strict" in message
    assert not letter_store.modalities()
    assert not list((letter_store.path / "features").glob("*"))


@pytest.mark.ray
def test_the_first_pictures_are_used_if_so_asked(letter_store: Store, pictures: Path):
    extract({"vision": config(pictures, max_per_entity=1)}, letter_store.path)
    assert gathered(letter_store)["a"] == [1.0, 1.0, 1.0]


def test_the_first_items_of_lists_by_hand():
    items = pa.array([[1, 2, 3], [4], [5, 6]], pa.large_list(pa.int64()))
    assert first_items(items, 2).to_pylist() == [[1, 2], [4], [5, 6]]
    assert first_items(items.slice(1), 1).to_pylist() == [[4], [5]]
    assert first_items(items, None).to_pylist() == items.to_pylist()


@pytest.mark.ray
def test_only_new_keys_are_encoded_when_vectors_are_reused(
    letter_store: Store, ingested_letters: Path, pictures: Path, tmp_path: Path
):
    extract({"vision": config(pictures)}, letter_store.path)
    # The picture of b has changed and d is new: b is kept as it was, d is made.
    save(pictures, "b.png", (0, 255, 0))
    save(pictures, "d.png", (0, 0, 255))
    extract({"vision": config(pictures)}, letter_store.path, options=ExtractOptions(reuse=letter_store.path))
    assert gathered(letter_store)["a"] == [0.0, 0.0, 0.0]
    assert gathered(letter_store)["b"] == [1.0, -1.0, -1.0]
    assert gathered(letter_store)["d"] == [-1.0, -1.0, 1.0]
    # Another store takes all of them over, with the number of pictures.
    other = open_store(shutil.copytree(ingested_letters, tmp_path / "other"))
    extract({"vision": config(pictures)}, other.path, options=ExtractOptions(reuse=letter_store.path))
    assert gathered(other) == gathered(letter_store)
    assert other.feature_report("vision").num_items == 4


@pytest.mark.ray
def test_vectors_of_another_encoder_are_not_reused(letter_store: Store, pictures: Path):
    extract({"vision": config(pictures)}, letter_store.path)
    finer = config(pictures).model_copy(update={"encoder": PixelsConfig(side=2)})
    with pytest.raises(DataError, match=r"expected vectors by pixels 2 x 2 rgb as float32, got pixels 1 x 1 rgb"):
        extract({"vision": finer}, letter_store.path, options=ExtractOptions(reuse=letter_store.path))
    assert letter_store.feature("vision").width == 3


@pytest.mark.ray
def test_what_was_listed_tells_whether_a_table_is_the_one_asked_for(letter_store: Store, pictures: Path):
    first = extract({"vision": config(pictures)}, letter_store.path)["vision"]
    assert extract({"vision": config(pictures)}, letter_store.path)["vision"] == first
    save(pictures, "e.png", (9, 9, 9))
    with pytest.raises(DataError, match="made in another way"):
        extract({"vision": config(pictures)}, letter_store.path)
