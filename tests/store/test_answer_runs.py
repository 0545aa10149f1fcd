"""Sides of the known-true index that were sorted out of core are those that are sorted in memory."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from snag_dist.kg.truth import Side
from snag_dist.store import answer_runs
from snag_dist.store.answer_runs import Records, map_side, write_side

Pairs = list[tuple[int, int]]
# Keys of a graph of 91 M entities and 1,400 relations, and answers: the product of both passes 2^63.
LARGE_KEY, LARGE_SIZE = 91_000_000 * 1400, 91_000_000


def draw(seed: int, num: int, keys: int, size: int) -> Records:
    generator = np.random.default_rng(seed)
    return Records(generator.integers(0, keys, num), generator.integers(0, size, num))


CASES = {
    "nothing": (draw(0, 0, 1, 1), 1),
    "one": (draw(1, 1, 9, 9), 9),
    "one, many times": (draw(2, 100, 1, 1), 1),
    "one pair of many answers": (draw(3, 300, 1, 1000), 1000),
    "many duplicates": (draw(4, 300, 5, 4), 4),
    "few duplicates": (draw(5, 300, 200, 50), 50),
    "descending": (Records(np.arange(200)[::-1], np.arange(200)[::-1]), 200),
    "ascending": (Records(np.arange(200), np.arange(200)), 200),
    "large": (draw(6, 200, LARGE_KEY, LARGE_SIZE), LARGE_SIZE),
    "largest": (Records(np.array([LARGE_KEY - 1, 0, LARGE_KEY - 1]), np.array([LARGE_SIZE - 1, 0, 0])), LARGE_SIZE),
    # Pair keys near 2^62, as far as a graph can have them.
    "near 2^62": (Records((1 << 62) - draw(7, 100, 9, 9).pairs, draw(7, 100, 9, 9).answers), 9),
}


def write(records: Records, size: int, folder: Path, *, block: int, piece: int = 7) -> Side:
    folder.mkdir()
    cut = range(0, len(records.pairs), piece)
    pieces = [Records(records.pairs[i : i + piece], records.answers[i : i + piece]) for i in cut]
    write_side(pieces, folder / "side", size, folder / "scratch", block)
    assert sorted(path.name for path in folder.iterdir()) == ["side.codes.npy", "side.offsets.npy", "side.pairs.npy"]
    return map_side(folder / "side", size)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("fan_in", [2, 3, 256])
def test_equals_what_is_sorted_in_memory(
    case: str, fan_in: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_runs, "RUNS_AT_A_TIME", fan_in)
    records, size = CASES[case]
    expected = Side.build(*records, size)
    for block in (1, 3, 16, 100, 1000):
        found = write(records, size, tmp_path / str(block), block=block)
        for name in ("pairs", "offsets", "codes"):
            array = getattr(found, name)
            assert array.dtype == np.int64
            np.testing.assert_array_equal(array, getattr(expected, name))


@pytest.mark.parametrize("seed", range(20))
def test_random_graphs_in_random_blocks(seed: int, tmp_path: Path) -> None:
    generator = np.random.default_rng(seed)
    num, keys, size, block, piece = generator.integers(1, [400, 60, 40, 50, 90])
    records = draw(seed, int(num), int(keys), int(size))
    expected = Side.build(*records, int(size))
    found = write(records, int(size), tmp_path / "side", block=int(block), piece=int(piece))
    for name in ("pairs", "offsets", "codes"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_files_are_mapped_and_not_read(tmp_path: Path) -> None:
    side = write(*CASES["few duplicates"], tmp_path / "side", block=50)
    for array in (side.pairs, side.offsets, side.codes):
        assert isinstance(array.base, np.memmap)
        assert not array.flags.writeable
        # Otherwise numpy copies all of it at every look-up.
        assert array.flags.c_contiguous
        assert array.flags.aligned


def test_arrays_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    write(*CASES["few duplicates"], tmp_path / "side", block=50)
    stem = tmp_path / "side" / "side"
    for name, damage, message in (
        ("codes", np.arange(3), "do not fit together"),
        ("pairs", np.arange(3), "do not fit together"),
        ("offsets", np.arange(3.0), "side.offsets.npy is no array of int64"),
        ("offsets", np.zeros((2, 2), dtype=np.int64), "side.offsets.npy is no array of int64"),
    ):
        path = stem.with_name(f"side.{name}.npy")
        content = path.read_bytes()
        np.save(path, damage)
        with pytest.raises(ValueError, match=message):
            map_side(stem, 50)
        path.write_bytes(content)
    stem.with_name("side.pairs.npy").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"side\.pairs\.npy is no array"):
        map_side(stem, 50)


PEAK = """
import sys, tracemalloc
from pathlib import Path
import numpy as np
from snag_dist.store import answer_runs
from snag_dist.store.answer_runs import Records, write_side

num, block, keys, fan_in = map(int, sys.argv[2:])
answer_runs.RUNS_AT_A_TIME = fan_in

def pieces():
    generator = np.random.default_rng(0)
    for _ in range(num // 1000):
        yield Records(generator.integers(0, keys, 1000), generator.integers(0, 1000, 1000))

folder = Path(sys.argv[1])
tracemalloc.start()
write_side(pieces(), folder / "side", 1000, folder / "scratch", block)
print(tracemalloc.get_traced_memory()[1])
"""


# Evenly spread; and all of one pair, which no cut by keys could divide.
@pytest.mark.parametrize("keys", [10**6, 1])
def test_memory_is_bounded_by_the_block_however_many_there_are(keys: int, tmp_path: Path) -> None:
    block, peaks = 50_000, dict[int, int]()
    for num in (200_000, 1_200_000):
        folder = tmp_path / str(num)
        folder.mkdir()
        command = [sys.executable, "-c", PEAK, str(folder), str(num), str(block), str(keys), "8"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ))
        peaks[num] = int(done.stdout)
    # 80 bytes a record of the block and what Python needs for files; the index of the larger input has up to 38 MB.
    assert peaks[1_200_000] < 80 * block + 1_000_000
    assert peaks[1_200_000] < 1.2 * peaks[200_000]
