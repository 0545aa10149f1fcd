from pathlib import Path

import pyarrow as pa
import pytest

from snag_dist.errors import DataError
from snag_dist.store.media.listing import (
    Problems,
    References,
    expand_path,
    hash_columns,
    make_listing,
    make_texts,
    text_bytes,
)


def text(*values: str) -> pa.Array:
    return pa.array(values, pa.large_string())


def test_references_are_grouped_by_key_in_the_order_given():
    references = References()
    for key, order, name in [("b", "2", "b2"), ("a", "1", "a1"), ("b", "1", "b1"), ("b", "2", "b2 again")]:
        references.add(key, order, name, f"/x/{name}", 5, 7)
    listing = make_listing(references.table(), lambda path, name: f"{path} {name}", "x", "hash", ())
    assert listing.keys.to_pylist() == ["a", "b"]
    assert [[item["path"] for item in items] for items in listing.items.to_pylist()] == [
        ["/x/a1"],
        ["/x/b1", "/x/b2", "/x/b2 again"],
    ]
    assert listing.place(1) == "/x/b1 b1"
    assert listing.num_items == 4


def test_no_references_are_an_empty_listing():
    listing = make_listing(References().table(), lambda path, _: path, "x", "hash", ())
    assert (len(listing.keys), len(listing.items), listing.num_items) == (0, 0, 0)


def test_texts_of_a_key_are_joined_once_each_and_empty_ones_left_out():
    texts = make_texts(
        text("a", "a", "a", "b", "c", "c"),
        ["x ", "", "x", "  ", "", "y"],
        join="; ",
        place=lambda position: f"line {position}",
        source="x",
    )
    assert texts.keys.to_pylist() == ["a", "c"]
    assert texts.texts.to_pylist() == ["x", "y"]
    assert texts.place(1) == "line 4"


def test_hashes_tell_columns_apart_but_not_their_chunks():
    whole = text("ab", "c", "d")
    assert hash_columns([], whole) == hash_columns([], text("x", "ab", "c", "d").slice(1))
    others = [
        hash_columns([], text("a", "bc", "d")),
        hash_columns([], text("ab", "c"), text("d")),
        hash_columns(["ab"], text("c", "d")),
        hash_columns([], whole, pa.array([1])),
        hash_columns([], whole, pa.array([2])),
    ]
    assert len({hash_columns([], whole), *others}) == 6


def test_the_bytes_of_a_slice_are_its_own():
    assert bytes(text_bytes(text("ab", "cd", "ef").slice(1, 1))) == b"cd"
    assert bytes(text_bytes(text())) == b""


def test_problems_are_counted_by_reason():
    problems = Problems()
    problems.add("x/b", "is odd")
    problems.add("x/a", "is odd")
    problems.add("x/a", "is torn")
    assert problems.lines() == (("x/a", "is torn"), ("x/b", "is odd (2 such)"))
    for number in range(200):
        problems.add("x/z", f"reason {number}")
    assert len(problems.lines()) == 101
    assert ("x/z", "cannot be used, for other reasons (102 such)") in problems.lines()


def test_paths_are_files_folders_and_globs(tmp_path: Path):
    for name in ("b.tar", "a.tar", "c.txt"):
        (tmp_path / name).touch()
    (tmp_path / "d.tar").mkdir()
    assert [file.name for file in expand_path(tmp_path, "*.tar", "a tar")] == ["a.tar", "b.tar"]
    assert [file.name for file in expand_path(tmp_path / "[bc].*", "*.tar", "a tar")] == ["b.tar", "c.txt"]
    assert expand_path(tmp_path / "c.txt", "*.tar", "a tar") == [tmp_path / "c.txt"]
    for missing in ("e.tar", "*.zip"):
        with pytest.raises(DataError, match="expected a tar, a folder of them or a glob, found none; mend the path"):
            expand_path(tmp_path / missing, "*.tar", "a tar")
