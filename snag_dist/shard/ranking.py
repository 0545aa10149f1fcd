"""Exact filtered ranks, counted where the candidates live.

Every worker asks the owners for the codes of a block's known entities, builds the same queries, scores them
against its own rows into one buffer, and counts; counts are summed. Nothing approximates: the ranks are those
of a single machine.

**The same bits at any W.** A sum of products may round differently when a matrix has another shape. So scores
are computed in calls of a shape that W does not change: tiles of questions, laid on the global list of
questions, against candidates that never cross the edge of a virtual shard. The score of a triple then does
not depend on who computes it, nor on where an interrupted evaluation was resumed, as long as the budget holds
`SMALLEST_TILE` questions on every worker; below that, it needs a scorer that rounds alike in calls of any
shape, as the compiled modulus does.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snag_dist.errors import ResourceError
from snag_dist.kg.truth import TruthIndex
from snag_dist.ranking.questions import Questions
from snag_dist.ranking.ranks import RankTable, count_better_equal, find_nan, refuse_nan
from snag_dist.shapes import match_shape
from snag_dist.shard.exchange import Exchange
from snag_dist.shard.group import Group
from snag_dist.shard.partition import Partition
from snag_dist.task.completion import CompletionTask

SMALLEST_TILE, LARGEST_TILE = 16, 1024
"""Questions scored in one call: powers of two. Fewer would leave the call's own cost, more gain nothing."""

# Candidates scored in one call, at most.
_CANDIDATES = 4096
# Scores copied at a time where the queries of a block are counted: 4 MiB of float32.
_COUNTED = 1 << 20

OnBlock = Callable[[int, int, RankTable], None]


def plan_blocks(partition: Partition, dtype: torch.dtype, budget_bytes: int) -> tuple[int, int]:
    """Say how many questions are scored before they are counted, and how many in one call.

    Args:
        partition: of the rows; the worker with most rows sets the size of the block for all.
        dtype: of the scores.
        budget_bytes: for the scores of a block on one worker.

    Returns:
        Questions of a block, a multiple of the next; questions of a call, the same at any W that has room for
        `SMALLEST_TILE` in a block.

    Raises:
        ResourceError: the budget does not hold the scores of one question.
    """
    row_bytes = max(1, int(np.diff(partition.bounds()).max())) * dtype.itemsize
    fitting = budget_bytes // row_bytes
    if fitting < 1:
        raise ResourceError(
            f"ranking: expected a budget of at least {row_bytes} bytes, the scores of one question on one "
            f"worker, got {budget_bytes}; raise the budget or use more workers"
        )
    alone = budget_bytes // (partition.num_entities * dtype.itemsize)
    tile = min(max(_power_of_two_below(alone), SMALLEST_TILE), LARGEST_TILE, _power_of_two_below(fitting))
    return fitting // tile * tile, tile


def _power_of_two_below(number: int) -> int:
    return 1 << max(0, number.bit_length() - 1)


@torch.no_grad()
def rank_triples(
    triples: NDArray[np.int64],
    *,
    codes: Tensor,
    task: CompletionTask,
    truth: TruthIndex,
    partition: Partition,
    group: Group,
    budget_bytes: int,
    dtype: torch.dtype | None = None,
    start: int = 0,
    on_block: OnBlock | None = None,
) -> RankTable:
    """Rank the head and the tail of every triple among all entities. A collective.

    Args:
        triples: (T, 3) int64, columns head, relation, tail; the same on every worker.
        codes: (E_local, D) of the rows this worker owns, on the group's device.
        task: gives relations and scorer.
        truth: known-true triples, which do not count as candidates: usually of train, valid and test.
        partition: of the rows over the workers of `group`.
        group: the workers.
        budget_bytes: for the scores of a block on one worker; what else is held does not grow with the graph.
        dtype: type the queries and scores are computed in; unset, the type of `codes`.
        start: first question (in the order of `Questions.of(triples)`) to rank: where a finished block
            stopped.
        on_block: called on every worker after each block with the questions [start, stop) it covered and
            their ranks.

    Returns:
        The ranks of the questions from `start`, question after question; the same on every worker.

    Raises:
        NumericError: a score is NaN, on every worker alike.
        ResourceError: the budget is too small.
        ShapeError: `codes` is not of the rows this worker owns.

    Source: design.md, section 5; the filtered setting of Bordes et al. (2013).
    """
    first, last = partition.rows(group.rank)
    match_shape(codes, "codes", last - first, -1)
    block, tile = plan_blocks(partition, dtype or codes.dtype, budget_bytes)
    questions = Questions.of(triples)
    ranker = _Ranker(codes.to(dtype or codes.dtype), task, truth, partition, group, tile)
    # A worker of many rows must not hold more of the buffer than the list of questions is long.
    buffer = ranker.codes.new_empty(min(block, max(0, len(questions) - start)), len(codes))
    tables: list[RankTable] = []
    while start < len(questions):
        stop = min((start // block + 1) * block, len(questions))
        tables.append(ranker.rank(questions.part(start, stop), start, buffer[: stop - start]))
        if on_block is not None:
            on_block(start, stop, tables[-1])
        start = stop
    return RankTable.concatenate(tables)


@dataclass(frozen=True)
class _Ranker:
    """Ranks one block after another on one worker.

    Attributes:
        codes: (E_local, D) in the type that is scored in.
        tile: questions scored in one call.
    """

    codes: Tensor
    task: CompletionTask
    truth: TruthIndex
    partition: Partition
    group: Group
    tile: int

    def rank(self, questions: Questions, start: int, scores: Tensor) -> RankTable:
        """Rank the answers of some questions.

        Args:
            questions: N of them.
            start: place of the first in the list of all questions.
            scores: (N, E_local) buffer.
        """
        self._score(questions, start, scores)
        targets = self._spread_targets(questions, scores)
        better, equal = self._count(questions, scores, targets)
        # One all-reduce for the counts and the question whether any worker met a NaN: none may stop alone.
        totals = self.group.sum(torch.cat([better, equal, find_nan(scores).to(torch.int64)])).cpu().numpy()
        better_Q, equal_Q, nan_N = np.split(totals, [len(better), 2 * len(better)])
        refuse_nan(nan_N > 0, questions)
        return RankTable.of(questions, better_Q, equal_Q)

    def _score(self, questions: Questions, start: int, scores: Tensor) -> None:
        known = self._fetch(questions)
        edges = range(start // self.tile * self.tile, start + len(questions), self.tile)
        for tile in (slice(max(0, edge - start), edge + self.tile - start) for edge in edges):
            queries = self._queries(known, questions, tile)
            for columns in self._columns():
                scores[tile, columns] = self.task.scorer.score(queries, self.codes[columns])

    def _fetch(self, questions: Questions) -> Tensor:
        # (N, D) codes of the known entities, each asked of its owner once.
        entities, place = np.unique(questions.known, return_inverse=True)
        exchange = Exchange(self.group, self.partition)
        route = exchange.route(torch.from_numpy(entities))
        mine = (route.encode - self.partition.rows(self.group.rank)[0]).to(self.codes.device)
        fetched = exchange.fetch(self.codes.index_select(0, mine), route)
        return fetched.index_select(0, torch.from_numpy(place).to(fetched.device))

    def _queries(self, known: Tensor, questions: Questions, tile: slice) -> Tensor:
        relation = torch.from_numpy(questions.relation[tile]).to(known.device)
        find_tail = torch.from_numpy(questions.find_tail[tile]).to(known.device)
        # The task brings relations to the type of the codes, so that a ranking in double turns by angles in double.
        return self.task.queries(known[tile], relation, find_tail)

    def _columns(self) -> list[slice]:
        first = self.partition.rows(self.group.rank)[0]
        spans = [self.partition.shard_rows(shard) for shard in self.partition.shards(self.group.rank)]
        return [
            slice(row - first, min(row + _CANDIDATES, stop) - first)
            for start, stop in spans
            for row in range(start, stop, _CANDIDATES)
        ]

    def _spread_targets(self, questions: Questions, scores: Tensor) -> Tensor:
        # (Q,) scores of the right answers, from the owner's buffer: the number their rivals are compared with.
        question, column = questions.answers.queries(), self._local(questions.answers.values)
        here = np.flatnonzero(column >= 0)
        targets = torch.full((len(column),), -torch.inf, dtype=torch.float64, device=scores.device)
        mine = scores[self._on_device(question[here]), self._on_device(column[here])]
        targets[self._on_device(here)] = mine.to(torch.float64)
        return self.group.maximum(targets).to(scores.dtype)

    def _count(self, questions: Questions, scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        question, triples = questions.answers.queries(), questions.triples()
        column = self._local(questions.answers.values)
        step = max(1, _COUNTED // max(1, scores.shape[1]))
        better, equal = [torch.empty(len(targets), dtype=torch.int64, device=scores.device) for _ in range(2)]
        for part in (slice(row, row + step) for row in range(0, len(targets), step)):
            truths = self.truth.answers(triples[part], questions.find_tail[question[part]])
            excluded = self._local(truths.values)
            here = excluded >= 0
            better[part], equal[part] = count_better_equal(
                scores.index_select(0, self._on_device(question[part])),
                targets[part],
                self._on_device(column[part]),
                self._on_device(truths.queries()[here]),
                self._on_device(excluded[here]),
            )
        return better, equal

    def _local(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        # Columns of the buffer; -1 for rows of other workers.
        first, last = self.partition.rows(self.group.rank)
        return np.where((rows >= first) & (rows < last), rows - first, -1)

    def _on_device(self, index: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(index).to(self.codes.device)
