"""Single scores with the bits that exact ranking gives them, from few calls.

A number of a matrix product depends on its row, its column, its place and the shape of the call, and on no other row or
column. So scores wanted out of many calls of one shape can be had from one call of that shape, whose places hold rows
and columns of different calls: any that do not want the same place for something else.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snag_dist.model.scorer import Scorer

Ids = NDArray[np.int64]

# Scores that are looked for places one by one; more come from the calls they belong to.
_PLACED = 1 << 14


@dataclass(frozen=True)
class _Wanted:
    """Scores of calls of one shape: query `tile + row` with candidate `block + column`, each (n,)."""

    tile: Ids
    row: Ids
    block: Ids
    column: Ids

    def take(self, index: Ids) -> "_Wanted":
        return _Wanted(self.tile[index], self.row[index], self.block[index], self.column[index])


def score_single(
    scorer: Scorer, queries: Tensor, codes: Tensor, calls: tuple[list[slice], list[slice]], query: Ids, candidate: Ids
) -> Tensor:
    """Score single pairs as calls over whole tiles would.

    Args:
        scorer: gives the scores.
        queries: (N, D).
        codes: (E, D) of the candidates.
        calls: how queries, and candidates, are cut into calls; each cut is in order and covers all.
        query, candidate: (n,) the pairs.

    Returns:
        (n,) scores.
    """
    scores = queries.new_empty(len(query))
    if len(query) == 0:
        return scores
    (tile, row, height), (block, column, width) = _place(calls[0], query), _place(calls[1], candidate)
    shapes, shape = np.unique(np.stack([height, width], axis=1), axis=0, return_inverse=True)
    wanted = _Wanted(tile, row, block, column)
    for number, (rows, columns) in enumerate(shapes.tolist()):
        here = np.flatnonzero(shape.reshape(-1) == number)
        part = wanted.take(here)
        mixed = _mix(part, rows, columns)
        for call in np.unique(mixed):
            inside = np.flatnonzero(mixed == call)
            found = _score_call(scorer, queries, codes, part.take(inside), (rows, columns))
            scores[torch.from_numpy(here[inside]).to(scores.device)] = found
    return scores


def _place(cut: list[slice], index: Ids) -> tuple[Ids, Ids, Ids]:
    # Where the slice that holds an index starts, the place in it, and how long it is.
    edges = np.array([part.start for part in cut] + [cut[-1].stop if cut else 0], dtype=np.int64)
    number = np.searchsorted(edges, index, side="right") - 1
    return edges[number], index - edges[number], edges[number + 1] - edges[number]


def _mix(wanted: _Wanted, rows: int, columns: int) -> Ids:
    # (n,) which call each score comes from. No more calls than they belong to.
    _, own = np.unique(np.stack([wanted.tile, wanted.block]), axis=1, return_inverse=True)
    own = own.reshape(-1)
    most = int(own.max()) + 1
    if most < 3 or len(own) > _PLACED:
        return own
    tiles, blocks = np.full((most, rows), -1), np.full((most, columns), -1)
    mixed = np.empty_like(own)
    for number in np.argsort(own, kind="stable"):
        tile, row, block, column = (
            int(part[number]) for part in (wanted.tile, wanted.row, wanted.block, wanted.column)
        )
        free = ((tiles[:, row] < 0) | (tiles[:, row] == tile)) & (
            (blocks[:, column] < 0) | (blocks[:, column] == block)
        )
        call = int(free.argmax())
        if not free[call]:
            return own
        tiles[call, row], blocks[call, column], mixed[number] = tile, block, call
    return mixed


def _score_call(scorer: Scorer, queries: Tensor, codes: Tensor, part: _Wanted, shape: tuple[int, int]) -> Tensor:
    # Places nobody asks for hold the rows of the first tile and block.
    row, column = (start[0] + np.arange(num) for start, num in zip((part.tile, part.block), shape, strict=True))
    row[part.row], column[part.column] = part.tile + part.row, part.block + part.column
    device = queries.device
    found = scorer.score(
        queries.index_select(0, torch.from_numpy(row).to(device)),
        codes.index_select(0, torch.from_numpy(column).to(device)),
    )
    return found[torch.from_numpy(part.row).to(device), torch.from_numpy(part.column).to(device)]
