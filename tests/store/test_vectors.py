from pathlib import Path

import numpy as np
import pytest
import torch

from snag_dist.errors import DataError
from snag_dist.store.vectors import normalise_rows, open_vectors, pool_square, pooled_width


def test_pooling_golden_numbers():
    # Reference G14: 4x4 averages of 0..4095 as 64x64.
    pooled = pool_square(np.arange(4096, dtype=np.float32)[None], 4)[0]
    assert pooled.shape == (256,)
    assert list(pooled[:3]) == [97.5, 101.5, 105.5]
    assert pooled[16] == 353.5
    assert pooled[-1] == 3997.5


@pytest.mark.parametrize(("width", "pool"), [(10, 2), (9, 2), (4097, 4)])
def test_pooling_what_is_no_square_is_refused(width: int, pool: int):
    with pytest.raises(DataError, match=rf"x.npy: pool = {pool}: expected a width .*, got {width}; set pool"):
        pooled_width(width, pool, Path("x.npy"))


@pytest.mark.parametrize("suffix", ["npy", "pt", "pth"])
@pytest.mark.parametrize("kind", ["float16", "float64", "int32"])
def test_arrays_and_tensors_of_numbers_are_read_by_row(tmp_path: Path, suffix: str, kind: str):
    array = np.arange(12).reshape(4, 3).astype(kind)
    path = tmp_path / f"x.{suffix}"
    if suffix == "npy":
        np.save(path, array)
    else:
        torch.save(torch.from_numpy(array), path)
    vectors = open_vectors(path, path)
    assert (vectors.num_rows, vectors.width) == (4, 3)
    taken = vectors.take(np.array([3, 0]))
    assert taken.dtype == np.float32
    np.testing.assert_array_equal(taken, [[9, 10, 11], [0, 1, 2]])


def test_bfloat16_tensors_are_read(tmp_path: Path):
    torch.save(torch.full((2, 2), 1.5, dtype=torch.bfloat16), tmp_path / "x.pt")
    np.testing.assert_array_equal(open_vectors(tmp_path / "x.pt", Path("x.pt")).take(np.array([1])), [[1.5, 1.5]])


def test_arrays_of_objects_are_refused(tmp_path: Path):
    path = tmp_path / "x.npy"
    np.save(path, np.array([{"a": 1}, None], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"x.npy: expected an array of numbers, got: .*without objects"):
        open_vectors(path, path)


class Payload:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_pickled_objects_in_a_tensor_file_are_refused_unread(tmp_path: Path):
    path = tmp_path / "x.pt"
    torch.save({"x": Payload(tmp_path / "ran")}, path)
    with pytest.raises(DataError, match=r"x.pt: expected a tensor, got what only a pickle could load"):
        open_vectors(path, path)
    assert not (tmp_path / "ran").exists()


def test_what_is_no_tensor_is_refused(tmp_path: Path):
    torch.save({"weight": torch.zeros(2, 2)}, tmp_path / "x.pt")
    with pytest.raises(DataError, match=r"x.pt: expected a tensor, got dict; save the tensor alone"):
        open_vectors(tmp_path / "x.pt", tmp_path / "x.pt")


@pytest.mark.parametrize("array", [np.zeros(3), np.zeros((2, 2, 2)), np.zeros((2, 0)), np.array([["a"]])])
def test_what_is_no_matrix_of_numbers_is_refused(tmp_path: Path, array: np.ndarray):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(DataError, match=r"x.npy: expected a \(rows, width\) array of numbers, got shape"):
        open_vectors(tmp_path / "x.npy", tmp_path / "x.npy")


def test_broken_files_and_other_formats_are_refused(tmp_path: Path):
    np.save(tmp_path / "x.npy", np.zeros((50, 50)))
    whole = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(whole[:1000])
    with pytest.raises(DataError, match=r"x.npy: expected an array of numbers, got: "):
        open_vectors(tmp_path / "x.npy", tmp_path / "x.npy")
    (tmp_path / "x.pt").write_bytes(b"")
    with pytest.raises(DataError, match=r"x.pt: expected a tensor"):
        open_vectors(tmp_path / "x.pt", tmp_path / "x.pt")
    with pytest.raises(DataError, match=r"x.csv: expected .npy, .pt, .pth, .pkl or .parquet, got '.csv'"):
        open_vectors(tmp_path / "x.csv", tmp_path / "x.csv")


def test_rows_of_zeros_are_told(tmp_path: Path):
    np.save(tmp_path / "x.npy", np.array([[0, 0], [0, 1], [2, 0]]))
    vectors = open_vectors(tmp_path / "x.npy", tmp_path / "x.npy")
    assert list(vectors.nonzero_rows()) == [False, True, True]


def test_rows_of_length_one_keep_zeros_and_what_is_not_finite():
    vectors = np.array([[3, 4], [0, 0], [np.nan, 1], [3e30, 4e30]], dtype=np.float32)
    normalised = normalise_rows(vectors)
    np.testing.assert_allclose(normalised[[0, 1, 3]], [[0.6, 0.8], [0, 0], [0.6, 0.8]], rtol=1e-6)
    # A number that is none must reach the check that names it.
    assert np.isnan(normalised[2]).any()
