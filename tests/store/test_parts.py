from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from snag_dist.store.makers import ItemMaker, Made, Problem
from snag_dist.store.parts import PartMaker, PartPlan
from snag_dist.store.schema import presence_file, shard_file, table_file
from snag_dist.store.shard_files import ShardWriter, load_mark


@dataclass(frozen=True)
class Squares:
    """Makes (x, x squared) of a number x."""

    width: int = 2

    def load(self) -> "Squares":
        return self

    def vectors(self, payload: pa.Array) -> np.ndarray:
        numbers = payload.to_numpy().astype(np.float32)
        return np.stack([numbers, numbers**2], axis=1)


def make(plan: PartPlan, rows: list[int], numbers: list[float]) -> list[dict[str, float]]:
    blocks = plan.blocks(np.array(rows), pa.array(numbers, pa.float32()))
    maker = PartMaker(plan, Squares())
    return [summary for block in blocks for summary in maker(block).to_pylist()]


@pytest.mark.parametrize(("num_entities", "num_parts"), [(5, 1), (300, 2), (2000, 4), (12842, 25), (90000, 64)])
def test_parts_are_runs_of_whole_shards_that_cover_all(tmp_path: Path, num_entities: int, num_parts: int):
    plan = PartPlan(tmp_path, "float16", num_entities, 64)
    assert plan.num_parts == num_parts
    shards = [shard for part in range(plan.num_parts) for shard in plan.shards(part)]
    assert shards == list(range(64))
    bounds = plan.bounds()
    assert bounds[0] == 0 and bounds[-1] == num_entities
    assert list(bounds) == sorted(bounds)


def test_a_part_by_hand(tmp_path: Path):
    plan = PartPlan(tmp_path, "float16", num_entities=6, virtual_shards=2)
    (summary,) = make(plan, [0, 2, 5], [1.0, 3.0, 4.0])
    assert summary == {"part": 0, "num_seen": 3, "num_problems": 0, "bad_row": -1, "bad_column": 0, "bad_value": 0.0}
    first, second = (np.load(tmp_path / shard_file(shard)) for shard in range(2))
    assert first.dtype == np.float16
    np.testing.assert_array_equal(first, [[1, 1], [0, 0], [3, 9]])
    np.testing.assert_array_equal(second, [[0, 0], [0, 0], [4, 16]])
    # Rows 0 and 2 of three: 0b10100000.
    np.testing.assert_array_equal(np.load(tmp_path / presence_file(0)), [0b10100000])
    table = pq.read_table(tmp_path / table_file(0))
    assert table.schema.field("vector").type == pa.list_(pa.float16(), 2)
    assert table["row"].to_pylist() == [0, 2, 5]
    assert table["vector"].to_pylist() == [[1, 1], [3, 9], [4, 16]]
    summaries = load_mark(plan.mark(0))
    assert [shard.moments.count for shard in summaries] == [2, 1]
    np.testing.assert_allclose(summaries[0].moments.mean, [2, 5])


def test_finished_parts_are_not_made_again(tmp_path: Path):
    plan = PartPlan(tmp_path, "float32", num_entities=512, virtual_shards=4)
    rows, numbers = list(range(512)), [1.0] * 512
    assert [summary["part"] for summary in make(plan, rows, numbers)] == [0, 1, 2, 3]
    plan.mark(2).unlink()
    assert [summary["part"] for summary in make(plan, rows, numbers)] == [2]


def test_a_part_without_any_entity_is_made_all_the_same(tmp_path: Path):
    plan = PartPlan(tmp_path, "float32", num_entities=256, virtual_shards=2)
    summaries = make(plan, [3], [2.0])
    assert [summary["num_seen"] for summary in summaries] == [1, 0]
    assert not np.load(tmp_path / presence_file(1)).any()
    assert pq.read_table(tmp_path / table_file(1)).num_rows == 0


@pytest.mark.parametrize(
    ("dtype", "number", "column"),
    [("float32", float("nan"), 0), ("float32", float("inf"), 0), ("float16", 300.0, 1)],
)
def test_a_number_that_cannot_be_stored_is_reported_and_the_part_stays_unfinished(
    tmp_path: Path, dtype: str, number: float, column: int
):
    plan = PartPlan(tmp_path, dtype, num_entities=6, virtual_shards=2)  # pyright: ignore
    (summary,) = make(plan, [1, 4], [1.0, number])
    assert (summary["bad_row"], summary["bad_column"]) == (4, column)
    assert not plan.mark(0).exists()


class Halves(ItemMaker):
    """Makes the mean of the even numbers of a list; an odd one cannot be used."""

    width = 1

    def load(self) -> "Halves":
        return self

    def make(self, payload: pa.Array) -> Made:
        lists = payload.to_pylist()
        even = [[number for number in numbers if number % 2 == 0] for numbers in lists]
        problems = [Problem(i, str(n), "odd") for i, numbers in enumerate(lists) for n in numbers if n % 2]
        vectors = np.array([[np.mean(numbers) if numbers else 0.0] for numbers in even])
        return Made(vectors, np.array([len(numbers) for numbers in even]), tuple(problems))


def test_items_that_cannot_be_used_are_listed_and_an_entity_without_others_lacks_the_modality(tmp_path: Path):
    plan = PartPlan(tmp_path, "float32", num_entities=6, virtual_shards=2)
    (block,) = plan.blocks(np.array([1, 2, 4]), pa.array([[2, 6, 3], [5, 7], [8]]))
    (summary,) = PartMaker(plan, Halves())(block).to_pylist()
    assert (summary["num_seen"], summary["num_problems"]) == (3, 3)
    table = pq.read_table(tmp_path / table_file(0))
    assert table.to_pylist() == [
        {"row": 1, "num_items": 2, "vector": [4.0]},
        {"row": 4, "num_items": 1, "vector": [8.0]},
    ]
    np.testing.assert_array_equal(np.load(tmp_path / presence_file(0)), [0b01000000])
    assert pq.read_table(plan.problems(0)).to_pylist() == [
        {"row": 1, "item": "3", "reason": "odd"},
        {"row": 2, "item": "5", "reason": "odd"},
        {"row": 2, "item": "7", "reason": "odd"},
    ]


def test_the_hash_is_of_presence_and_vectors(tmp_path: Path):
    def digest(rows: list[int], vectors: list[list[float]]) -> bytes:
        writer = ShardWriter(tmp_path, 0, range(3), 2, "float32")
        writer.add(np.array(rows), np.array(vectors, dtype=np.float32))
        return writer.close().sha256

    assert digest([0, 2], [[1, 1], [2, 4]]) == digest([0, 2], [[1, 1], [2, 4]])
    assert digest([0, 2], [[1, 1], [2, 4]]) != digest([0, 2], [[1, 1], [2, 5]])
    # A vector of zeros is not the same as none.
    assert digest([0, 1], [[1, 1], [0, 0]]) != digest([0], [[1, 1]])
