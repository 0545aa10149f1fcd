"""Ranks of linked pairs, and pairs that choose each other, where the codes of both graphs lie on many workers.

Every worker compares the left codes it owns with all right codes, which visit it a block at a time; what it finds
merges. Similarities are computed in tiles on one grid over the whole matrix, so the results are those of one worker,
bit for bit, given the same codes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snag_dist.errors import NumericError
from snag_dist.ranking.mutual import Best, MutualPairs
from snag_dist.ranking.pairs import PairCounts, PairList, PairRanks, Survey
from snag_dist.ranking.similarity import DEFAULT_BUDGET, Part, code_lengths, merge_top, score_type
from snag_dist.shard.group import Group
from snag_dist.shard.partition import Partition

Ids = NDArray[np.int64]

# Right codes that visit at a time.
_VISITORS = 16_384


@dataclass(frozen=True)
class OwnedCodes:
    """Codes of a list of entities, of which this worker holds a run.

    Attributes:
        codes: (n, D) of the run.
        bounds: (W + 1,) where the run of each worker begins in the list.
        rank: of this worker.
    """

    codes: Tensor
    bounds: Ids
    rank: int

    @classmethod
    def of(cls, entities: Ids, codes: Tensor, partition: Partition, rank: int) -> "OwnedCodes":
        """Take the codes of some entities.

        Args:
            entities: (N,) row ids, distinct and ascending, the same on every worker.
            codes: (E_local, P) of all rows this worker owns.
            partition: of the rows.
            rank: of this worker.
        """
        bounds = np.searchsorted(entities, partition.bounds())
        mine = entities[bounds[rank] : bounds[rank + 1]] - partition.rows(rank)[0]
        return cls(codes.index_select(0, torch.from_numpy(mine).to(codes.device)), bounds, rank)

    def __len__(self) -> int:
        return int(self.bounds[-1])

    @property
    def start(self) -> int:
        """Where this worker's run begins in the list."""
        return int(self.bounds[self.rank])


def _parts(left: OwnedCodes, right: OwnedCodes, group: Group) -> Iterator[Part]:
    """Yield this worker's left codes against all right codes, block after block. A collective."""
    for owner in range(group.size):
        first, stop = int(right.bounds[owner]), int(right.bounds[owner + 1])
        for start in range(first, stop, _VISITORS):
            size = min(_VISITORS, stop - start)
            if owner == group.rank:
                block = right.codes[start - first : start - first + size].contiguous()
            else:
                block = right.codes.new_empty(size, right.codes.shape[1])
            yield Part(left.codes, group.broadcast(block, owner), left.start, start)


def _require_finite(left: OwnedCodes, right: OwnedCodes, group: Group) -> None:
    # None may stop alone: the others would wait for its codes.
    found: str | None = None
    try:
        for what, owned in (("left", left), ("right", right)):
            for number, block in enumerate(owned.codes.split(_VISITORS)):
                code_lengths(block.to(score_type(block.dtype)), owned.start + number * _VISITORS, what)
    except NumericError as error:
        found = str(error)
    for message in group.gather_objects(found):
        if message is not None:
            raise NumericError(message)


def _survey(
    left: OwnedCodes, right: OwnedCodes, pairs: PairList, k_csls: int, group: Group, budget_bytes: int
) -> Survey:
    _require_finite(left, right, group)
    sizes = {"num_left": len(left), "num_right": len(right), "k_csls": k_csls, "budget_bytes": budget_bytes}
    empty = Part(left.codes[:0], right.codes[:0])
    survey = Survey.of(empty, pairs, **sizes)
    for part in _parts(left, right, group):
        survey = survey.merge(Survey.of(part, pairs, **sizes))
    tops: list[Tensor] = []
    for mine in (survey.left_top, survey.right_top):
        merged, *others = group.all_gather(mine)
        for other in others:
            merged = merge_top(merged, other)
        tops.append(merged)
    return Survey(tops[0], tops[1], group.maximum(survey.targets))


@torch.no_grad()
def rank_owned_pairs(
    left: OwnedCodes, right: OwnedCodes, pairs: Ids, *, k_csls: int, group: Group, budget_bytes: int = DEFAULT_BUDGET
) -> PairRanks:
    """Rank the counterpart of each pair among all codes of the other side, in both directions. A collective.

    Args:
        left, right: candidates of both sides, and neighbours for CSLS.
        pairs: (P, 2) int64 positions in both lists, the same on every worker.
        k_csls: neighbours of CSLS; 0: plain cosine.
        group: the workers.
        budget_bytes: of each worker for the tile at work; see `rank_pairs`.

    Raises:
        NumericError: a code has no finite length, on every worker alike.
        ResourceError: see `rank_pairs`.
    """
    listed = PairList.of(pairs, len(left), len(right))
    survey = _survey(left, right, listed, k_csls, group, budget_bytes)
    return _count(left, right, listed, [survey], group, budget_bytes)[0]


@torch.no_grad()
def rank_owned_pairs_both_ways(
    left: OwnedCodes, right: OwnedCodes, pairs: Ids, *, k_csls: int, group: Group, budget_bytes: int = DEFAULT_BUDGET
) -> tuple[PairRanks, PairRanks]:
    """Rank as `rank_owned_pairs`, by CSLS and by plain cosine, from the same two passes. A collective.

    Args and errors: see `rank_owned_pairs`; k_csls is at least 1.
    """
    listed = PairList.of(pairs, len(left), len(right))
    survey = _survey(left, right, listed, k_csls, group, budget_bytes)
    by_csls, by_cosine = _count(left, right, listed, [survey, survey.without_neighbours()], group, budget_bytes)
    return by_csls, by_cosine


def _count(
    left: OwnedCodes, right: OwnedCodes, pairs: PairList, surveys: Sequence[Survey], group: Group, budget_bytes: int
) -> list[PairRanks]:
    counts = PairCounts.by_surveys(Part(left.codes[:0], right.codes[:0]), pairs, surveys, budget_bytes)
    for part in _parts(left, right, group):
        found = PairCounts.by_surveys(part, pairs, surveys, budget_bytes)
        counts = [mine + theirs for mine, theirs in zip(counts, found, strict=True)]
    columns = [[each.better_right, each.equal_right, each.better_left, each.equal_left] for each in counts]
    summed = group.sum(torch.stack([torch.stack(each) for each in columns]))
    return [PairRanks.of(pairs, PairCounts(*each)) for each in summed]


@torch.no_grad()
def find_mutual_pairs(
    left: OwnedCodes, right: OwnedCodes, *, k_csls: int, group: Group, budget_bytes: int = DEFAULT_BUDGET
) -> MutualPairs:
    """Find the pairs of codes that are each other's nearest; positions are of the lists. A collective.

    Args: see `rank_owned_pairs`.
    """
    nothing = PairList.of(np.empty((0, 2), dtype=np.int64), len(left), len(right))
    survey = _survey(left, right, nothing, k_csls, group, budget_bytes)
    best = Best.of(Part(left.codes[:0], right.codes[:0]), survey, budget_bytes)
    for part in _parts(left, right, group):
        best = best.merge(Best.of(part, survey, budget_bytes))
    merged = [best]
    if group.size > 1:
        columns = [
            group.all_gather(value)
            for value in (best.left_score, best.left_choice, best.right_score, best.right_choice)
        ]
        merged = [Best(*values) for values in zip(*columns, strict=True)]
    best, *others = merged
    for other in others:
        best = best.merge(other)
    return best.mutual()
