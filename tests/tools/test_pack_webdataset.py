"""The tool and back: shards by virtual shard, read with our reader and with WebDataset's own."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

import pack_webdataset

from snag_dist.store.manifest import StoreManifest, write_manifest
from snag_dist.store.media.items import read_item
from snag_dist.store.media.webdataset import WebdatasetConfig
from snag_dist.store.opened import open_store
from snag_dist.store.schema import ENTITIES, ENTITY_SCHEMA, FORMAT_VERSION

# Row i is entity i; three virtual shards hold rows 0-1, 2-3 and 4-6.
KEYS = ["Q1", "/m/0.x", "Dr._No", "Zürich 北京", "50% off", "Q" * 120, "bare"]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store of seven entities without triples."""
    path = tmp_path / "store"
    path.mkdir()
    columns = [range(len(KEYS)), KEYS, [0] * len(KEYS), KEYS]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, ENTITY_SCHEMA, strict=True)]
    pq.write_table(pa.Table.from_arrays(arrays, schema=ENTITY_SCHEMA), path / ENTITIES)
    manifest = StoreManifest(
        format_version=FORMAT_VERSION,
        fingerprint="f" * 64,
        identity="i",
        seed=0,
        virtual_shards=3,
        num_entities=len(KEYS),
        num_relations=0,
        num_triples={},
        source="hand",
        config={},
        licence="none",
        audit={},
        versions={},
        files={},
    )
    write_manifest(path, manifest)
    return path


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """Pictures of five of the entities and of two strangers, and a table of texts."""
    folder = tmp_path / "pictures"
    for name in [
        "Q1.10.jpg",
        "Q1.9.PNG",
        "%2Fm%2F0%2Ex.jpg",
        "Dr._No/front.jpeg",
        "Dr._No/2.webp",
        f"{'Q' * 120}.0.jpg",
        "Zürich 北京/a.gif",
        "stranger.jpg",
        "other.0.jpg",
        "other.heic",
    ]:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    lines = [
        "id\tkey\tname\tabout",
        "1\tQ1\tOne\tfirst",
        "2\tDr._No\tNo\t",
        "3\t50% off\tHalf\tprice",
        "4\tnobody\tX\tY",
    ]
    (tmp_path / "texts.tsv").write_text("\n".join([*lines, "5\tbare\t\t"]) + "\n", encoding="utf-8")
    return folder


def run(*arguments: object) -> Result:
    program = typer.Typer()
    program.command()(pack_webdataset.main)
    return CliRunner().invoke(program, [str(argument) for argument in arguments])


def pack(store: Path, media: Path, out: Path, *more: object) -> dict[str, Any]:
    texts = ("--texts", media.parent / "texts.tsv", "--column", "name", "--column", "about")
    done = run("--pictures", media, "--store", store, "--out", out, *texts, *more)
    assert done.exit_code == 0, done.stderr
    return json.loads((out / "index.json").read_text(encoding="utf-8"))


def test_a_folder_becomes_shards_by_virtual_shard(store: Path, media: Path, tmp_path: Path):
    index = pack(store, media, tmp_path / "out")
    shards = [
        (shard["file"], shard["num_keys"], shard["num_pictures"], shard["num_texts"]) for shard in index["shards"]
    ]
    assert shards == [("shard-00000.tar", 2, 3, 1), ("shard-00001.tar", 2, 3, 1), ("shard-00002.tar", 2, 1, 1)]
    assert (index["num_keys"], index["num_pictures"], index["num_texts"]) == (6, 7, 3)
    assert index["unknown_keys_of_pictures"] == ["other", "stranger"]
    assert index["unknown_keys_of_texts"] == ["nobody"]
    assert index["problems"] == [[str(media / "other.heic"), "files with suffix 'heic' are not read"]]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["index.json", *(s[0] for s in shards)]


def test_our_reader_gives_back_keys_pictures_and_texts(store: Path, media: Path, tmp_path: Path):
    pack(store, media, tmp_path / "out")
    config = WebdatasetConfig(path=tmp_path / "out")
    listing = config.list_pictures(tmp_path)
    found = [[read_item(**item).decode() for item in items] for items in listing.items.to_pylist()]
    assert dict(zip(listing.keys.to_pylist(), found, strict=True)) == {
        "Q1": ["Q1.9.PNG", "Q1.10.jpg"],
        "/m/0.x": ["%2Fm%2F0%2Ex.jpg"],
        "Dr._No": ["Dr._No/2.webp", "Dr._No/front.jpeg"],
        "Zürich 北京": ["Zürich 北京/a.gif"],
        "Q" * 120: [f"{'Q' * 120}.0.jpg"],
    }
    texts = config.read_texts()
    assert dict(zip(texts.keys.to_pylist(), texts.texts.to_pylist(), strict=True)) == {
        "Q1": "One. first",
        "Dr._No": "No",
        "50% off": "Half. price",
    }


def test_webdatasets_own_reader_agrees(store: Path, media: Path, tmp_path: Path):
    webdataset = pytest.importorskip("webdataset")
    pack(store, media, tmp_path / "out")
    shards = [str(path) for path in sorted((tmp_path / "out").glob("*.tar"))]
    samples = list(webdataset.WebDataset(shards, shardshuffle=False))
    content = {sample["__key__"]: {k: v for k, v in sample.items() if not k.startswith("__")} for sample in samples}
    # A key that stands apart from its members would come as two samples.
    assert len(samples) == len(content) == 6
    assert content == {
        "Q1": {"0.png": b"Q1.9.PNG", "1.jpg": b"Q1.10.jpg", "txt": b"One. first"},
        "%2Fm%2F0%2Ex": {"0.jpg": b"%2Fm%2F0%2Ex.jpg"},
        "Dr%2E_No": {"0.webp": b"Dr._No/2.webp", "1.jpeg": b"Dr._No/front.jpeg", "txt": b"No"},
        "Zürich 北京": {"0.gif": "Zürich 北京/a.gif".encode()},
        "50%25 off": {"txt": b"Half. price"},
        "Q" * 120: {"0.jpg": f"{'Q' * 120}.0.jpg".encode()},
    }


def test_the_same_folder_gives_the_same_bytes(store: Path, media: Path, tmp_path: Path):
    first = pack(store, media, tmp_path / "out")
    for path in media.rglob("*"):
        os.utime(path, (1, 1))
    second = pack(store, media, tmp_path / "again")
    assert [shard["sha256"] for shard in first["shards"]] == [shard["sha256"] for shard in second["shards"]]


def test_what_is_there_is_not_replaced(store: Path, media: Path, tmp_path: Path):
    (tmp_path / "out").mkdir()
    done = run("--pictures", media, "--store", store, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "out: expected a folder to make, got one that is there; remove it, or name another" in done.stderr


def test_what_fails_leaves_nothing(store: Path, media: Path, tmp_path: Path):
    lines = "key\tname\nQ1\ta\nQ1\tb\n"
    (tmp_path / "twice.tsv").write_text(lines)
    texts = ("--texts", tmp_path / "twice.tsv", "--column", "name")
    done = run("--pictures", media, "--store", store, "--out", tmp_path / "out", *texts)
    assert done.exit_code == 2
    assert "twice.tsv line 3: key 'Q1' already stands in" in done.stderr
    for path in (tmp_path / "out", tmp_path / "out.partial"):
        assert not path.exists()


def test_no_key_in_common_is_said(store: Path, tmp_path: Path):
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "x.jpg").touch()
    done = run("--pictures", tmp_path / "strange", "--store", store, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "expected pictures or texts of entities of" in done.stderr
    assert "found none (1 keys are unknown, e.g. x); compare the keys" in done.stderr


def test_options_that_do_not_fit_are_said(store: Path, media: Path, tmp_path: Path):
    base = ("--pictures", media, "--store", store, "--out", tmp_path / "out")
    assert "expected key or id" in run(*base, "--keys", "name").stderr
    assert "expected both or neither" in run(*base, "--column", "name").stderr


def test_names_may_be_ids(store: Path, tmp_path: Path):
    (tmp_path / "ids").mkdir()
    for number in range(len(KEYS)):
        (tmp_path / "ids" / f"{number}.jpg").write_text(str(number))
    done = run("--pictures", tmp_path / "ids", "--store", store, "--out", tmp_path / "out", "--keys", "id")
    assert done.exit_code == 0, done.stderr
    listing = WebdatasetConfig(path=tmp_path / "out").list_pictures(tmp_path)
    rows = open_store(store).rows_of_source_ids
    expected = {KEYS[row]: str(number) for number, row in enumerate(np.asarray(rows))}
    found = [read_item(**items[0]).decode() for items in listing.items.to_pylist()]
    assert dict(zip(listing.keys.to_pylist(), found, strict=True)) == expected
