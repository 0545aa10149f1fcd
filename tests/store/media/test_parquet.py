from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from snag_dist.errors import ConfigError, DataError
from snag_dist.store.media.items import ITEM, Listing, read_item
from snag_dist.store.media.parquet import MediaParquetConfig
from snag_dist.store.sentences import RowFilter

HF = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write(path: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=2)
    return path


def pictures(path: Path, scratch: Path | None = None, **fields: object) -> Listing:
    config = MediaParquetConfig(path=path, image_column="image", **fields)  # pyright: ignore
    return config.list_pictures(scratch or path.parent / "scratch")


def contents(listing: Listing) -> dict[str, list[bytes]]:
    return {
        key: [read_item(**item) for item in items]
        for key, items in zip(listing.keys.to_pylist(), listing.items.to_pylist(), strict=True)
    }


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary(2)])
def test_bytes_of_several_lines_are_pictures_in_their_order(tmp_path: Path, kind: pa.DataType):
    path = write(
        tmp_path / "x.parquet",
        key=["b", "a", "b", "c", "b"],
        image=pa.array([b"b0", b"a0", b"b1", None, b"b2"], kind),
    )
    listing = pictures(path)
    assert contents(listing) == {"a": [b"a0"], "b": [b"b0", b"b1", b"b2"]}
    assert [listing.place(0), listing.place(1)] == [f"{path} row 1", f"{path} row 0"]
    assert listing.items.type == pa.large_list(ITEM)


def test_structs_as_hugging_face_writes_them(tmp_path: Path):
    (tmp_path / "beside.png").write_bytes(b"beside")
    images = [
        {"bytes": b"inside", "path": "gone.png"},
        None,
        {"bytes": None, "path": "beside.png"},
        {"bytes": None, "path": None},
        {"bytes": b"", "path": None},
    ]
    path = write(tmp_path / "x.parquet", key=list("abcde"), image=pa.array(images, HF))
    listing = pictures(path)
    assert contents(listing) == {"a": [b"inside"], "c": [b"beside"], "e": [b""]}
    assert listing.problems == ()


@pytest.mark.parametrize("kind", [pa.list_(HF), pa.large_list(HF)])
def test_lists_are_pictures_in_their_order_across_batches(tmp_path: Path, kind: pa.DataType):
    # 600 lines in one row group are read in three batches.
    def picture(line: int, number: int) -> dict[str, object]:
        return {"bytes": f"{line}-{number}".encode(), "path": None}

    images = [None if line % 5 == 0 else [picture(line, n) for n in range(line % 4)] for line in range(600)]
    table = pa.table({"key": [f"k{line % 300:03}" for line in range(600)], "image": pa.array(images, kind)})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=600)
    expected: dict[str, list[bytes]] = {}
    for line, found in enumerate(images):
        for item in found or ():
            expected.setdefault(f"k{line % 300:03}", []).append(item["bytes"])
    assert contents(pictures(tmp_path / "x.parquet")) == expected


def test_paths_and_file_uris_are_relative_to_the_file(tmp_path: Path):
    (tmp_path / "in").mkdir()
    for name in ("in/a 1.png", "b%20.png"):
        (tmp_path / name).write_bytes(name.encode())
    names = [
        "in/a 1.png",
        str(tmp_path / "b%20.png"),
        "file:in/a%201.png",
        f"file://{tmp_path}/b%2520.png",
        f"file://localhost{tmp_path}/b%2520.png",
        f"file:{tmp_path}/b%2520.png",
        None,
        "in/gone.png",
        "in",
        "a\0b",
    ]
    path = write(tmp_path / "x.parquet", key=[str(i) for i in range(10)], image=pa.array(names, pa.string()))
    listing = pictures(path)
    first, second = b"in/a 1.png", b"b%20.png"
    assert [found for [found] in contents(listing).values()] == [first, second, first, second, second, second]
    assert listing.problems == ((f"{path} row 7", "names a picture that is not there (3 such)"),)
    dictionary = pa.array(names[:2], pa.string()).dictionary_encode()
    write(path, key=["a", "b"], image=dictionary)
    assert contents(pictures(path)) == {"a": [first], "b": [second]}


@pytest.mark.parametrize("name", ["https://x.org/a.png", "HTTP://x", "s3://b/a.png", "http://[", "file://host/a.png"])
def test_pictures_elsewhere_are_refused(tmp_path: Path, name: str):
    write(tmp_path / "x.parquet", key=["a", "b", "c"], image=pa.array([None, None, name], pa.string()))
    with pytest.raises(DataError, match=r"x.parquet row 2: expected a picture on this file system, got .*; fetch the"):
        pictures(tmp_path / "x.parquet")


def test_several_files_and_ids(tmp_path: Path):
    write(tmp_path / "y.parquet", key=pa.array([2, 10]), image=[b"y2", b"y10"])
    write(tmp_path / "x.parquet", key=pa.array([10], pa.int32()), image=[b"x10"])
    for path in (tmp_path, tmp_path / "*.parquet"):
        assert contents(pictures(path, tmp_path / "scratch")) == {"10": [b"x10", b"y10"], "2": [b"y2"]}


def test_pictures_and_texts_need_their_columns(tmp_path: Path):
    config = MediaParquetConfig(path=write(tmp_path / "x.parquet", key=["a"], image=[b"x"]))
    with pytest.raises(
        ConfigError, match=r"x.parquet: expected image_column, got none; name the column of the pictures"
    ):
        config.list_pictures(tmp_path)
    with pytest.raises(ConfigError, match=r"x.parquet: expected columns, got none; name the columns that are joined"):
        config.read_texts()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"id": ["a"], "image": [b"x"]},
            r"x.parquet: expected a column 'key', found id, image; mend the column's name",
        ),
        ({"key": ["a"], "img": [b"x"]}, r"x.parquet: expected a column 'image', found key, img"),
        ({"key": ["a"], "image": [1]}, r"column image: expected bytes, structs of bytes and path, paths, .*got int64"),
        ({"key": ["a"], "image": [[1.0]]}, r"column image: expected bytes, .* got list<.*double>; name the column"),
        ({"key": [1.5], "image": [b"x"]}, r"column key: expected keys \(text\) or ids \(whole numbers\), got double"),
        ({"key": ["a", "b", None], "image": [b"x"] * 3}, r"x.parquet row 2: expected a key, got none; fill it in"),
    ],
)
def test_tables_that_do_not_fit_are_refused(tmp_path: Path, columns: dict[str, object], message: str):
    write(tmp_path / "x.parquet", **columns)
    with pytest.raises(DataError, match=message):
        pictures(tmp_path / "x.parquet")


def test_what_is_no_parquet_is_refused(tmp_path: Path):
    (tmp_path / "x.parquet").write_text("not")
    with pytest.raises(DataError, match=r"x.parquet: expected Parquet, got: .*; convert the file"):
        pictures(tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"y: expected a Parquet file, a folder of them or a glob, found none"):
        pictures(tmp_path / "y")


def test_a_spool_that_was_interrupted_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write(tmp_path / "x.parquet", key=list("abcde"), image=[b"a", b"b", b"c", b"d", b"e"])
    whole = contents(pictures(path))
    folder = next((tmp_path / "scratch").iterdir())
    # As if it had been killed while it wrote the second of three row groups.
    (folder / "pictures-00000-00001.arrow").unlink()
    (folder / "pictures-00000-00001.bin").rename(folder / "pictures-00000-00001.bin.partial")
    read: list[list[int]] = []
    batches = pq.ParquetFile.iter_batches

    def watched(file: pq.ParquetFile, *arguments: object, row_groups: list[int], **options: object) -> object:
        read.append(row_groups)
        return batches(file, *arguments, row_groups=row_groups, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", watched)
    assert contents(pictures(path)) == whole
    assert read == [[1]]


def test_a_spool_is_of_one_content_and_place(tmp_path: Path):
    path = write(tmp_path / "x.parquet", key=["a", "b"], image=pa.array([b"one", None]))
    first = pictures(path)
    write(path, key=["a", "b"], image=pa.array([b"two", None]))
    second = pictures(path)
    assert (contents(first), contents(second)) == ({"a": [b"one"]}, {"a": [b"two"]})
    assert first.identity != second.identity
    config = MediaParquetConfig(path=path, image_column="image")
    assert second.identity == config.identity("pictures")
    (tmp_path / "scratch").rename(tmp_path / "moved")
    assert contents(pictures(path, tmp_path / "moved")) == {"a": [b"two"]}


def test_problems_are_told_again_by_a_finished_spool(tmp_path: Path):
    path = write(tmp_path / "x.parquet", key=["a", "b"], image=["gone", "gone"])
    expected = ((f"{path} row 0", "names a picture that is not there (2 such)"),)
    assert [pictures(path).problems, pictures(path).problems] == [expected, expected]


def texts(path: Path, **fields: object) -> dict[str, str]:
    found = MediaParquetConfig(path=path, **fields).read_texts()  # pyright: ignore
    return dict(zip(found.keys.to_pylist(), found.texts.to_pylist(), strict=True))


def test_text_columns_are_joined_as_in_a_table(tmp_path: Path):
    write(
        tmp_path / "x.parquet",
        key=["b", "a", "b", "c", "b"],
        name=["Bee", "Ay", "Bee", None, "Bee"],
        about=pa.array(["insect", " ", "insect", None, "letter"]).dictionary_encode(),
        year=[1, 2, 3, 4, 5],
        good=["1", "1", "1", "1", "0"],
    )
    path = tmp_path / "x.parquet"
    assert texts(path, columns=("name", "about")) == {"a": "Ay", "b": "Bee. insect. Bee. letter"}
    assert texts(path, columns=("name",), only=RowFilter(column="good", equals="1")) == {"a": "Ay", "b": "Bee"}
    assert texts(path, columns=("name", "year"), join=" ")["a"] == "Ay 2"
    assert texts(path, columns=("key",)) == {"a": "a", "b": "b", "c": "c"}


def test_texts_know_their_file_and_row(tmp_path: Path):
    write(tmp_path / "x.parquet", key=["d", "c", "b"], name=["D", "C", ""])
    write(tmp_path / "y.parquet", key=["b", "a"], name=["B", "A"])
    found = MediaParquetConfig(path=tmp_path, columns=("name",)).read_texts()
    places = [Path(found.place(index)).name for index in range(4)]
    # The first line of b has no text, and yet is the first line of b.
    assert places == ["y.parquet row 1", "x.parquet row 2", "x.parquet row 1", "x.parquet row 0"]
    with pytest.raises(DataError, match=r"x.parquet: expected a column 'text', found key, name"):
        texts(tmp_path, columns=("text",))


@pytest.mark.parametrize("column", [[b"x"], [["x"]]])
def test_columns_that_are_no_text_are_refused(tmp_path: Path, column: list[object]):
    write(tmp_path / "x.parquet", key=["a"], name=column)
    with pytest.raises(
        DataError, match=r"x.parquet: column name: expected text, got (binary|list<.*>); name a column of"
    ):
        texts(tmp_path, columns=("name",))
