from pathlib import Path

import pytest

from snag_dist.errors import DataError
from snag_dist.store.opened import Store
from snag_dist.store.sentences import RowFilter, SentenceFileConfig
from snag_dist.store.text_features import TextConfig

pytestmark = pytest.mark.ray

HEADER = "id\tkey\tname\tdescription\tcaption\tcaption_from_image"


def write(tmp_path: Path, *lines: str, header: str = HEADER) -> Path:
    path = tmp_path / "entities.tsv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def sentences(store: Store, **fields: object) -> dict[str, str]:
    """Return the sentence of each entity that has one, by key."""
    fields = {"columns": ("name", "description"), **fields}
    modality = TextConfig(source=SentenceFileConfig(**fields)).open(store, Path())  # pyright: ignore
    assert list(modality.rows) == sorted(modality.rows)
    keys = store.entities()["key"].to_pylist()
    return dict(zip([keys[row] for row in modality.rows], modality.payload.to_pylist(), strict=True))


def test_columns_are_joined_and_empty_ones_left_out(letter_store: Store, tmp_path: Path):
    path = write(
        tmp_path,
        '0\ta\tAlpha\tthe "first" one\tx\t1',
        "1\tc\tGamma\t\tx\t1",
        "2\tb\t  \tsecond \tx\t1",
        "3\td\t\t\tx\t1",
    )
    assert sentences(letter_store, path=path) == {
        "a": 'Alpha. the "first" one',
        "b": "second",
        "c": "Gamma",
    }


def test_lines_that_do_not_count_are_missing(letter_store: Store, tmp_path: Path):
    path = write(tmp_path, "0\ta\tA\t-\ta photo\t1", "1\tb\tB\t-\tfiller\t0")
    only = RowFilter(column="caption_from_image", equals="1")
    assert sentences(letter_store, path=path, columns=("caption",), only=only) == {"a": "a photo"}


def test_ids_of_the_source_are_joined_too(letter_store: Store, tmp_path: Path):
    # Source ids follow the first appearance in train: a b c d e f.
    path = write(tmp_path, "1\t-\tBeta\t\t\t", "0\t-\tAlpha\t\t\t", "6\t-\tnobody\t\t\t")
    config = TextConfig(source=SentenceFileConfig(path=path, keys="id", key_column="id", columns=("name",)))
    modality = config.open(letter_store, tmp_path)
    assert modality.unknown_keys == ("6",)
    assert sentences(letter_store, path=path, keys="id", key_column="id", columns=("name",)) == {
        "a": "Alpha",
        "b": "Beta",
    }


def test_unknown_keys_are_kept_by_name(letter_store: Store, tmp_path: Path):
    path = write(tmp_path, "0\tz\tZeta\t\t\t", "1\ta\tAlpha\t\t\t", "2\ty\tEta\t\t\t")
    modality = TextConfig(source=SentenceFileConfig(path=path, columns=("name",))).open(letter_store, tmp_path)
    assert modality.unknown_keys == ("y", "z")
    assert modality.payload.to_pylist() == ["Alpha"]
    assert modality.place(0) == f"{path} line 3"


def test_windows_line_ends_and_byte_order_mark(letter_store: Store, tmp_path: Path):
    path = tmp_path / "entities.tsv"
    path.write_bytes("\ufeffkey\tname\r\na\tÄlpha\r\n".encode())
    assert sentences(letter_store, path=path, columns=("name",)) == {"a": "Älpha"}


def test_an_unknown_column_is_named(letter_store: Store, tmp_path: Path):
    path = write(tmp_path, "0\ta\tA\t\t\t")
    with pytest.raises(
        DataError,
        match=r"entities.tsv line 1: expected a column 'title', found id, key, name, .*mend the column",
    ):
        sentences(letter_store, path=path, columns=("title",))


def test_a_key_that_repeats_is_found_by_line(letter_store: Store, tmp_path: Path):
    path = write(tmp_path, "0\ta\tA\t\t\t", "1\tb\tB\t\t\t", "2\ta\tA\t\t\t")
    with pytest.raises(DataError, match=r"entities.tsv line 4: key 'a' already stands in .*entities.tsv line 2"):
        sentences(letter_store, path=path)


def test_a_line_with_too_few_fields_is_found(letter_store: Store, tmp_path: Path):
    path = write(tmp_path, "0\ta\tA\t\t\t", "1\tb")
    with pytest.raises(DataError, match=r"entities.tsv: .*#3.*; expected 6 fields separated by tabs"):
        sentences(letter_store, path=path)


def test_keys_where_ids_are_expected_are_found_by_line(letter_store: Store, tmp_path: Path):
    path = write(tmp_path, "0\ta\tA\t\t\t", "x\tb\tB\t\t\t")
    with pytest.raises(DataError, match=r"entities.tsv line 3: expected an id, got 'x'; set keys to 'key'"):
        sentences(letter_store, path=path, keys="id", key_column="id")


def test_a_missing_file_is_named(letter_store: Store, tmp_path: Path):
    with pytest.raises(DataError, match=r"nothing.tsv: expected a tab-separated file, found none"):
        sentences(letter_store, path=tmp_path / "nothing.tsv")


@pytest.mark.parametrize("content", [b"key\tname\xff\n", b"key\tname\na\t\xff\n"])
def test_another_encoding_is_refused(letter_store: Store, tmp_path: Path, content: bytes):
    (tmp_path / "x.tsv").write_bytes(content)
    with pytest.raises(DataError, match=r"x.tsv.*UTF"):
        sentences(letter_store, path=tmp_path / "x.tsv", columns=("name",))
