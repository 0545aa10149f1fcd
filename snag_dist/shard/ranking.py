"""Exact filtered ranks, counted where the candidates live.

Questions are ranked block by block (`block_ranking`). Nothing approximates: the ranks are those of a single machine,
also where a first pass in a coarser format decides most candidates (`first_pass`).

**The same bits at any W.** A sum of products may round differently when a matrix has another shape. So scores
are computed in calls of a shape that W does not change: tiles of questions, laid on the global list of
questions, against candidates that never cross the edge of a virtual shard. The score of a triple then does
not depend on who computes it, nor on where an interrupted evaluation was resumed, as long as the budget holds
`SMALLEST_TILE` questions on every worker; below that, it needs a scorer that rounds alike in calls of any
shape, as the compiled modulus does.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snag_dist.errors import ResourceError
from snag_dist.kg.truth import TruthIndex
from snag_dist.ranking.questions import Questions
from snag_dist.ranking.ranks import RankTable
from snag_dist.shapes import match_shape
from snag_dist.shard.block_ranking import BlockRanker
from snag_dist.shard.first_pass import FirstPass
from snag_dist.shard.group import Group
from snag_dist.shard.partition import Partition
from snag_dist.task.completion import CompletionTask

SMALLEST_TILE, LARGEST_TILE = 16, 1024
"""Questions scored in one call: powers of two. Fewer would leave the call's own cost, more gain nothing."""

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
    first_pass: torch.dtype | None = None,
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
        first_pass: coarser type that all candidates are scored in first; the ranks are the same without.
        start: first question (in the order of `Questions.of(triples)`) to rank: where a finished block
            stopped.
        on_block: called on every worker after each block with the questions [start, stop) it covered and
            their ranks.

    Returns:
        The ranks of the questions from `start`, question after question; the same on every worker.

    Raises:
        ConfigError: the scorer has no bound for a first pass in that type.
        NumericError: a score is NaN, on every worker alike.
        ResourceError: the budget is too small.
        ShapeError: `codes` is not of the rows this worker owns.

    Source: design.md, section 5; the filtered setting of Bordes et al. (2013).
    """
    first, last = partition.rows(group.rank)
    match_shape(codes, "codes", last - first, -1)
    block, tile = plan_blocks(partition, dtype or codes.dtype, budget_bytes)
    questions = Questions.of(triples)
    exact = BlockRanker(codes.to(dtype or codes.dtype), task, truth, partition, group, tile)
    ranker = exact if first_pass is None else FirstPass.of(exact, codes, first_pass)
    # A worker of many rows must not hold more of the buffer than the list of questions is long.
    buffer = exact.codes.new_empty(min(block, max(0, len(questions) - start)), len(codes))
    tables: list[RankTable] = []
    while start < len(questions):
        stop = min((start // block + 1) * block, len(questions))
        tables.append(ranker.rank(questions.part(start, stop), start, buffer[: stop - start]))
        if on_block is not None:
            on_block(start, stop, tables[-1])
        start = stop
    return RankTable.concatenate(tables)
