import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from snag_dist.errors import ConfigError, DataError
from snag_dist.store.array_features import ArrayConfig
from snag_dist.store.opened import Store

pytestmark = pytest.mark.ray

# Row i belongs to source id i: a b c d e f.
ARRAY = np.arange(12, dtype=np.float32).reshape(6, 2)


def read(store: Store, tmp_path: Path, **fields: object) -> dict[str, list[float]]:
    """Return the vector of each entity that has one, by key."""
    modality = ArrayConfig(**fields).open(store, tmp_path / "scratch")  # pyright: ignore
    vectors = modality.encoder.spec.load().vectors(modality.payload)
    keys = store.entities()["key"].to_pylist()
    return {keys[row]: list(vector) for row, vector in zip(modality.rows, vectors, strict=True)}


def test_rows_of_an_array_are_source_ids(letter_store: Store, tmp_path: Path):
    np.save(tmp_path / "x.npy", ARRAY)
    vectors = read(letter_store, tmp_path, path=tmp_path / "x.npy")
    assert vectors == {key: list(ARRAY[i]) for i, key in enumerate("abcdef")}


def test_zeros_can_stand_for_missing(letter_store: Store, tmp_path: Path):
    np.save(tmp_path / "x.npy", ARRAY * (ARRAY[:, :1] > 2))
    vectors = read(letter_store, tmp_path, path=tmp_path / "x.npy", zero_is_missing=True)
    assert sorted(vectors) == ["c", "d", "e", "f"]


def test_pooling_is_applied(letter_store: Store, tmp_path: Path):
    np.save(tmp_path / "x.npy", np.tile(np.arange(16, dtype=np.float32), (6, 1)))
    vectors = read(letter_store, tmp_path, path=tmp_path / "x.npy", pool=2)
    # 0 1 4 5 and so on, of a 4 x 4 picture.
    assert vectors["a"] == [2.5, 4.5, 10.5, 12.5]


@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.list_(pa.float16(), 2), pa.large_list(pa.float32())])
def test_parquet_by_key_with_unknown_keys_and_gaps(letter_store: Store, tmp_path: Path, kind: pa.DataType):
    table = pa.table({"key": ["f", "x", "a"], "vector": pa.array([[1, 2], [3, 4], [5, 6]], kind)})
    pq.write_table(table, tmp_path / "x.parquet")
    config = ArrayConfig(path=tmp_path / "x.parquet", keys="key")
    assert config.open(letter_store, tmp_path / "scratch").unknown_keys == ("x",)
    assert read(letter_store, tmp_path, path=tmp_path / "x.parquet", keys="key") == {"f": [1, 2], "a": [5, 6]}


def test_parquet_by_id_and_by_order(letter_store: Store, tmp_path: Path):
    table = pa.table({"id": [5, 0], "vector": [[1.0, 2.0], [3.0, 4.0]]})
    pq.write_table(table, tmp_path / "x.parquet")
    by_id = read(letter_store, tmp_path, path=tmp_path / "x.parquet", keys="id", key_column="id")
    assert by_id == {"a": [3, 4], "f": [1, 2]}
    pq.write_table(pa.table({"vector": ARRAY.tolist()}), tmp_path / "y.parquet")
    assert read(letter_store, tmp_path, path=tmp_path / "y.parquet")["b"] == [2, 3]


def test_a_wrong_number_of_rows_is_refused(letter_store: Store, tmp_path: Path):
    np.save(tmp_path / "x.npy", ARRAY[:5])
    with pytest.raises(DataError, match=r"x.npy: expected 6 rows, one an entity of the source, got 5; make the"):
        read(letter_store, tmp_path, path=tmp_path / "x.npy")


def test_keys_that_repeat_are_found_by_row(letter_store: Store, tmp_path: Path):
    table = pa.table({"key": ["a", "b", "a"], "vector": [[1.0], [2.0], [3.0]]})
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"x.parquet row 2: key 'a' already stands in .*x.parquet row 0"):
        read(letter_store, tmp_path, path=tmp_path / "x.parquet", keys="key")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"key": ["a"], "v": [[1.0]]}, r"x.parquet: expected a column 'vector', found key, v"),
        ({"key": ["a"], "vector": [1.0]}, r"column vector: expected lists of numbers, got double"),
        (
            {"key": ["a", "b"], "vector": [[1.0, 2.0], [1.0]]},
            r"row 1: expected a vector of 2 numbers, got 1 numbers",
        ),
        (
            {"key": ["a", "b"], "vector": [[1.0, 2.0], None]},
            r"row 1: expected a vector of 2 numbers, got none",
        ),
        ({"key": ["a", None], "vector": [[1.0], [2.0]]}, r"row 1: expected a key, got none"),
    ],
)
def test_tables_that_do_not_fit_are_refused(
    letter_store: Store, tmp_path: Path, table: dict[str, list[object]], message: str
):
    pq.write_table(pa.table(table), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=message):
        read(letter_store, tmp_path, path=tmp_path / "x.parquet", keys="key")


def test_keys_need_a_table(letter_store: Store, tmp_path: Path):
    np.save(tmp_path / "x.npy", ARRAY)
    with pytest.raises(
        ConfigError, match="keys = 'key' needs a Parquet file with a key column, or a pickle; use 'order'"
    ):
        read(letter_store, tmp_path, path=tmp_path / "x.npy", keys="key")


@pytest.mark.parametrize("protocol", [2, 5])
def test_pickles_by_key_and_by_id(letter_store: Store, tmp_path: Path, protocol: int):
    path = tmp_path / "x.pkl"
    rows = [np.array(row, np.float32) for row in ([1, 2], [3, 4], [5, 6])]
    path.write_bytes(pickle.dumps(dict(zip(["f", "x", "a"], rows, strict=True)), protocol))
    assert ArrayConfig(path=path, keys="key").open(letter_store, tmp_path / "scratch").unknown_keys == ("x",)
    assert read(letter_store, tmp_path, path=path, keys="key") == {"f": [1, 2], "a": [5, 6]}
    # Source ids follow the first appearance in train: a b c d e f.
    path.write_bytes(pickle.dumps(dict(zip([5, 6, 0], rows, strict=True)), protocol))
    assert ArrayConfig(path=path, keys="id").open(letter_store, tmp_path / "scratch").unknown_keys == ("6",)
    assert read(letter_store, tmp_path, path=path, keys="id") == {"f": [1, 2], "a": [5, 6]}


def test_pickles_have_keys_and_name_them(letter_store: Store, tmp_path: Path):
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"b": np.ones(2), "a": np.ones(2)}))
    with pytest.raises(ConfigError, match=r"x.pkl: keys = 'order': vectors in a pickle have keys; use 'key' or 'id'"):
        read(letter_store, tmp_path, path=path)
    modality = ArrayConfig(path=path, keys="key").open(letter_store, tmp_path / "scratch")
    keys = letter_store.entities()["key"].to_pylist()
    assert [modality.place(i) for i in range(2)] == [f"{path} key {keys[row]!r}" for row in modality.rows]
    with pytest.raises(DataError, match=r"x.pkl key 'b': expected an id, got 'b'; set keys to 'key'"):
        read(letter_store, tmp_path, path=path, keys="id")


def test_pickles_that_run_code_are_refused(letter_store: Store, tmp_path: Path):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"a": print}))
    with pytest.raises(
        DataError, match=r"x.pkl: expected a dictionary of numpy vectors and nothing else, got the name"
    ):
        read(letter_store, tmp_path, path=tmp_path / "x.pkl", keys="key")
