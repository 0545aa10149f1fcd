"""Ranks of linked pairs: by hand, against the whole matrix at once, and in parts."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from snag_dist.errors import DataError, NumericError, ResourceError, ShapeError
from snag_dist.ranking.pairs import PairCounts, PairList, PairRanks, Survey, rank_pairs
from snag_dist.ranking.ranks import RankTable
from snag_dist.ranking.similarity import CodeBlocks, Part

NUM_LEFT, NUM_RIGHT, WIDTH = 131, 167, 16


def budget(side: int) -> int:
    return (6 * side * side + 6 * side * WIDTH) * 4


def exact_codes(num: int, seed: int) -> Tensor:
    """Rows of 16 signs: of length 4, so that all cosines are multiples of 1/8 and many are equal."""
    signs = torch.randint(0, 2, (num, WIDTH), generator=torch.Generator().manual_seed(seed)) * 2.0 - 1.0
    signs[:, 6:] = 1.0
    return signs


def random_pairs(seed: int, num: int = 60) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.stack([generator.permutation(NUM_LEFT)[:num], generator.permutation(NUM_RIGHT)[:num]], axis=1)


def dense_ranks(left: Tensor, right: Tensor, pairs: np.ndarray, k: int) -> list[list[list[int]]]:
    """Better and equal counts of both directions, from the whole matrix by sorting it."""
    scores = (left.double() / left.double().norm(dim=1, keepdim=True)).numpy() @ (
        right.double() / right.double().norm(dim=1, keepdim=True)
    ).numpy().T
    rows = np.sort(scores, axis=1)[:, ::-1][:, :k].mean(axis=1) if k else np.zeros(len(left))
    columns = np.sort(scores, axis=0)[::-1][:k].mean(axis=0) if k else np.zeros(len(right))
    corrected = 2 * scores - rows[:, None] - columns[None]
    found: list[list[list[int]]] = []
    for matrix, asked, answer in (
        (corrected, pairs[:, 0], pairs[:, 1]),
        (corrected.T, pairs[:, 1], pairs[:, 0]),
    ):
        own = matrix[asked, answer][:, None]
        level = np.abs(matrix[asked] - own) < 1e-6
        found.append([((matrix[asked] > own) & ~level).sum(axis=1).tolist(), (level.sum(axis=1) - 1).tolist()])
    return found


def counts_of(ranks: PairRanks) -> list[list[list[int]]]:
    return [[table.better.tolist(), table.equal.tolist()] for table in (ranks.left_to_right, ranks.right_to_left)]


def test_three_pairs_by_hand() -> None:
    # Cosines [[1, 0, .8], [0, 1, .6], [1, 0, .8]].
    left = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    right = torch.tensor([[1.0, 0.0], [0.0, 3.0], [0.8, 0.6]])
    ranks = rank_pairs(left, right, np.array([[0, 0], [1, 1], [2, 2]]), k_csls=0)
    assert counts_of(ranks) == [[[0, 0, 1], [0, 0, 0]], [[0, 0, 0], [1, 0, 1]]]
    there, back = ranks.metrics()
    assert there.mrr == pytest.approx((1 + 1 + 1 / 2) / 3)
    assert back.hits(1) == pytest.approx(1 / 3)
    assert back.realistic.reciprocal == pytest.approx(1 / 1.5 + 1 + 1 / 1.5)
    assert (there + back).count == 6
    assert ranks.left_to_right.answer.tolist() == [0, 1, 2]
    assert ranks.right_to_left.find_tail.tolist() == [False] * 3


def test_csls_takes_a_hub_down() -> None:
    # Right row 0 is near to every left row and would win for all three; k = 2.
    left = torch.tensor([[1.0, 0.6, 0.0, 0.0], [1.0, 0.0, 0.6, 0.0], [1.0, 0.0, 0.0, 0.6]])
    pairs = np.array([[0, 1], [1, 2], [2, 3]])
    right = torch.tensor([[1.0, 0.1, 0.1, 0.1], [0.3, 1.0, 0.0, 0.0], [0.3, 0.0, 1.0, 0.0], [0.3, 0.0, 0.0, 1.0]])
    assert rank_pairs(left, right, pairs, k_csls=0).left_to_right.better.tolist() == [1, 1, 1]
    assert rank_pairs(left, right, pairs, k_csls=2).left_to_right.better.tolist() == [0, 0, 0]


@pytest.mark.parametrize("side", [48, 96, 768])
@pytest.mark.parametrize("k", [0, 1, 2, 4])
def test_equals_the_whole_matrix_with_ties(side: int, k: int) -> None:
    left, right, pairs = exact_codes(NUM_LEFT, 0), exact_codes(NUM_RIGHT, 1), random_pairs(2)
    found = counts_of(rank_pairs(left, right, pairs, k_csls=k, budget_bytes=budget(side)))
    assert found == dense_ranks(left, right, pairs, k)
    assert sum(found[0][1]) > 100


@pytest.mark.parametrize("side", [48, 96, 768])
def test_equals_the_whole_matrix_of_real_numbers(side: int) -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(num, WIDTH, generator=generator) for num in (NUM_LEFT, NUM_RIGHT))
    pairs = random_pairs(3)
    right[pairs[:, 1]] += left[pairs[:, 0]]
    found = counts_of(rank_pairs(left, right, pairs, k_csls=3, budget_bytes=budget(side)))
    assert found == dense_ranks(left, right, pairs, 3)


def test_codes_in_blocks_give_the_same_ranks() -> None:
    left, right, pairs = exact_codes(NUM_LEFT, 0), exact_codes(NUM_RIGHT, 1), random_pairs(2)
    blocks = CodeBlocks(left.split(17)), CodeBlocks(right.split(50))
    assert counts_of(rank_pairs(*blocks, pairs, k_csls=3)) == counts_of(rank_pairs(left, right, pairs, k_csls=3))


@pytest.mark.parametrize("owners", [2, 3, 5])
def test_owners_merge_surveys_and_add_counts_to_the_same_bits(owners: int) -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(num, WIDTH, generator=generator) for num in (NUM_LEFT, NUM_RIGHT))
    listed = PairList.of(random_pairs(3), NUM_LEFT, NUM_RIGHT)
    bounds = np.linspace(0, NUM_RIGHT, owners + 1).astype(int).tolist()
    parts = [Part(left[a:b], right[c:d], a, c) for a, b in ((0, 40), (40, NUM_LEFT)) for c, d in pairwise(bounds)]

    def survey(part: Part) -> Survey:
        return Survey.of(part, listed, num_left=NUM_LEFT, num_right=NUM_RIGHT, k_csls=4, budget_bytes=budget(96))

    whole, merged = survey(Part(left, right)), survey(parts[-1])
    for part in parts[:-1]:
        merged = merged.merge(survey(part))
    assert torch.equal(merged.left_top, whole.left_top)
    assert torch.equal(merged.right_top, whole.right_top)
    assert torch.equal(merged.targets, whole.targets)
    counts = PairCounts.of(parts[0], listed, merged, budget(96))
    for part in parts[1:]:
        counts = counts + PairCounts.of(part, listed, merged, budget(96))
    alone = rank_pairs(left, right, random_pairs(3), k_csls=4, budget_bytes=budget(96))
    assert counts_of(PairRanks.of(listed, counts)) == counts_of(alone)


def test_codes_that_are_all_equal_rank_in_the_middle() -> None:
    same = torch.full((NUM_RIGHT, WIDTH), 0.3)
    there, back = rank_pairs(same[:NUM_LEFT], same, random_pairs(4), k_csls=3).metrics()
    assert there.mean_rank == (NUM_RIGHT + 1) / 2
    assert back.mean_rank == (NUM_LEFT + 1) / 2


def test_candidates_are_all_rows_and_a_pair_may_share_an_end() -> None:
    left, right = torch.eye(3)[:1], torch.tensor([[1.0, 0.1, 0.0], [1.0, 0.2, 0.0], [0.0, 0.0, 1.0]])
    ranks = rank_pairs(left, right, np.array([[0, 1], [0, 0]]), k_csls=0)
    assert ranks.left_to_right.optimistic.tolist() == [2, 1]
    assert ranks.right_to_left.optimistic.tolist() == [1, 1]


def test_no_pairs_have_no_ranks() -> None:
    ranks = rank_pairs(torch.eye(3), torch.eye(3), np.empty((0, 2), dtype=np.int64), k_csls=1)
    assert isinstance(ranks.left_to_right, RankTable)
    assert len(ranks.left_to_right) == 0


def test_no_gradient_is_kept() -> None:
    left = torch.eye(3, requires_grad=True)
    listed = PairList.of(np.array([[0, 0]]), 3, 3)
    survey = Survey.of(Part(left, torch.eye(3)), listed, num_left=3, num_right=3, k_csls=1)
    assert not survey.targets.requires_grad


def test_nan_is_an_error() -> None:
    left = torch.eye(3)
    left[1, 1] = float("nan")
    with pytest.raises(NumericError, match="similarity, left code 1: expected a vector of finite length"):
        rank_pairs(left, torch.eye(3), np.array([[0, 0]]), k_csls=1)


def test_a_budget_too_small_for_a_tile_is_an_error() -> None:
    with pytest.raises(ResourceError, match="similarity: expected a budget of at least"):
        rank_pairs(torch.eye(3), torch.eye(3), np.array([[0, 0]]), k_csls=1, budget_bytes=1000)


def test_wrong_pairs_are_told() -> None:
    with pytest.raises(DataError) as caught:
        rank_pairs(torch.eye(3), torch.eye(3), np.array([[0, 0], [1, 3]]), k_csls=1)
    assert str(caught.value) == (
        "pairs row 1: expected a right row in [0, 3), got 3; number the pairs by the lists they are compared in"
    )
    with pytest.raises(ShapeError) as shape:
        rank_pairs(torch.eye(3), torch.eye(3), np.array([0, 1]), k_csls=1)
    assert str(shape.value) == "pairs: expected (P, 2) left and right rows, got (2,); pass two columns"
