"""Files of a shard: whatever byte of a header is another one, the file is read as it was, or named as damaged."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snag_dist.errors import DataError
from snag_dist.store.shard_files import map_shard, read_presence, save_presence
from snag_dist.store.vectors import open_vectors

PRESENT = np.arange(37) % 3 == 0
VECTORS = np.arange(74, dtype=np.float32).reshape(37, 2)


def write_presence(path: Path) -> None:
    save_presence(path, PRESENT)


def write_vectors(path: Path) -> None:
    np.save(path, VECTORS)


@pytest.mark.parametrize(
    ("write", "read"),
    [
        (write_presence, lambda path: read_presence(path, len(PRESENT))),
        (write_vectors, map_shard),
        (write_vectors, lambda path: open_vectors(path, path)),
    ],
    ids=["presence", "shard", "vectors of the user"],
)
def test_a_flipped_bit_of_a_header_is_no_traceback(
    write: Callable[[Path], None], read: Callable[[Path], Any], tmp_path: Path
) -> None:
    path = tmp_path / "array.npy"
    write(path)
    content = path.read_bytes()
    refused = 0
    for place in range(content.index(b"\n") + 1):
        for bit in range(8):
            path.write_bytes(content[:place] + bytes([content[place] ^ (1 << bit)]) + content[place + 1 :])
            try:
                read(path)
            except DataError as error:
                assert "array.npy" in str(error)
                refused += 1
    assert refused > 400
