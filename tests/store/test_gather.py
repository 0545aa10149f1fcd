import numpy as np
import pyarrow.parquet as pq
import pytest

from snag_dist.errors import DataError
from snag_dist.store.gather import FeatureRows
from snag_dist.store.opened import Store

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def table(world_store: Store) -> dict[int, np.ndarray]:
    """The vision vectors by row, as the Parquet table has them."""
    folder = world_store.feature_folder("vision") / "table"
    rows = pq.read_table(folder).to_pydict()
    return {row: np.array(vector) for row, vector in zip(rows["row"], rows["vector"], strict=True)}


@pytest.mark.parametrize(("first", "last"), [(0, 300), (37, 75), (150, 150), (40, 41), (75, 300)])
def test_gathered_rows_are_those_of_the_table(world_store: Store, table: dict[int, np.ndarray], first: int, last: int):
    features = FeatureRows.open(world_store, "vision", first, last)
    rows = np.arange(first, last)[::3]
    vectors, present = features.gather(rows)
    assert vectors.dtype == np.float32 and vectors.shape == (len(rows), features.width)
    assert [row for row, there in zip(rows, present, strict=True) if there] == [row for row in rows if row in table]
    for row, vector in zip(rows, vectors, strict=True):
        np.testing.assert_array_equal(vector, table.get(int(row), np.zeros(features.width)))


def test_only_the_shards_of_the_range_are_mapped(world_store: Store):
    # Shards of 300 entities over 8: 0, 37, 75, 112, 150, ...
    assert len(FeatureRows.open(world_store, "text", 37, 75).shards) == 1
    assert len(FeatureRows.open(world_store, "text", 36, 76).shards) == 3


def test_an_empty_batch_is_gathered(world_store: Store):
    vectors, present = FeatureRows.open(world_store, "text", 0, 300).gather(np.zeros(0, dtype=np.int64))
    assert vectors.shape == (0, 256) and present.shape == (0,)


def test_statistics_are_over_the_entities_that_have_the_modality(world_store: Store, table: dict[int, np.ndarray]):
    features = FeatureRows.open(world_store, "vision", 0, 10)
    vectors = np.stack(list(table.values())).astype(np.float64)
    assert len(vectors) == world_store.feature("vision").num_present < 300
    np.testing.assert_allclose(features.mean, vectors.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(features.std, vectors.std(axis=0, ddof=1), rtol=1e-12)


def test_a_modality_that_is_not_there_is_named(world_store: Store):
    with pytest.raises(DataError, match="no features for modality 'sound'"):
        FeatureRows.open(world_store, "sound", 0, 300)
