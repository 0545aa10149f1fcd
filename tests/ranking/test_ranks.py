"""Counts and the three kinds of rank, by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor

from snag_dist.errors import NumericError
from snag_dist.ranking.questions import Questions
from snag_dist.ranking.ranks import RankTable, count_better_equal, find_nan, refuse_nan


def count(
    scores: Tensor, targets: list[float], column: list[int], excluded: list[tuple[int, int]] | None = None
) -> tuple[list[int], list[int]]:
    query, place = torch.tensor(excluded or [], dtype=torch.int64).view(-1, 2).unbind(1)
    better, equal = count_better_equal(scores, torch.tensor(targets), torch.tensor(column), query, place)
    return better.tolist(), equal.tolist()


def table(better: list[int], equal: list[int]) -> RankTable:
    zeros = np.zeros(len(better), dtype=np.int64)
    return RankTable(zeros, zeros, zeros, zeros.astype(bool), np.array(better), np.array(equal))


def test_three_entities_with_a_tie() -> None:
    scores = torch.tensor([[2.0, 5.0, 2.0], [1.0, 0.0, -1.0]])
    better, equal = count(scores, [2.0, 0.0], [0, 1])
    assert (better, equal) == ([1, 1], [1, 0])
    ranks = table(better, equal)
    assert ranks.optimistic.tolist() == [2, 2]
    assert ranks.pessimistic.tolist() == [3, 2]
    assert ranks.realistic.tolist() == [2.5, 2.0]


def test_excluded_candidates_count_neither_as_better_nor_as_equal() -> None:
    scores = torch.tensor([[3.0, 7.0, 3.0, 1.0, 9.0]] * 2)
    assert count(scores, [3.0, 3.0], [0, 0], [(0, 1), (0, 2), (0, 3), (1, 4)]) == ([1, 1], [0, 1])


def test_the_answer_never_counts_whether_it_is_listed_as_known_or_not() -> None:
    scores = torch.tensor([[3.0, 3.0]])
    assert count(scores, [3.0], [0]) == count(scores, [3.0], [0], [(0, 0)]) == ([0], [1])


def test_an_answer_that_lies_elsewhere_does_not_take_a_candidate_away() -> None:
    assert count(torch.tensor([[4.0, 2.0, 3.0]]), [3.0], [-1]) == ([1], [1])


def test_counts_of_disjoint_candidates_add_up() -> None:
    scores = torch.randint(0, 4, (6, 10), generator=torch.Generator().manual_seed(0)).float()
    column = [0, 3, 5, 9, 2, 7]
    targets = scores[range(6), column].tolist()
    whole = count(scores, targets, column, [(1, 8), (4, 0)])
    left = count(scores[:, :5], targets, [c if c < 5 else -1 for c in column], [(4, 0)])
    right = count(scores[:, 5:], targets, [c - 5 if c >= 5 else -1 for c in column], [(1, 3)])
    assert [np.add(*pair).tolist() for pair in zip(left, right, strict=True)] == list(whole)


def test_infinite_scores_are_ordered_like_others() -> None:
    scores = torch.tensor([[-torch.inf, torch.inf, -torch.inf]])
    assert count(scores, [-torch.inf], [0], [(0, 1)]) == ([0], [1])


def test_constant_scores_rank_in_the_middle_not_at_the_top() -> None:
    better, equal = count(torch.zeros(1, 101), [0.0], [40])
    ranks = table(better, equal)
    assert (ranks.optimistic[0], ranks.realistic[0], ranks.pessimistic[0]) == (1, 51.0, 101)


def test_nan_is_found_in_its_row() -> None:
    scores = torch.zeros(3, 4)
    scores[1, 2] = torch.nan
    scores[2, 0] = torch.inf
    assert find_nan(scores).tolist() == [False, True, False]
    assert find_nan(torch.empty(2, 0)).tolist() == [False, False]


def test_nan_is_refused_with_the_question_it_is_in() -> None:
    questions = Questions.of(np.array([[7, 3, 9]], dtype=np.int64))
    refuse_nan(np.array([False, False]), questions)
    with pytest.raises(NumericError, match=r"\(head row 7, relation 3, tail \?\): expected numbers.*NaN \(1 of 2"):
        refuse_nan(np.array([False, True]), questions)


def test_a_table_knows_both_ends_of_its_queries() -> None:
    questions = Questions.of(np.array([[7, 3, 9], [7, 3, 8]], dtype=np.int64))
    ranks = RankTable.of(questions, np.array([5, 6, 7, 8]), np.array([0, 1, 2, 3]))
    assert ranks.find_tail.tolist() == [False, False, True, True]
    assert ranks.known.tolist() == [8, 9, 7, 7]
    assert ranks.answer.tolist() == [7, 7, 8, 9]
    assert ranks.tail.tolist() == [8, 9, 8, 9]


def test_tables_are_cut_and_joined() -> None:
    ranks = table([1, 2, 3], [4, 5, 6])
    joined = RankTable.concatenate([ranks.take(np.array([2])), ranks.take(np.array([True, True, False]))])
    assert joined.better.tolist() == [3, 1, 2]
    assert joined.equal.tolist() == [6, 4, 5]
    assert len(RankTable.concatenate([])) == 0
