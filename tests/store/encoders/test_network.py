import numpy as np

from snag_dist.store.encoders.network import NetworkConfig

VECTORS = np.array([[3, 4, 12], [0, 0, 5]], dtype=np.float32)


def test_vectors_are_cut_and_then_scaled():
    finished = NetworkConfig(truncate=2).finish(VECTORS)
    assert finished.dtype == np.float32 and finished.flags.c_contiguous
    # A vector that is zero where it was kept has no direction, and stays zero.
    np.testing.assert_allclose(finished, [[0.6, 0.8], [0, 0]], rtol=1e-6)


def test_vectors_may_stay_as_they_are():
    np.testing.assert_array_equal(NetworkConfig(normalize=False).finish(VECTORS), VECTORS)
    np.testing.assert_array_equal(NetworkConfig(normalize=False, truncate=1).finish(VECTORS), [[3], [0]])
