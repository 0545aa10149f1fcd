"""Ranks from scores: count the candidates that are better than the right answer, and those that tie with it.

The optimistic rank puts the answer first among equals, the pessimistic rank last, and the realistic rank, the
headline, half-way: a scorer that gives every candidate the same score gets the middle of the list, not the
top of it.

Counts add up over disjoint sets of candidates, so each owner counts its own.

Source: Berrendorf et al., "On the ambiguity of rank-based evaluation of entity alignment or link prediction
methods" (2020). SNAG's released code reports the optimistic rank, in which constant or NaN scores give an MRR
of 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snag_dist.errors import NumericError
from snag_dist.ranking.questions import Flags, Ids, Questions


def find_nan(scores: Tensor) -> Tensor:
    """Return (N,) bool: which rows of scores (N, K) hold a NaN."""
    if scores.shape[1] == 0:
        return torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    # The maximum propagates NaN: one pass that writes nothing as large as the scores.
    return scores.amax(dim=1).isnan()


def refuse_nan(nan: Flags, questions: Questions) -> None:
    """Stop where a score is not a number: no order holds for it, and any rank would be made up.

    Args:
        nan: (N,) whether a question has a candidate with score NaN, on any worker.
        questions: N of them.

    Raises:
        NumericError: naming the first such question.
    """
    if nan.any():
        raise NumericError(
            f"ranking, {questions.describe(int(nan.argmax()))}: expected numbers as scores, "
            f"got NaN ({int(nan.sum())} of {len(nan)} questions of the block); the codes or relations hold "
            "non-finite numbers: take an earlier checkpoint, or train with a lower learning rate"
        )


def count_better_equal(
    scores: Tensor, targets: Tensor, target_column: Tensor, excluded_query: Tensor, excluded_column: Tensor
) -> tuple[Tensor, Tensor]:
    """Count the candidates that score above, and as high as, the right answer.

    Args:
        scores: (Q, K) of every query with the K candidates that lie here; no NaN.
        targets: (Q,) score of the right answer, which may lie elsewhere; of the type of `scores`.
        target_column: (Q,) int64 place of the right answer among the K; -1 where it lies elsewhere.
        excluded_query, excluded_column: (n,) int64 coordinates of candidates that do not count: other
            known-true answers, each once. The right answer never counts, listed or not.

    Returns:
        (Q,) int64 better and (Q,) int64 equal, the right answer itself not among them.
    """
    reference = targets.unsqueeze(1)
    # Summed as 32-bit integers: several times faster on a CPU than the default of 64, and K is below 2^31.
    better = (scores > reference).sum(dim=1, dtype=torch.int32).to(torch.int64)
    equal = (scores == reference).sum(dim=1, dtype=torch.int32).to(torch.int64)
    # The few excluded ones are taken off again: the block stays as it is for other answers of the same
    # question.
    other = excluded_column != target_column[excluded_query]
    query, column = excluded_query[other], excluded_column[other]
    known, wanted = scores[query, column], targets[query]
    better.index_add_(0, query, (known > wanted).to(torch.int64), alpha=-1)
    equal.index_add_(0, query, (known == wanted).to(torch.int64), alpha=-1)
    equal -= (target_column >= 0).to(torch.int64)
    return better, equal


@dataclass(frozen=True)
class RankTable:
    """Counts of Q queries, each a triple with one side asked for.

    Attributes:
        head, relation, tail: (Q,) int64 of the triple; entities as rows.
        find_tail: (Q,) bool, whether the tail is asked for.
        better, equal: (Q,) int64 candidates above, and level with, the right answer, known-true ones left
            out.
    """

    head: Ids
    relation: Ids
    tail: Ids
    find_tail: Flags
    better: Ids
    equal: Ids

    @classmethod
    def of(cls, questions: Questions, better: Ids, equal: Ids) -> "RankTable":
        """Put counts (Q,) beside the queries they belong to."""
        triples = questions.triples()
        find_tail = questions.find_tail[questions.answers.queries()]
        return cls(triples[:, 0], triples[:, 1], triples[:, 2], find_tail, better, equal)

    @classmethod
    def concatenate(cls, tables: Sequence["RankTable"]) -> "RankTable":
        """Lay tables end to end; none give a table without queries."""
        if not tables:
            none = np.empty(0, dtype=np.int64)
            return cls(none, none, none, np.empty(0, dtype=np.bool_), none, none)
        columns = (np.concatenate([getattr(table, field.name) for table in tables]) for field in fields(cls))
        return cls(*columns)

    def __len__(self) -> int:
        return len(self.better)

    def take(self, index: Ids | Flags) -> "RankTable":
        """Return the queries at some positions, or those a (Q,) mask picks."""
        return RankTable(*(getattr(self, field.name)[index] for field in fields(self)))

    @property
    def known(self) -> Ids:
        """(Q,) the given entity."""
        return np.where(self.find_tail, self.head, self.tail)

    @property
    def answer(self) -> Ids:
        """(Q,) the right answer."""
        return np.where(self.find_tail, self.tail, self.head)

    @property
    def optimistic(self) -> Ids:
        """(Q,) rank with the answer first among equals, from 1."""
        return self.better + 1

    @property
    def pessimistic(self) -> Ids:
        """(Q,) rank with the answer last among equals."""
        return self.better + self.equal + 1

    @property
    def realistic(self) -> NDArray[np.float64]:
        """(Q,) mean of optimistic and pessimistic rank, a multiple of one half."""
        return self.better + 0.5 * self.equal + 1.0
