"""Pairs that choose each other, by hand and against the whole matrix."""

import numpy as np
import pytest
import torch

from snag_dist.ranking.mutual import Best, merge_best, mutual_nearest
from snag_dist.ranking.pairs import PairList, Survey
from snag_dist.ranking.similarity import Part


def budget(side: int, width: int) -> int:
    return (6 * side * side + 6 * side * width) * 4


def test_by_hand() -> None:
    # Left 0 and 2 both choose right 0, which chooses 0; left 1 and right 2 choose each other; right 1 nobody.
    left = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.4, 0.0]])
    right = torch.tensor([[1.0, 0.1, 0.0], [-1.0, -1.0, 0.2], [0.0, 0.0, 2.0]])
    found = mutual_nearest(left, right, 0)
    assert found.pairs.tolist() == [[0, 0], [1, 2]]
    assert found.scores.tolist() == pytest.approx([2 / 1.01**0.5, 2.0])


def test_of_equally_near_rows_the_lowest_is_chosen() -> None:
    same = torch.ones(100, 5)
    assert mutual_nearest(same, same, 2, budget_bytes=budget(48, 5)).pairs.tolist() == [[0, 0]]


def test_the_better_choice_and_of_equal_ones_the_lower_row() -> None:
    score, row = merge_best(
        torch.tensor([1.0, 3.0, 2.0, float("-inf")]),
        torch.tensor([5, 6, 9, -1]),
        torch.tensor([2.0, 1.0, 2.0, 0.0]),
        torch.tensor([7, 0, 8, 4]),
    )
    assert (score.tolist(), row.tolist()) == ([2.0, 3.0, 2.0, 0.0], [7, 6, 8, 4])


@pytest.mark.parametrize("side", [48, 96, 768])
@pytest.mark.parametrize("k", [0, 3, 10])
def test_equals_the_whole_matrix(side: int, k: int) -> None:
    generator = np.random.default_rng(0)
    left, right = generator.normal(size=(120, 9)), generator.normal(size=(143, 9))
    right[:80] += 0.7 * left[:80]
    units = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (left, right)]
    scores = units[0] @ units[1].T
    if k:
        rows = np.sort(scores, axis=1)[:, -k:].mean(axis=1, keepdims=True)
        scores = 2 * scores - rows - np.sort(scores, axis=0)[-k:].mean(axis=0)
    choice, chosen_by = scores.argmax(axis=1), scores.argmax(axis=0)
    expected = [[row, column] for row, column in enumerate(choice.tolist()) if chosen_by[column] == row]
    found = mutual_nearest(
        torch.tensor(left, dtype=torch.float32),
        torch.tensor(right, dtype=torch.float32),
        k,
        budget_bytes=budget(side, 9),
    )
    assert found.pairs.tolist() == expected
    assert len(expected) > 40


def test_parts_merge_to_the_whole() -> None:
    generator = torch.Generator().manual_seed(0)
    # Signs: many equal similarities, so that the rule for ties is at work across parts.
    left, right = (torch.randint(0, 2, (110, 4), generator=generator) * 2.0 - 1.0 for _ in range(2))
    none = PairList.of(np.empty((0, 2), dtype=np.int64), 110, 110)
    survey = Survey.of(Part(left, right), none, num_left=110, num_right=110, k_csls=2)
    whole = Best.of(Part(left, right), survey)
    parts = [Best.of(Part(left[a:b], right, a), survey) for a, b in ((60, 110), (0, 25), (25, 60))]
    merged = parts[0].merge(parts[1]).merge(parts[2])
    assert torch.equal(merged.left_choice, whole.left_choice)
    assert torch.equal(merged.right_choice, whole.right_choice)
    assert merged.mutual().pairs.tolist() == whole.mutual().pairs.tolist()
    assert len(whole.mutual().pairs) > 1
