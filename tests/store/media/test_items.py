from pathlib import Path

import pyarrow as pa
import pytest

from snag_dist.errors import DataError
from snag_dist.store.media.items import ITEM, read_item, read_items


def test_a_picture_is_a_range_of_a_file(tmp_path: Path):
    path = tmp_path / "x.bin"
    path.write_bytes(b"0123456789")
    assert read_item(str(path), 3, 4) == b"3456"
    assert read_item(str(path), 10, 0) == b""


def test_many_are_read_in_their_order(tmp_path: Path):
    for name in ("x", "y"):
        (tmp_path / name).write_bytes(f"{name}123".encode())
    wanted = [("x", 0, 1), ("x", 2, 2), ("y", 0, 4), ("x", 1, 1)]
    items = pa.array([{"path": str(tmp_path / p), "offset": o, "size": s} for p, o, s in wanted], ITEM)
    assert list(read_items(items)) == [b"x", b"23", b"y123", b"1"]


def test_files_that_were_changed_or_removed_are_named(tmp_path: Path):
    path = tmp_path / "x.bin"
    path.write_bytes(b"0123")
    with pytest.raises(
        DataError, match=r"x.bin: expected 4 bytes from byte 2, got 2: the file was changed since it was"
    ):
        read_item(str(path), 2, 4)
    with pytest.raises(DataError, match=r"y.bin: expected the file that was listed, got: No such file .*; leave the"):
        read_item(str(tmp_path / "y.bin"), 0, 1)
