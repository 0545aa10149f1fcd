"""CSLS by hand, and tiles that are the same however the matrix is divided."""

import pytest
import torch
from torch import Tensor

from snag_dist.errors import NumericError, ResourceError, ShapeError
from snag_dist.ranking.similarity import (
    DEFAULT_BUDGET,
    CodeBlocks,
    Part,
    csls,
    mean_top,
    merge_top,
    tile_side,
    tiles,
    top_values,
)

INFINITE = float("-inf")
GOLDEN = torch.tensor([[0.9, 0.1, 0.3], [0.2, 0.8, 0.7], [0.4, 0.6, 0.5]])
# A tile of 48 rows a side, of 4 to 8 numbers each.
SMALLEST = (6 * 48 * 48 + 6 * 48 * 8) * 4


def codes(num: int, width: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(num, width, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def assemble(part: Part, num_left: int, num_right: int, budget: int = DEFAULT_BUDGET) -> Tensor:
    whole = torch.full((num_left, num_right), float("nan"), dtype=part.left[:1].dtype)
    for tile in tiles(part, budget):
        place = whole[tile.left_start : tile.left_stop, tile.right_start : tile.right_stop]
        assert place.isnan().all()
        place.copy_(tile.scores)
    return whole


@pytest.mark.parametrize(
    ("k", "expected"),
    [
        (2, [[0.55, -1.1, -0.6], [-1.0, 0.15, 0.05], [-0.4, -0.05, -0.15]]),
        (3, [[0.866667, -0.733333, -0.333333], [-0.666667, 0.533333, 0.333333], [-0.2, 0.2, 0.0]]),
        (0, [[1.8, 0.2, 0.6], [0.4, 1.6, 1.4], [0.8, 1.2, 1.0]]),
        # More neighbours than there are: all of them count.
        (9, [[0.866667, -0.733333, -0.333333], [-0.666667, 0.533333, 0.333333], [-0.2, 0.2, 0.0]]),
    ],
)
def test_golden_csls(k: int, expected: list[list[float]]) -> None:
    corrected = csls(GOLDEN, mean_top(top_values(GOLDEN, k)), mean_top(top_values(GOLDEN.T, k)))
    torch.testing.assert_close(corrected, torch.tensor(expected), atol=1e-6, rtol=0)


def test_largest_values_are_padded_where_there_are_too_few() -> None:
    top = top_values(torch.tensor([[1.0, 3.0, 2.0]]), 4)
    assert top.tolist() == [[3.0, 2.0, 1.0, INFINITE]]
    assert mean_top(top).tolist() == [2.0]
    assert mean_top(torch.full((2, 3), INFINITE)).tolist() == [0.0, 0.0]


def test_largest_values_merge_in_any_order() -> None:
    mine, theirs = torch.tensor([[5.0, 1.0], [2.0, INFINITE]]), torch.tensor([[4.0, 4.0], [INFINITE, INFINITE]])
    assert merge_top(mine, theirs).tolist() == merge_top(theirs, mine).tolist() == [[5.0, 4.0], [2.0, INFINITE]]


def test_cosines_by_hand_whatever_the_lengths() -> None:
    left, right = torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.5], [-6.0, -8.0], [10.0, 0.0]])
    found = assemble(Part(left, right), 2, 3)
    torch.testing.assert_close(found, torch.tensor([[0.8, -1.0, 0.6], [0.0, 0.0, 0.0]]))


def test_half_precision_is_compared_in_single() -> None:
    (tile,) = tiles(Part(codes(5, 4, 0).half(), codes(6, 4, 1).half()))
    assert tile.scores.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_similarity_has_the_same_bits_in_any_part_of_the_matrix(dtype: torch.dtype) -> None:
    left, right = codes(130, 37, 0, dtype), codes(151, 37, 1, dtype)
    budget = (6 * 48 * 48 + 6 * 48 * 37) * dtype.itemsize
    whole = assemble(Part(left, right), 130, 151)
    assert torch.allclose(
        whole, torch.nn.functional.normalize(left) @ torch.nn.functional.normalize(right).T, atol=1e-6
    )
    for limit in (DEFAULT_BUDGET, budget):
        whole = assemble(Part(left, right), 130, 151, limit)
        for start, stop, right_start, right_stop in ((0, 50, 0, 151), (50, 130, 7, 100), (129, 130, 150, 151)):
            part = Part(left[start:stop], right[right_start:right_stop], start, right_start)
            found = assemble(part, 130, 151, limit)[start:stop, right_start:right_stop]
            assert torch.equal(found, whole[start:stop, right_start:right_stop])


def test_equal_codes_tie_wherever_they_stand() -> None:
    same = codes(1, 37, 0, torch.float64).expand(900, 37)
    assert assemble(Part(same, same), 900, 900).unique().numel() == 1


def test_blocks_read_like_one_tensor() -> None:
    whole = codes(20, 3, 0)
    blocks = CodeBlocks([whole[:7], whole[7:7], whole[7:8], whole[8:]])
    assert len(blocks) == 20
    for rows in (slice(0, 20), slice(5, 9), slice(7, 7), slice(8, 100), slice(0, 1), slice(None)):
        assert torch.equal(blocks[rows], whole[rows])


def test_blocks_of_two_widths_are_refused() -> None:
    with pytest.raises(ShapeError) as caught:
        CodeBlocks([codes(2, 3, 0), codes(2, 4, 0)])
    assert str(caught.value) == (
        "code blocks: expected (n, D) blocks of one width, got widths [(3,), (4,)]; pass such blocks"
    )


def test_sides_of_two_widths_are_refused() -> None:
    with pytest.raises(ShapeError) as caught:
        list(tiles(Part(codes(2, 3, 0), codes(2, 4, 0))))
    assert str(caught.value) == (
        "similarity: expected (n, D) left and right codes of one width and type, got (3,) torch.float32 and (4,) "
        "torch.float32; encode both sides alike"
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_code_without_a_length_is_an_error(value: float) -> None:
    right = codes(60, 4, 1)
    right[55, 2] = value
    with pytest.raises(NumericError) as caught:
        list(tiles(Part(codes(3, 4, 0), right, right_start=100), SMALLEST))
    assert str(caught.value) == (
        f"similarity, right code 155: expected a vector of finite length, got length {value}; the encoder gives "
        "non-finite numbers: take an earlier checkpoint, or train with a lower learning rate"
    )


def test_the_budget_sets_the_tile() -> None:
    assert tile_side(300, torch.float32, DEFAULT_BUDGET) == 768
    assert tile_side(8, torch.float32, SMALLEST) == 48
    with pytest.raises(ResourceError) as caught:
        tile_side(8, torch.float32, SMALLEST - 1)
    assert str(caught.value) == (
        f"similarity: expected a budget of at least {SMALLEST} bytes, a tile of 48 codes a side of width 8, got "
        f"{SMALLEST - 1}; raise the budget"
    )


def test_no_codes_give_no_tile() -> None:
    assert list(tiles(Part(codes(0, 4, 0), codes(3, 4, 0)))) == []
