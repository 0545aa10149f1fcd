import json
from pathlib import Path

import pyarrow as pa
import pytest
from tars import patch, write

from snag_dist.errors import DataError
from snag_dist.store.media.items import ITEM, Listing, read_item
from snag_dist.store.media.webdataset import WebdatasetConfig


def shard(path: Path, *names: str) -> Path:
    """Write a shard whose members hold their own names."""
    return write(path, *((name, name.encode()) for name in names))


def pictures(path: Path | tuple[Path, ...], **fields: object) -> Listing:
    return WebdatasetConfig(path=path, **fields).list_pictures(Path("unused"))  # pyright: ignore


def contents(listing: Listing) -> dict[str, list[str]]:
    return {
        key: [read_item(**item).decode() for item in items]
        for key, items in zip(listing.keys.to_pylist(), listing.items.to_pylist(), strict=True)
    }


def test_members_of_several_shards_by_key_in_natural_order(tmp_path: Path):
    shard(tmp_path / "1.tar", "b.10.jpg", "b.2.JPG", "b.txt", "b.json", "a.jpg")
    shard(tmp_path / "2.tar", "b.3.png", "c.left.0.webp")
    listing = pictures(tmp_path)
    assert contents(listing) == {"a": ["a.jpg"], "b": ["b.2.JPG", "b.3.png", "b.10.jpg"], "c": ["c.left.0.webp"]}
    assert listing.place(1) == f"{tmp_path}/1.tar member b.2.JPG"
    assert listing.problems == ()
    for path in (tmp_path / "*.tar", (tmp_path / "1.tar", tmp_path / "2.tar", tmp_path / "1.tar")):
        assert contents(pictures(path)) == contents(listing)


def test_folders_are_part_of_the_key_or_ignored(tmp_path: Path):
    path = shard(tmp_path / "x.tar", "./a.0.jpg", "m/02%2Ex.jpg", "v1.0/b.jpg", "%2Fm%2F1.jpg")
    assert contents(pictures(path)) == {
        "/m/1": ["%2Fm%2F1.jpg"],
        "a": ["./a.0.jpg"],
        "m/02.x": ["m/02%2Ex.jpg"],
        "v1.0/b": ["v1.0/b.jpg"],
    }
    assert list(contents(pictures(path, folders="ignore"))) == ["/m/1", "02.x", "a", "b"]


def test_members_that_cannot_be_used_are_counted(tmp_path: Path):
    path = shard(tmp_path / "x.tar", "a.heic", "b.0.heic", "c.jpg", "README", "%ff.jpg", ".c.jpg", "__meta__/x.jpg")
    listing = pictures(path)
    assert contents(listing) == {"c": ["c.jpg"]}
    assert listing.problems == (
        (f"{path} member %ff.jpg", "the name is not UTF-8"),
        (f"{path} member README", "a name without a suffix belongs to no key"),
        (f"{path} member a.heic", "members with suffix 'heic' are not read (2 such)"),
    )


def test_names_that_are_not_utf8_are_counted(tmp_path: Path):
    path = shard(tmp_path / "x.tar", "cafX.jpg")
    path.write_bytes(path.read_bytes().replace(b"cafX", b"caf\xe9"))
    patch(path, 0, 0, b"caf\xe9")
    assert pictures(path).problems == ((f"{path} member caf\ufffd.jpg", "the name is not UTF-8"),)


def test_a_name_that_stands_twice_is_refused(tmp_path: Path):
    shard(tmp_path / "y.tar", "a.0.jpg")
    assert contents(pictures((shard(tmp_path / "x.tar", "a.0.jpg"), tmp_path / "y.tar"))) == {"a": ["a.0.jpg"] * 2}
    shard(tmp_path / "x.tar", "a.0.jpg", "b.jpg", "a.0.jpg")
    with pytest.raises(
        DataError, match=r"x.tar member a.0.jpg: expected a name once, got it twice in the shard; write"
    ):
        pictures(tmp_path)


@pytest.mark.parametrize("name", ["x.tar.gz", "x.TAR.zst", "x.tgz"])
def test_compressed_shards_in_a_folder_are_refused(tmp_path: Path, name: str):
    shard(tmp_path / "y.tar", "a.jpg")
    (tmp_path / name).touch()
    with pytest.raises(
        DataError, match=rf"{name}: expected plain .tar shards, got a compressed one; a picture is read"
    ):
        pictures(tmp_path)


def test_a_shard_that_is_wrong_is_named_among_others(tmp_path: Path):
    for number in range(20):
        shard(tmp_path / f"{number:02}.tar", f"{number}.jpg")
    (tmp_path / "13.tar").write_bytes(b"")
    with pytest.raises(DataError, match=r"13.tar: expected a tar, got an empty file"):
        pictures(tmp_path)
    with pytest.raises(DataError, match=r"nowhere: expected a tar shard, a folder of them or a glob, found none"):
        pictures(tmp_path / "nowhere")


def test_identity_is_of_names_sizes_and_members(tmp_path: Path):
    identities = [pictures(shard(tmp_path / "x.tar", "a.jpg", "b.jpg")).identity]
    assert WebdatasetConfig(path=tmp_path / "x.tar").identity("pictures") == identities[0]
    identities.append(pictures(shard(tmp_path / "x.tar", "b.jpg", "a.jpg")).identity)
    identities.append(pictures(write(tmp_path / "x.tar", ("a.jpg", b"12345"), ("b.jpg", b"1234"))).identity)
    identities.append(pictures(shard(tmp_path / "y.tar", "a.jpg", "b.jpg")).identity)
    assert len(set(identities)) == 4


def test_texts_are_members_or_fields(tmp_path: Path):
    fields = [{"caption": " an A ", "year": 1}, {"caption": None}, {}]
    write(
        tmp_path / "x.tar",
        ("a.txt", b" text of a\n"),
        ("a.json", json.dumps(fields[0]).encode()),
        ("b.10.txt", b"second"),
        ("b.9.txt", b"\xef\xbb\xbffirst"),
        ("b.json", json.dumps(fields[1]).encode()),
        ("c.json", json.dumps(fields[2]).encode()),
        ("c.jpg", b"x"),
        ("d.heic", b"x"),
    )
    path = tmp_path / "x.tar"
    texts = WebdatasetConfig(path=path).read_texts()
    assert dict(zip(texts.keys.to_pylist(), texts.texts.to_pylist(), strict=True)) == {
        "a": "text of a",
        "b": "first second",
    }
    assert texts.place(1) == f"{path} member b.9.txt"
    assert texts.problems == ()
    assert texts.identity == WebdatasetConfig(path=path).identity("texts")
    texts = WebdatasetConfig(path=path, text="caption").read_texts()
    assert (texts.keys.to_pylist(), texts.texts.to_pylist()) == (["a"], ["an A"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"caf\xe9", r"x.tar member a.txt: expected UTF-8, got .*; convert the text \(iconv\)"),
        ("a.json", b"{", r"x.tar member a.json: expected JSON, got: .*; mend the member"),
        ("a.json", b"[" * 100_000, r"x.tar member a.json: expected JSON, got: "),
        ("a.json", b"[1]", r"expected a JSON object whose field 'caption' is text, got list; set text to a field"),
        ("a.json", b"null", r"expected a JSON object whose field 'caption' is text, got NoneType"),
        ("a.json", b'{"caption": 3}', r"expected a JSON object whose field 'caption' is text, got int"),
    ],
)
def test_texts_that_are_wrong_are_named(tmp_path: Path, name: str, content: bytes, message: str):
    path = write(tmp_path / "x.tar", (name, content))
    with pytest.raises(DataError, match=message):
        WebdatasetConfig(path=path, text="txt" if name == "a.txt" else "caption").read_texts()


def test_twenty_thousand_members_stay_columns_in_one_order(tmp_path: Path):
    names = [f"k{number % 997}.{number}.jpg" for number in range(20_000)]
    write(tmp_path / "x.tar", *((name, b"") for name in names))
    listing = pictures(tmp_path)
    assert isinstance(listing.keys, pa.LargeStringArray)
    assert listing.items.type == pa.large_list(ITEM)
    assert (len(listing.keys), listing.num_items) == (997, 20_000)
    write(tmp_path / "x.tar", *((name, b"") for name in reversed(names)))
    again = pictures(tmp_path)
    assert again.keys.equals(listing.keys)
    assert again.items.value_lengths().equals(listing.items.value_lengths())
    # Of the second key, k1: members 1, 998, 1995 and so on, counted from the end now.
    offsets = [item["offset"] for item in again.items[1].as_py()]
    assert offsets == [(19_999 - number) * 512 + 512 for number in range(1, 20_000, 997)]
