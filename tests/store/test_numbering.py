"""Keys numbered in partitions against a plain dictionary, whatever the size of blocks and partitions."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from snag_dist.errors import DataError
from snag_dist.store.blocks import UNKNOWN, InOrder, Rows
from snag_dist.store.key_runs import KeyRuns, encode_keys
from snag_dist.store.numbering import NumberedKeys, Numbering, Order, number_keys
from snag_dist.store.pipeline import Threads, threads

ALPHABET = ["a", "b", "ä", "Ω", "語", "🎨", "0", " ", "\u2028"]


@pytest.fixture
def pool() -> Iterator[Threads]:
    with threads() as pool:
        yield pool


def make_keys(seed: int, num: int) -> list[str]:
    """Draw keys of which some repeat, some begin alike, and one is frequent."""
    draw = np.random.default_rng(seed)
    letters = ["".join(ALPHABET[i] for i in draw.integers(0, len(ALPHABET), draw.integers(1, 4))) for _ in range(num)]
    return ["often" if draw.random() < 0.2 else f"http://x/{word}" if draw.random() < 0.5 else word for word in letters]


def make_runs(folder: Path, keys: list[str], block: int) -> tuple[KeyRuns, list[list[str]]]:
    runs, blocks = KeyRuns(folder), []
    for number, begin in enumerate(range(0, len(keys), block)):
        distinct = list(dict.fromkeys(keys[begin : begin + block]))
        runs.note(runs.write(number, pa.array(distinct, pa.large_string())))
        blocks.append(distinct)
    return runs, blocks


def listed(numbered: NumberedKeys) -> list[str]:
    return [key for table in numbered.in_order(keys_per_chunk=7) for key in table["key"].to_pylist()]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("block", "most"), [(1000, 10_000), (50, 40), (12, 30)])
@pytest.mark.parametrize("order", ["sorted", "appearance"])
def test_keys_are_numbered_as_by_a_dictionary(
    order: Order, block: int, most: int, seed: int, tmp_path: Path, pool: Threads
) -> None:
    keys = make_keys(seed, 400)
    expected = list(dict.fromkeys(keys)) if order == "appearance" else sorted(set(keys))
    runs, blocks = make_runs(tmp_path / "runs", keys, block)
    numbered = number_keys(runs, Numbering(order), InOrder, pool, keys_per_partition=most)
    assert (numbered.num, listed(numbered)) == (len(expected), expected)
    number = {key: place for place, key in enumerate(expected)}
    for run, distinct in enumerate(blocks):
        assert numbered.places(run).tolist() == [number[key] for key in distinct]


def test_places_follow_the_permutation_of_rows(tmp_path: Path, pool: Threads) -> None:
    keys = make_keys(1, 300)
    expected = sorted(set(keys))
    runs, _ = make_runs(tmp_path / "runs", keys, 20)
    numbered = number_keys(runs, Numbering("sorted"), lambda num: Rows(5, num), pool, keys_per_partition=30)
    rows = Rows(5, len(expected)).of(np.arange(len(expected)))
    told = listed(numbered)
    assert [told[row] for row in rows] == expected


def test_a_table_defines_and_names_keys_and_others_are_unknown(tmp_path: Path, pool: Threads) -> None:
    runs = KeyRuns(tmp_path / "runs")
    names = [pa.array(["Cid C.", "Bob B."], pa.large_string()), None]
    for number, keys in enumerate((["cid", "bob"], ["ann"], ["bob", "eve", "cid"])):
        table = names[number] if number < 2 else None
        runs.note(runs.write(number, pa.array(keys, pa.large_string()), table))
    numbered = number_keys(runs, Numbering("table", 2, "t"), InOrder, pool, keys_per_partition=2)
    tables = pa.concat_tables(numbered.in_order())
    assert tables.to_pydict() == {"key": ["cid", "bob", "ann"], "name": ["Cid C.", "Bob B.", "ann"]}
    assert numbered.places(2).tolist() == [1, UNKNOWN, 0]


def test_labels_name_keys_and_define_none(tmp_path: Path, pool: Threads) -> None:
    runs = KeyRuns(tmp_path / "runs")
    runs.note(runs.write(0, pa.array(["b", "nobody"], pa.large_string()), pa.array(["Bee", "N"], pa.large_string())))
    runs.note(runs.write(1, pa.array(["c", "b"], pa.large_string())))
    numbered = number_keys(runs, Numbering("appearance", 1), InOrder, pool)
    assert pa.concat_tables(numbered.in_order()).to_pydict() == {"key": ["c", "b"], "name": ["c", "Bee"]}


@pytest.mark.parametrize("most", [2, 100])
def test_the_first_key_that_repeats_is_named_by_its_rows(most: int, tmp_path: Path, pool: Threads) -> None:
    runs = KeyRuns(tmp_path / "runs")
    for number, keys in enumerate((["z", "b"], ["c", "b", "d"], ["z", "a"])):
        runs.note(runs.write(number, pa.array(keys, pa.large_string())))
    with pytest.raises(DataError, match=r"people row 3: key 'b' already stands in row 1; keys must be distinct"):
        number_keys(runs, Numbering("table", 3, "people"), InOrder, pool, keys_per_partition=most)


@pytest.mark.parametrize("seed", range(5))
def test_no_partition_is_much_larger_than_asked_for(seed: int, tmp_path: Path) -> None:
    # Skewed keys: most begin alike, and one is in every run.
    draw = np.random.default_rng(seed)
    keys = [f"http://dbpedia.org/resource/{int(number)}" for number in draw.zipf(1.3, 20_000)]
    runs, blocks = make_runs(tmp_path / "runs", keys, 500)
    most = 1_000
    partitions = runs.partition(most)
    sizes = [partitions.read(p).num_rows for p in range(len(partitions))]
    assert sum(sizes) == sum(map(len, blocks))
    assert max(sizes) <= 2 * most + len(blocks)
    assert len(partitions) >= sum(sizes) // (2 * most)


def test_a_key_lies_in_one_partition(tmp_path: Path) -> None:
    runs, _ = make_runs(tmp_path / "runs", make_keys(0, 500), 10)
    partitions = runs.partition(20)
    found = [set(partitions.read(p)["key"].to_pylist()) for p in range(len(partitions))]
    assert len(found) > 5
    assert sum(map(len, found)) == len(set().union(*found))


def test_columns_are_numbered_row_by_row() -> None:
    heads = pa.array(["b", None, "a", "b"], pa.large_string())
    tails = pa.array(["c", "a", "b", "d"], pa.large_string())
    (head, tail), keys = encode_keys([heads, tails])
    assert keys.to_pylist() == ["b", "c", "a", "d"]
    assert (head.tolist(), tail.tolist()) == ([0, -1, 2, 0], [1, 2, 0, 3])
