import numpy as np
import pytest

from snag_dist.store.statistics import Moments

# Columns 1, 3, 5 and 2, 4, 9: mean 3 and 5, sample deviation 2 and sqrt(13).
VECTORS = np.array([[1, 2], [3, 4], [5, 9]], dtype=np.float16)


def test_mean_and_sample_deviation_by_hand():
    moments = Moments.of(VECTORS)
    assert moments.count == 3
    np.testing.assert_allclose(moments.mean, [3, 5])
    np.testing.assert_allclose(moments.std(), [2, 3.605551275], rtol=1e-9)


def test_merging_parts_gives_the_whole():
    merged = Moments.of(VECTORS[:1]).merge(Moments.of(VECTORS[1:]))
    np.testing.assert_allclose(merged.mean, [3, 5])
    np.testing.assert_allclose(merged.std(), [2, 3.605551275], rtol=1e-9)


@pytest.mark.parametrize("empty_first", [True, False])
def test_merging_with_nothing_changes_nothing(empty_first: bool):
    empty, full = Moments.zero(2), Moments.of(VECTORS)
    merged = empty.merge(full) if empty_first else full.merge(empty)
    assert merged.count == 3
    np.testing.assert_array_equal(merged.mean, full.mean)
    np.testing.assert_array_equal(merged.squares, full.squares)


def test_one_vector_has_no_spread():
    np.testing.assert_array_equal(Moments.of(VECTORS[:1]).std(), [0, 0])


def test_large_offsets_do_not_cancel():
    vectors = np.array([[1e8 + 1], [1e8 + 3]])
    np.testing.assert_allclose(Moments.of(vectors).std(), [np.sqrt(2)], rtol=1e-9)
    merged = Moments.of(vectors[:1]).merge(Moments.of(vectors[1:]))
    np.testing.assert_allclose(merged.std(), [np.sqrt(2)], rtol=1e-9)
