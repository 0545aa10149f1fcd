"""Ranks by block on disk: read back as written, resumed where they end, never mixed with others."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from snag_dist.errors import DataError
from snag_dist.evaluation.rank_files import RANK_SCHEMA, RankFolder
from snag_dist.ranking.questions import Questions
from snag_dist.ranking.ranks import RankTable

TRIPLES = np.array([[4, 1, 2], [3, 1, 2], [4, 0, 0]], dtype=np.int64)


def blocks() -> list[tuple[int, int, RankTable]]:
    """Two blocks: the five questions behind the three triples, with counts 0, 1, 2, ..."""
    questions = Questions.of(TRIPLES)
    whole = RankTable.of(questions, np.arange(6), np.arange(6)[::-1] % 2)
    cut = int(questions.answers.offsets[2])
    return [(0, 2, whole.take(np.arange(cut))), (2, 5, whole.take(np.arange(cut, 6)))]


@pytest.fixture
def ranks(tmp_path: Path) -> RankFolder:
    folder = RankFolder(tmp_path / "ranks" / "test", "step-3 test float32")
    for block in blocks():
        folder.append(*block)
    return folder


def test_ranks_come_back_as_they_were_written(ranks: RankFolder) -> None:
    read, written = ranks.read(), RankTable.concatenate([block[2] for block in blocks()])
    for name in ("head", "relation", "tail", "find_tail", "better", "equal"):
        found, expected = getattr(read, name), getattr(written, name)
        assert found.tolist() == expected.tolist()
        assert found.dtype == expected.dtype


def test_columns_by_hand(ranks: RankFolder) -> None:
    parts = sorted(ranks.path.iterdir())
    assert [part.name for part in parts] == [
        "part-000000000000-000000000002.parquet",
        "part-000000000002-000000000005.parquet",
    ]
    table = pq.read_table(parts[0])
    assert table.schema.equals(RANK_SCHEMA)
    # Questions (?, 0, 0) with answer 4 and (?, 1, 2) with answers 3 and 4.
    assert table.to_pydict() == {
        "head": [4, 3, 4],
        "relation": [0, 1, 1],
        "tail": [0, 2, 2],
        "direction": ["head", "head", "head"],
        "better": [0, 1, 2],
        "equal": [1, 0, 1],
        "rank_optimistic": [1, 2, 3],
        "rank_realistic": [1.5, 2.0, 3.5],
        "rank_pessimistic": [2, 2, 4],
    }


def test_evaluation_goes_on_where_the_parts_end(tmp_path: Path) -> None:
    folder = RankFolder(tmp_path / "ranks", "a")
    assert folder.next_question() == 0
    for start, stop, table in blocks():
        folder.append(start, stop, table)
        assert folder.next_question() == stop


def test_a_part_that_was_not_finished_does_not_count(ranks: RankFolder) -> None:
    last = sorted(ranks.path.iterdir())[1]
    last.rename(last.with_name(f"{last.name}.partial"))
    assert ranks.next_question() == 2


def test_ranks_of_another_evaluation_are_refused(ranks: RankFolder) -> None:
    other = RankFolder(ranks.path, "step-9 test float32")
    with pytest.raises(
        DataError, match=r"part-0+-0+2\.parquet: expected .*'step-9 .* got 'step-3 .*; remove the folder"
    ):
        other.next_question()
    other.discard()
    assert other.next_question() == 0
    assert list(ranks.path.iterdir()) == []


def test_a_missing_part_is_named(ranks: RankFolder) -> None:
    sorted(ranks.path.iterdir())[0].unlink()
    with pytest.raises(DataError, match=r"part-0+2-0+5\.parquet: expected the ranks of question 0 next, found .* 2;"):
        ranks.next_question()


def test_a_damaged_part_is_named(ranks: RankFolder) -> None:
    part = sorted(ranks.path.iterdir())[1]
    part.write_bytes(part.read_bytes()[:50])
    with pytest.raises(DataError, match=r"part-0+2-0+5\.parquet: expected Parquet, got: .*; remove the folder"):
        ranks.read()


def test_an_empty_folder_has_no_ranks(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected files of ranks, found none"):
        RankFolder(tmp_path, "a").read()
