"""Where the true counterpart stands: ranks of linked pairs in both directions, from tiles of similarities.

Two passes over the matrix. The first surveys it: nearest neighbours of every row and column, and the similarity of
every pair. The second counts what is better than, and level with, each pair, by row (left to right) and by column
(right to left). Surveys merge and counts add up over disjoint parts of the matrix, so each worker takes the rows it
owns, and the ranks are those of a single machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from snag_dist.errors import DataError, ShapeError
from snag_dist.kg.truth import Ids
from snag_dist.ranking.metrics import RankMetrics
from snag_dist.ranking.ranks import RankTable, count_better_equal
from snag_dist.ranking.similarity import (
    DEFAULT_BUDGET,
    Codes,
    Part,
    Tile,
    csls,
    mean_top,
    merge_top,
    score_type,
    tiles,
    top_values,
)


@dataclass(frozen=True)
class PairList:
    """P pairs of rows, findable by either end.

    Attributes:
        left, right: (P,) int64 rows of the left and right list.
        by_left, by_right: (P,) the order that sorts the pairs by that end.
    """

    left: Ids
    right: Ids
    by_left: Ids
    by_right: Ids

    @classmethod
    def of(cls, pairs: Ids, num_left: int, num_right: int) -> "PairList":
        """Take pairs (P, 2) int64, columns left and right row.

        Raises:
            DataError: a row is outside its list.
            ShapeError: the pairs are not (P, 2).
        """
        if pairs.ndim != 2 or pairs.shape[1] != 2:
            raise ShapeError(f"pairs: expected (P, 2) left and right rows, got {pairs.shape}; pass two columns")
        outside = (pairs < 0) | (pairs >= np.array([num_left, num_right]))
        if outside.any():
            row, column = (int(place[0]) for place in np.nonzero(outside))
            raise DataError(
                f"pairs row {row}: expected a {('left', 'right')[column]} row in [0, {(num_left, num_right)[column]}), "
                f"got {pairs[row, column]}; number the pairs by the lists they are compared in"
            )
        left, right = pairs[:, 0], pairs[:, 1]
        return cls(left, right, np.argsort(left, kind="stable"), np.argsort(right, kind="stable"))

    def __len__(self) -> int:
        return len(self.left)

    def in_rows(self, tile: Tile) -> Ids:
        """Return the pairs whose left row is in the tile."""
        return _between(self.left, self.by_left, tile.left_start, tile.left_stop)

    def in_columns(self, tile: Tile) -> Ids:
        """Return the pairs whose right row is in the tile."""
        return _between(self.right, self.by_right, tile.right_start, tile.right_stop)


def _between(rows: Ids, order: Ids, start: int, stop: int) -> Ids:
    first, last = np.searchsorted(rows, [start, stop], sorter=order)
    return order[first:last]


@dataclass(frozen=True)
class Survey:
    """What the first pass keeps of a part of the matrix, at the size of the whole lists.

    Attributes:
        left_top: (n, k) largest similarities of each left row, descending; -inf where fewer were seen.
        right_top: (m, k) the same of each right row.
        targets: (P,) similarity of each pair; -inf where it lies elsewhere.
    """

    left_top: Tensor
    right_top: Tensor
    targets: Tensor

    @classmethod
    def of(
        cls,
        part: Part,
        pairs: PairList,
        *,
        num_left: int,
        num_right: int,
        k_csls: int,
        budget_bytes: int = DEFAULT_BUDGET,
    ) -> "Survey":
        """Survey a part of a matrix (num_left, num_right).

        Args:
            k_csls: neighbours that count for CSLS; 0: none, the ranks are those of the cosine.
            budget_bytes: for the tile at work.

        Raises:
            NumericError: a code has no finite length.
        """
        template = part.left[:0].detach()
        template = template.to(score_type(template.dtype))
        left_top = template.new_full((num_left, k_csls), float("-inf"))
        right_top = template.new_full((num_right, k_csls), float("-inf"))
        targets = template.new_full((len(pairs),), float("-inf"))
        for tile in tiles(part, budget_bytes):
            if k_csls:
                rows, columns = slice(tile.left_start, tile.left_stop), slice(tile.right_start, tile.right_stop)
                left_top[rows] = merge_top(left_top[rows], top_values(tile.scores, k_csls))
                # Laid out anew: the largest along the far axis are slow to find.
                right_top[columns] = merge_top(right_top[columns], top_values(tile.scores.T.contiguous(), k_csls))
            inside = pairs.in_rows(tile)
            right = pairs.right[inside]
            inside = inside[(right >= tile.right_start) & (right < tile.right_stop)]
            row, column = pairs.left[inside] - tile.left_start, pairs.right[inside] - tile.right_start
            targets[_index(inside, targets)] = tile.scores[_index(row, targets), _index(column, targets)]
        return cls(left_top, right_top, targets)

    def merge(self, other: "Survey") -> "Survey":
        """Return the survey of both parts together; they share no entry of the matrix."""
        return Survey(
            merge_top(self.left_top, other.left_top),
            merge_top(self.right_top, other.right_top),
            torch.maximum(self.targets, other.targets),
        )

    def without_neighbours(self) -> "Survey":
        """Return the survey whose ranks are those of the cosine."""
        return Survey(self.left_top[:, :0], self.right_top[:, :0], self.targets)

    def means(self) -> tuple[Tensor, Tensor]:
        """Return (n,) and (m,) what CSLS takes from a similarity for its left and right end."""
        return mean_top(self.left_top), mean_top(self.right_top)


@dataclass(frozen=True)
class PairCounts:
    """Candidates of a part of the matrix that are better than, and level with, the true counterparts.

    Attributes:
        better_right, equal_right: (P,) int64 right rows, asked from the left; the counterpart is not among them.
        better_left, equal_left: (P,) int64 left rows, asked from the right.
    """

    better_right: Tensor
    equal_right: Tensor
    better_left: Tensor
    equal_left: Tensor

    @classmethod
    def of(cls, part: Part, pairs: PairList, survey: Survey, budget_bytes: int = DEFAULT_BUDGET) -> "PairCounts":
        """Count in a part of the matrix.

        Args:
            survey: of the whole matrix, merged over all parts, on the device of the codes.
        """
        return cls.by_surveys(part, pairs, [survey], budget_bytes)[0]

    @classmethod
    def by_surveys(
        cls, part: Part, pairs: PairList, surveys: Sequence[Survey], budget_bytes: int = DEFAULT_BUDGET
    ) -> list["PairCounts"]:
        """Count in a part of the matrix once for each survey, whose neighbours differ, from the same similarities."""
        counters = [_Counter(pairs, survey) for survey in surveys]
        for tile in tiles(part, budget_bytes):
            for counter in counters:
                counter.add(tile)
        return [cls(*counter.counts) for counter in counters]

    def __add__(self, other: "PairCounts") -> "PairCounts":
        return PairCounts(
            self.better_right + other.better_right,
            self.equal_right + other.equal_right,
            self.better_left + other.better_left,
            self.equal_left + other.equal_left,
        )


class _Counter:
    def __init__(self, pairs: PairList, survey: Survey):
        self._pairs = pairs
        self._left_mean, self._right_mean = survey.means()
        self._left, self._right = (_index(rows, survey.targets) for rows in (pairs.left, pairs.right))
        # The order of operations is that of `csls`, so that a pair equals itself.
        self._targets = (2.0 * survey.targets - self._left_mean[self._left]) - self._right_mean[self._right]
        self.counts = torch.zeros(4, len(pairs), dtype=torch.int64, device=survey.targets.device)

    def add(self, tile: Tile) -> None:
        rows, columns = slice(tile.left_start, tile.left_stop), slice(tile.right_start, tile.right_stop)
        scores = csls(tile.scores, self._left_mean[rows], self._right_mean[columns])
        asked = _index(self._pairs.in_rows(tile), scores)
        places = self._left[asked] - rows.start, self._right[asked] - columns.start
        self.counts[:2, asked] += _count(scores[places[0]], self._targets[asked], places[1])
        asked = _index(self._pairs.in_columns(tile), scores)
        places = self._left[asked] - rows.start, self._right[asked] - columns.start
        self.counts[2:, asked] += _count(scores.T[places[1]], self._targets[asked], places[0])


def _count(scores: Tensor, targets: Tensor, target_place: Tensor) -> Tensor:
    """Return (2, q) better and equal among candidates (q, K); the place is outside [0, K) where it lies elsewhere."""
    here = (target_place >= 0) & (target_place < scores.shape[1])
    none = target_place[:0]
    return torch.stack(count_better_equal(scores, targets, torch.where(here, target_place, -1), none, none))


def _index(rows: Ids, like: Tensor) -> Tensor:
    return torch.as_tensor(rows, device=like.device)


@dataclass(frozen=True)
class PairRanks:
    """Ranks of P pairs in both directions.

    A pair is a triple whose head is the left row and whose tail the right row, relation 0 throughout ("is the same
    as"), so tables and metrics are those of completion.

    Attributes:
        left_to_right: (P,) the right row is asked for; the headline of the papers.
        right_to_left: (P,) the left row is asked for.
    """

    left_to_right: RankTable
    right_to_left: RankTable

    @classmethod
    def of(cls, pairs: PairList, counts: PairCounts) -> "PairRanks":
        """Put the counts of the whole matrix beside the pairs."""
        same = np.zeros(len(pairs), dtype=np.int64)

        def table(find_right: bool, better: Tensor, equal: Tensor) -> RankTable:
            asked = np.full(len(pairs), find_right, dtype=np.bool_)
            return RankTable(pairs.left, same, pairs.right, asked, better.cpu().numpy(), equal.cpu().numpy())

        return cls(
            table(True, counts.better_right, counts.equal_right), table(False, counts.better_left, counts.equal_left)
        )

    def metrics(self) -> tuple[RankMetrics, RankMetrics]:
        """Return the metrics left to right and right to left; their sum is that of both directions."""
        return RankMetrics.of(self.left_to_right), RankMetrics.of(self.right_to_left)


@torch.no_grad()
def rank_pairs(left: Codes, right: Codes, pairs: Ids, *, k_csls: int, budget_bytes: int = DEFAULT_BUDGET) -> PairRanks:
    """Rank the true counterpart of each pair among all codes of the other side, in both directions.

    The published protocol compares the test pairs alone: left and right are their codes, and pair i is (i, i). The
    real question is asked among all entities of both graphs.

    Args:
        left, right: (n, D) and (m, D), not normalised; both are candidates, and neighbours for CSLS, as a whole.
        pairs: (P, 2) int64 rows of left and right. Another counterpart of the same row counts as any candidate.
        k_csls: neighbours of CSLS (published: 3), all where there are fewer; 0: plain cosine.
        budget_bytes: for the tile at work; beside it, k numbers a code and a few a pair are kept.

    Raises:
        DataError: a pair is outside the lists.
        NumericError: a code has no finite length.
        ResourceError: the budget is too small for any tile.
    """
    listed = PairList.of(pairs, len(left), len(right))
    part = Part(left, right)
    survey = Survey.of(part, listed, num_left=len(left), num_right=len(right), k_csls=k_csls, budget_bytes=budget_bytes)
    return PairRanks.of(listed, PairCounts.of(part, listed, survey, budget_bytes))
