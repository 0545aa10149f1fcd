"""Exact ranks by a first pass in a coarser format: most candidates are decided there, near ties are scored again.

Let s be the score of exact arithmetic for a candidate, t for the right answer. The exact path computes S and T, each
within e of s and t; the first pass computes S' within e' of s. The right answer is scored by its differences in double
as t'', within e'' of t. Three steps decide whether S > T, S = T or S < T:

1. S' lies farther from t'' than e' + e'' + 2 e: then s lies farther from t than 2 e, and S on that side of T.
2. Else s'' is computed in double as well, and decides where it lies farther from t'' than 2 e'' + 2 e.
3. Else S and T themselves are computed, in calls of the exact path's shapes (`mixed_calls`), and compared.

The bounds e are the scorer's (`Rounding`). So counts are those of the exact path, whatever the codes. Where a bound is
infinite, since a code is not finite or so large that a sum might overflow, and where too many candidates are near ties
for this to be worth while, the block is ranked by the exact path; a NaN is found there.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from snag_dist.errors import ConfigError
from snag_dist.model.scorer import Rounding, Scorer
from snag_dist.ranking.questions import Questions
from snag_dist.ranking.ranks import RankTable
from snag_dist.shard.block_ranking import BlockRanker
from snag_dist.shard.mixed_calls import score_single

# Share of candidates that are scored again in double at most, and whose very bits are computed.
_NEAR, _UNDECIDED = 1 / 16, 1 / 256
GATHERED_NUMBERS = 1 << 17
"""Numbers gathered at a time for scores of single pairs: 1 MiB of float64."""


def find_rounding(scorer: Scorer, first_pass: torch.dtype) -> Rounding:
    """Return the bounds of a scorer.

    Raises:
        ConfigError: it has none for a first pass in this format.
    """
    rounding = scorer.rounding
    if rounding is None or first_pass not in rounding.first_passes:
        name = str(first_pass).removeprefix("torch.")
        raise ConfigError(
            f"evaluate.first_pass: expected a scorer with a bound on its rounding in {name}, got "
            f"{type(scorer).__name__} as method.scorer sets it, which has none; set evaluate.first_pass to 'exact'"
        )
    return rounding


@dataclass(frozen=True)
class _Margins:
    """How far from the right answer's score a candidate's must lie: (N,) float64, by question.

    Attributes:
        coarse: in the first pass.
        fine: in double.
    """

    coarse: Tensor
    fine: Tensor


@dataclass(frozen=True)
class _Sorted:
    """What the first two steps leave.

    Attributes:
        better: (Q,) int64 candidates that are better for certain.
        answer, column: (n,) int64 pairs that are not decided.
        given_up: too many are not.
    """

    better: Tensor
    answer: Tensor
    column: Tensor
    given_up: bool


@dataclass(frozen=True)
class FirstPass:
    """Ranks one block after another on one worker, as `BlockRanker` does, with the same ranks.

    Attributes:
        exact: the exact path.
        codes: (E_local, D) in the format of the first pass.
        rounding: bounds of the scorer.
        largest: size of the largest code of any worker; infinite where one is not finite.
    """

    exact: BlockRanker
    codes: Tensor
    rounding: Rounding
    largest: float

    @classmethod
    def of(cls, exact: BlockRanker, codes: Tensor, dtype: torch.dtype) -> "FirstPass":
        """Prepare a first pass. A collective.

        Args:
            exact: the exact path.
            codes: (E_local, D) as they were encoded, taken as they are where the format allows.
            dtype: format of the first pass.

        Raises:
            ConfigError: the scorer has no bound for it.
        """
        rounding = find_rounding(exact.task.scorer, dtype)
        shared = codes.dtype == dtype and torch.finfo(exact.codes.dtype).eps <= torch.finfo(dtype).eps
        sizes = torch.cat([rounding.size(part) for part in exact.codes.split(4096)])
        largest = sizes.nan_to_num(nan=torch.inf).amax() if len(sizes) else sizes.new_zeros(())
        found = exact.group.maximum(largest).item()
        return cls(exact, codes if shared else exact.codes.to(dtype), rounding, found)

    def rank(self, questions: Questions, start: int, scores: Tensor) -> RankTable:
        """See `BlockRanker.rank`; the buffer is at first used in the coarser format."""
        known = self.exact.fetch(questions)
        rough = scores.view(-1).view(self.codes.dtype)[: scores.numel()].view(scores.shape)
        targets = self._score(questions, start, known, rough)
        margins = self._margins(known)
        found = self._sort(questions, known, rough, targets, margins)
        # One all-reduce: whose score is needed to the bit, and whether any worker gives up.
        asked = torch.zeros(len(targets) + 1, dtype=torch.int64, device=scores.device)
        asked[found.answer] = 1
        asked[-1] = int(found.given_up)
        asked = self.exact.group.sum(asked)
        if asked[-1] > 0:
            return self.exact.rank(questions, start, scores)
        better, equal = found.better, torch.zeros_like(found.better)
        if asked.any():
            above, level = self._settle(questions, start, known, found, asked[:-1] > 0)
            better.index_add_(0, found.answer, above)
            equal.index_add_(0, found.answer, level)
        totals = self.exact.group.sum(torch.stack([better, equal])).cpu().numpy()
        return RankTable.of(questions, totals[0], totals[1])

    def _score(self, questions: Questions, start: int, known: Tensor, rough: Tensor) -> Tensor:
        # Fills the buffer, puts the queries in the place of the known codes, and returns the answers' scores (Q,).
        score = self.exact.task.scorer.score
        with _whole_sums():
            for tile in self.exact.tiles(start, len(questions)):
                known[tile] = self.exact.queries(known, questions, tile)
                queries = known[tile].to(rough.dtype)
                for columns in self.exact.columns:
                    rough[tile, columns] = score(queries, self.codes[columns])
        question, column = questions.answers.queries(), self.exact.local(questions.answers.values)
        here = np.flatnonzero(column >= 0)
        targets = torch.full((len(column),), -torch.inf, dtype=torch.float64, device=rough.device)
        places = [self.exact.on_device(index) for index in (question[here], column[here])]
        targets[self.exact.on_device(here)] = self._score_in_double(known, *places)
        return self.exact.group.maximum(targets)

    def _margins(self, queries: Tensor) -> _Margins:
        sizes = self.rounding.size(queries)
        exact, coarse, double = (
            self.rounding.error(sizes, self.largest, dtype)
            for dtype in (self.exact.codes.dtype, self.codes.dtype, torch.float64)
        )
        return _Margins(coarse + double + 2 * exact, 2 * double + 2 * exact)

    def _sort(
        self, questions: Questions, queries: Tensor, rough: Tensor, targets: Tensor, margins: _Margins
    ) -> _Sorted:
        place = self.exact.on_device(questions.answers.queries())
        better = torch.zeros(len(targets), dtype=torch.int64, device=rough.device)
        given_up = _Sorted(better, better[:0], better[:0], given_up=True)
        if not bool(margins.coarse.isfinite().all()):
            return given_up
        left: list[tuple[Tensor, Tensor]] = [(better[:0], better[:0])]
        room = max(1024, rough.numel() * _UNDECIDED)
        for part in self.exact.parts(len(targets)):
            above, near = self._compare(questions, part, rough, targets, margins)
            better[part] = above.sum(dim=1, dtype=torch.int32)
            answer, candidate = near.nonzero(as_tuple=True)
            if len(answer) > max(1024, near.numel() * _NEAR):
                return given_up
            answer = answer + part.start
            away = self._score_in_double(queries, place[answer], candidate) - targets[answer]
            decided = away.abs() > margins.fine[place[answer]]
            better.index_add_(0, answer[decided], (away[decided] > 0).to(torch.int64))
            left.append((answer[~decided], candidate[~decided]))
            room -= len(left[-1][0])
            if room < 0:
                return given_up
        answers, candidates = (torch.cat(parts) for parts in zip(*left, strict=True))
        return _Sorted(better, answers, candidates, given_up=False)

    def _compare(
        self, questions: Questions, part: slice, rough: Tensor, targets: Tensor, margins: _Margins
    ) -> tuple[Tensor, Tensor]:
        # (q, E_local) bool each: above the right answer for certain, and near it; neither where a candidate does not
        # count, which is known to be true or the right answer itself.
        question = questions.answers.queries()[part]
        truths = self.exact.truth.answers(questions.triples()[part], questions.find_tail[question])
        excluded, own = (self.exact.local(rows) for rows in (truths.values, questions.answers.values[part]))
        place = self.exact.on_device(question)
        low, high = _window(targets[part], margins.coarse[place])
        scores = rough.index_select(0, place).float()
        above, near = scores > high, scores >= low
        near ^= above
        for query, column in ((truths.queries(), excluded), (np.arange(len(own)), own)):
            here = column >= 0
            index = self.exact.on_device(query[here]), self.exact.on_device(column[here])
            above[index] = False
            near[index] = False
        return above, near

    def _score_in_double(self, queries: Tensor, question: Tensor, column: Tensor) -> Tensor:
        # (n,) float64 scores of single pairs.
        step = max(1, GATHERED_NUMBERS // queries.shape[1])
        scores = torch.empty(len(question), dtype=torch.float64, device=queries.device)
        for part in (slice(first, first + step) for first in range(0, len(question), step)):
            left = queries.index_select(0, question[part]).to(torch.float64)
            right = self.exact.codes.index_select(0, column[part]).to(torch.float64)
            index = torch.arange(len(left), device=left.device).unsqueeze(1)
            scores[part] = self.exact.task.scorer.score_own(left, right, index).squeeze(1)
        return scores

    def _settle(
        self, questions: Questions, start: int, queries: Tensor, found: _Sorted, asked: Tensor
    ) -> tuple[Tensor, Tensor]:
        # (n,) 1 where an undecided candidate is above, and level with, its answer. A collective.
        question, column = questions.answers.queries(), self.exact.local(questions.answers.values)
        mine = np.flatnonzero(asked.cpu().numpy() & (column >= 0))
        calls = self.exact.tiles(start, len(questions)), self.exact.columns
        query = np.concatenate([question[found.answer.cpu().numpy()], question[mine]])
        candidate = np.concatenate([found.column.cpu().numpy(), column[mine]])
        bits = score_single(self.exact.task.scorer, queries, self.exact.codes, calls, query, candidate)
        num = len(found.answer)
        targets = torch.full((len(column),), -torch.inf, dtype=torch.float64, device=queries.device)
        targets[self.exact.on_device(mine)] = bits[num:].to(torch.float64)
        reference = self.exact.group.maximum(targets).to(bits.dtype)[found.answer]
        return (bits[:num] > reference).to(torch.int64), (bits[:num] == reference).to(torch.int64)


def _window(targets: Tensor, margins: Tensor) -> tuple[Tensor, Tensor]:
    # Columns of float32 no closer to the targets (Q,) than the margins (Q,).
    low, high = (targets - margins).to(torch.float32), (targets + margins).to(torch.float32)
    away = torch.tensor(torch.inf, device=targets.device)
    return torch.nextafter(low, -away).unsqueeze(1), torch.nextafter(high, away).unsqueeze(1)


@contextmanager
def _whole_sums() -> Iterator[None]:
    # On a GPU torch may add parts of a sum of bfloat16 in bfloat16; the bound is of sums in float32.
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_bf16_reduced_precision_reduction
    matmul.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        matmul.allow_bf16_reduced_precision_reduction = before
