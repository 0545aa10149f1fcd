import os
from pathlib import Path

import pyarrow as pa
import pytest

from snag_dist.errors import DataError
from snag_dist.store.media.folder import FolderConfig
from snag_dist.store.media.items import ITEM, Listing, read_item


def write(folder: Path, *names: str) -> None:
    """Write files that hold their own names."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def contents(listing: Listing) -> dict[str, list[str]]:
    """Return what the pictures of each key hold."""
    return {
        key: [read_item(**item).decode() for item in items]
        for key, items in zip(listing.keys.to_pylist(), listing.items.to_pylist(), strict=True)
    }


def pictures(folder: Path) -> Listing:
    return FolderConfig(path=folder).list_pictures(folder / "scratch")


def test_folders_and_files_side_by_side_in_natural_order(tmp_path: Path):
    write(tmp_path, "a/10.jpg", "a/2.PNG", "a/cover.webp", "b.1.jpg", "b.0.jpeg", "b.gif", "b/7.bmp", "c.x.TIFF")
    assert contents(pictures(tmp_path)) == {
        "a": ["a/2.PNG", "a/10.jpg", "a/cover.webp"],
        "b": ["b.gif", "b.0.jpeg", "b.1.jpg", "b/7.bmp"],
        "c": ["c.x.TIFF"],
    }


def test_keys_are_decoded_and_dots_end_them_in_file_names_only(tmp_path: Path):
    write(tmp_path, "http%3A%2F%2Fx%2Eorg%2FA.jpg", "Dr._No/0.jpg", "Dr%2E_No.1.jpg", "Dr._No.2.jpg")
    assert contents(pictures(tmp_path)) == {
        "Dr": ["Dr._No.2.jpg"],
        "Dr._No": ["Dr._No/0.jpg", "Dr%2E_No.1.jpg"],
        "http://x.org/A": ["http%3A%2F%2Fx%2Eorg%2FA.jpg"],
    }


def test_what_cannot_be_used_is_counted(tmp_path: Path):
    write(tmp_path, "a.heic", "a/0.heic", "b/0.jpg", "b/more/0.jpg", "README", "c/README", "b.txt", "b.json")
    write(tmp_path, ".hidden.jpg", "a/.0.jpg", ".git/x.jpg")
    (tmp_path / "d.jpg").symlink_to(tmp_path / "nothing")
    write(tmp_path, "%ff.jpg")
    os.mkfifo(tmp_path / "e.jpg")
    listing = pictures(tmp_path)
    assert contents(listing) == {"b": ["b/0.jpg"]}
    reasons = {reason: Path(place).relative_to(tmp_path).as_posix() for place, reason in listing.problems}
    assert reasons.pop("files with suffix 'heic' are not read (2 such)") in ("a.heic", "a/0.heic")
    assert reasons == {
        "a folder inside the folder of a key is not read": "b/more",
        "a name without a suffix belongs to no key": "README",
        "files with suffix '' are not read": "c/README",
        "the name is not UTF-8": "%ff.jpg",
        "a link to nothing stands in the place of a picture or text": "d.jpg",
        "no regular file stands in the place of a picture or text": "e.jpg",
    }


def test_names_that_are_not_utf8_are_shown(tmp_path: Path):
    with open(os.fsencode(tmp_path) + b"/caf\xe9.jpg", "wb"):  # noqa: PTH123
        pass
    listing = pictures(tmp_path)
    assert not len(listing.keys)
    assert listing.problems == ((f"{tmp_path}/caf\\udce9.jpg", "the name is not UTF-8"),)


def test_links_inside_the_folder_are_followed(tmp_path: Path):
    write(tmp_path, "store/0.jpg")
    (tmp_path / "a.jpg").symlink_to("store/0.jpg")
    (tmp_path / "b").symlink_to("store")
    assert contents(pictures(tmp_path)) == {key: ["store/0.jpg"] for key in ("a", "b", "store")}
    (tmp_path.parent / f"{tmp_path.name}_link").symlink_to(tmp_path)
    assert len(pictures(tmp_path.parent / f"{tmp_path.name}_link").keys) == 3


@pytest.mark.parametrize("name", ["a.jpg", "a", "b/0.jpg"])
def test_links_that_leave_the_folder_are_refused(tmp_path: Path, name: str):
    write(tmp_path, "outside/0.jpg", "in/b/1.jpg", "inside/0.jpg")
    target = tmp_path / "outside" / ("0.jpg" if "." in name else "")
    (tmp_path / "in" / name).symlink_to(target)
    message = rf"in/{name}: expected a file of the folder, got a link that leads out of it, to .*outside.*; copy the"
    with pytest.raises(DataError, match=message):
        pictures(tmp_path / "in")


def test_a_link_to_a_folder_of_a_like_name_leaves_too(tmp_path: Path):
    write(tmp_path, "in-other/0.jpg", "in/1.jpg")
    (tmp_path / "in" / "a.jpg").symlink_to(tmp_path / "in-other" / "0.jpg")
    with pytest.raises(DataError, match="leads out of it"):
        pictures(tmp_path / "in")


def test_a_missing_folder_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"nowhere: expected a folder, found none; mend the path"):
        pictures(tmp_path / "nowhere")


def test_identity_is_of_names_and_sizes(tmp_path: Path):
    for folder in ("x", "y"):
        write(tmp_path / folder, "a/0.jpg", "b.jpg")
    identities = {pictures(tmp_path / folder).identity for folder in ("x", "y")}
    assert identities == {FolderConfig(path=tmp_path / "x").identity("pictures")}
    (tmp_path / "x" / "b.jpg").write_text("longer than it was")
    identities.add(pictures(tmp_path / "x").identity)
    (tmp_path / "y" / "b.jpg").rename(tmp_path / "y" / "c.jpg")
    identities.add(pictures(tmp_path / "y").identity)
    assert len(identities) == 3


def test_texts_are_joined_in_order(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "10.txt").write_text(" last\n")
    (tmp_path / "a" / "9.txt").write_text("\ufefffirst\n", encoding="utf-8")
    (tmp_path / "b.txt").write_text("Zürich", encoding="utf-8")
    (tmp_path / "c.txt").write_text(" \n")
    write(tmp_path, "a/0.jpg", "d.jpg", "d.heic")
    config = FolderConfig(path=tmp_path, join=" | ")
    texts = config.read_texts()
    assert dict(zip(texts.keys.to_pylist(), texts.texts.to_pylist(), strict=True)) == {
        "a": "first | last",
        "b": "Zürich",
    }
    assert texts.place(0) == str(tmp_path / "a" / "9.txt")
    assert texts.problems == ()
    assert texts.identity == config.identity("texts")
    (tmp_path / "b.txt").write_text("Zurich!")
    assert texts.identity != config.identity("texts")


def test_text_that_is_not_utf8_is_named(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    with pytest.raises(DataError, match=r"a.txt: expected UTF-8, got .*0xe9.*; convert the file \(iconv\)"):
        FolderConfig(path=tmp_path).read_texts()


def test_twenty_thousand_files_stay_columns_in_one_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for number in range(2_000):
        folder = tmp_path / f"key {number % 997}"
        folder.mkdir(exist_ok=True)
        for picture in range(10):
            (folder / f"{number}.{picture}.jpg").touch()
    listing = pictures(tmp_path)
    assert isinstance(listing.keys, pa.LargeStringArray)
    assert listing.items.type == pa.large_list(ITEM)
    assert (len(listing.keys), listing.num_items) == (997, 20_000)
    assert listing.items.nbytes < 20_000 * 200
    scandir = os.scandir

    class Reversed:
        """A directory that the system lists from its end."""

        def __init__(self, folder: str) -> None:
            self.entries = sorted(scandir(folder), key=lambda entry: entry.name, reverse=True)

        def __enter__(self) -> list[os.DirEntry[str]]:
            return self.entries

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(os, "scandir", Reversed)
    again = pictures(tmp_path)
    assert again.keys.equals(listing.keys)
    assert again.items.equals(listing.items)
    assert again.identity == listing.identity
