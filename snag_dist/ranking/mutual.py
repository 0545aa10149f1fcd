"""Pairs that choose each other: the candidates of the iterative stage, mined in tiles."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from snag_dist.kg.truth import Ids
from snag_dist.ranking.pairs import PairList, Survey
from snag_dist.ranking.similarity import DEFAULT_BUDGET, Codes, Part, csls, tiles


@dataclass(frozen=True)
class Best:
    """The nearest row of the other side, among those of a part of the matrix, at the size of the whole lists.

    Attributes:
        left_score, right_score: (n,) and (m,) its corrected similarity; -inf where the part has no such row.
        left_choice, right_choice: (n,) and (m,) int64 the row; of equally near ones the lowest; -1 without one.
    """

    left_score: Tensor
    left_choice: Tensor
    right_score: Tensor
    right_choice: Tensor

    @classmethod
    def of(cls, part: Part, survey: Survey, budget_bytes: int = DEFAULT_BUDGET) -> "Best":
        """Find them in a part of the matrix.

        Args:
            survey: of the whole matrix, merged over all parts, on the device of the codes.
        """
        left_mean, right_mean = survey.means()
        left_score = torch.full_like(left_mean, float("-inf"))
        right_score = torch.full_like(right_mean, float("-inf"))
        left_choice = torch.full_like(left_mean, -1, dtype=torch.int64)
        right_choice = torch.full_like(right_mean, -1, dtype=torch.int64)
        for tile in tiles(part, budget_bytes):
            rows, columns = slice(tile.left_start, tile.left_stop), slice(tile.right_start, tile.right_stop)
            scores = csls(tile.scores, left_mean[rows], right_mean[columns])
            score, place = scores.max(dim=1)
            left_score[rows], left_choice[rows] = merge_best(
                left_score[rows], left_choice[rows], score, place + columns.start
            )
            score, place = scores.max(dim=0)
            right_score[columns], right_choice[columns] = merge_best(
                right_score[columns], right_choice[columns], score, place + rows.start
            )
        return cls(left_score, left_choice, right_score, right_choice)

    def merge(self, other: "Best") -> "Best":
        """Return the nearest over both parts; they share no entry of the matrix."""
        left = merge_best(self.left_score, self.left_choice, other.left_score, other.left_choice)
        right = merge_best(self.right_score, self.right_choice, other.right_score, other.right_choice)
        return Best(*left, *right)

    def mutual(self) -> "MutualPairs":
        """Keep the pairs that choose each other."""
        left = torch.arange(len(self.left_choice), device=self.left_choice.device)
        chosen = self.left_choice >= 0
        left, right = left[chosen], self.left_choice[chosen]
        agreed = self.right_choice[right] == left
        pairs = torch.stack([left[agreed], right[agreed]], dim=1)
        return MutualPairs(pairs.cpu().numpy(), self.left_score[left[agreed]].cpu())


def merge_best(score: Tensor, row: Tensor, other_score: Tensor, other_row: Tensor) -> tuple[Tensor, Tensor]:
    """Return (N,) the better of two choices and its score; of equally good ones, the lower row."""
    takes_other = (other_score > score) | ((other_score == score) & (other_row < row))
    return torch.where(takes_other, other_score, score), torch.where(takes_other, other_row, row)


@dataclass(frozen=True)
class MutualPairs:
    """Pairs that are each other's nearest, ascending by the left row.

    Attributes:
        pairs: (P, 2) int64, columns left and right row; no row is in two pairs.
        scores: (P,) corrected similarity, on the CPU.
    """

    pairs: Ids
    scores: Tensor


@torch.no_grad()
def mutual_nearest(left: Codes, right: Codes, k_csls: int, *, budget_bytes: int = DEFAULT_BUDGET) -> MutualPairs:
    """Find the pairs of codes that are each other's nearest.

    Args:
        left, right: (n, D) and (m, D), not normalised: of the entities that may still be linked, encoded with clean
            features (the released code sometimes mines noised ones).
        k_csls: neighbours of CSLS; 0: plain cosine.
        budget_bytes: for the tile at work.

    Raises:
        NumericError: a code has no finite length.
        ResourceError: the budget is too small for any tile.
    """
    part, none = Part(left, right), PairList.of(np.empty((0, 2), dtype=np.int64), len(left), len(right))
    survey = Survey.of(part, none, num_left=len(left), num_right=len(right), k_csls=k_csls, budget_bytes=budget_bytes)
    return Best.of(part, survey, budget_bytes).mutual()
