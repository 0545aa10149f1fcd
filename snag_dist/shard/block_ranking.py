"""Ranks of a block of questions on one worker, from one buffer of all its scores.

Every worker asks the owners for the codes of the block's known entities, builds the same queries, scores them against
its own rows, call by call, and counts; counts are summed.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snag_dist.kg.truth import TruthIndex
from snag_dist.ranking.questions import Questions
from snag_dist.ranking.ranks import RankTable, count_better_equal, find_nan, refuse_nan
from snag_dist.shard.exchange import Exchange
from snag_dist.shard.group import Group
from snag_dist.shard.partition import Partition
from snag_dist.task.completion import CompletionTask

# Candidates scored in one call, at most.
_CANDIDATES = 4096
# Scores copied at a time where the queries of a block are counted: 4 MiB of float32.
_COUNTED = 1 << 20


@dataclass(frozen=True)
class BlockRanker:
    """Ranks one block after another on one worker.

    Attributes:
        codes: (E_local, D) of the rows this worker owns, in the type that is scored in.
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
        known = self.fetch(questions)
        for tile in self.tiles(start, len(questions)):
            queries = self.queries(known, questions, tile)
            for columns in self.columns:
                scores[tile, columns] = self.task.scorer.score(queries, self.codes[columns])

    def tiles(self, start: int, num: int) -> list[slice]:
        """Cut questions [start, start + num) of the global list into those of one call each, as places in the block."""
        edges = range(start // self.tile * self.tile, start + num, self.tile)
        return [slice(max(0, edge - start), min(edge + self.tile - start, num)) for edge in edges]

    def fetch(self, questions: Questions) -> Tensor:
        """Codes (N, D) of the known entities, each asked of its owner once; the caller's to change. A collective."""
        entities, place = np.unique(questions.known, return_inverse=True)
        exchange = Exchange(self.group, self.partition)
        route = exchange.route(torch.from_numpy(entities))
        mine = (route.encode - self.partition.rows(self.group.rank)[0]).to(self.codes.device)
        fetched = exchange.fetch(self.codes.index_select(0, mine), route)
        return fetched.index_select(0, torch.from_numpy(place).to(fetched.device))

    def queries(self, known: Tensor, questions: Questions, tile: slice) -> Tensor:
        """Queries (n, D) of a tile, from the codes (N, D) of the known entities of the block."""
        relation = torch.from_numpy(questions.relation[tile]).to(known.device)
        find_tail = torch.from_numpy(questions.find_tail[tile]).to(known.device)
        # The task brings relations to the type of the codes, so that a ranking in double turns by angles in double.
        return self.task.queries(known[tile], relation, find_tail)

    @cached_property
    def columns(self) -> list[slice]:
        """Rows of this worker that are scored in one call each, in order."""
        first = self.partition.rows(self.group.rank)[0]
        spans = [self.partition.shard_rows(shard) for shard in self.partition.shards(self.group.rank)]
        return [
            slice(row - first, min(row + _CANDIDATES, stop) - first)
            for start, stop in spans
            for row in range(start, stop, _CANDIDATES)
        ]

    def _spread_targets(self, questions: Questions, scores: Tensor) -> Tensor:
        # (Q,) scores of the right answers, from the owner's buffer: the number their rivals are compared with.
        question, column = questions.answers.queries(), self.local(questions.answers.values)
        here = np.flatnonzero(column >= 0)
        targets = torch.full((len(column),), -torch.inf, dtype=torch.float64, device=scores.device)
        mine = scores[self.on_device(question[here]), self.on_device(column[here])]
        targets[self.on_device(here)] = mine.to(torch.float64)
        return self.group.maximum(targets).to(scores.dtype)

    def _count(self, questions: Questions, scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        question, triples = questions.answers.queries(), questions.triples()
        column = self.local(questions.answers.values)
        better, equal = [torch.empty(len(targets), dtype=torch.int64, device=scores.device) for _ in range(2)]
        for part in self.parts(len(targets)):
            truths = self.truth.answers(triples[part], questions.find_tail[question[part]])
            excluded = self.local(truths.values)
            here = excluded >= 0
            better[part], equal[part] = count_better_equal(
                scores.index_select(0, self.on_device(question[part])),
                targets[part],
                self.on_device(column[part]),
                self.on_device(truths.queries()[here]),
                self.on_device(excluded[here]),
            )
        return better, equal

    def parts(self, num: int) -> list[slice]:
        """Cut answers into those whose scores are copied and counted at a time."""
        step = max(1, _COUNTED // max(1, len(self.codes)))
        return [slice(row, row + step) for row in range(0, num, step)]

    def local(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Columns of the buffer for row ids; -1 for rows of other workers."""
        first, last = self.partition.rows(self.group.rank)
        return np.where((rows >= first) & (rows < last), rows - first, -1)

    def on_device(self, index: NDArray[np.int64]) -> Tensor:
        """Move an index to where the codes lie."""
        return torch.from_numpy(index).to(self.codes.device)
