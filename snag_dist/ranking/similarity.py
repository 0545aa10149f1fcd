"""How alike two sets of codes are: cosine, and cosine corrected for hubs (CSLS), in tiles of bounded memory.

A hub is near to everything and would be the answer to everything. CSLS takes from the cosine of a pair how near
each of the two is to its own nearest neighbours on the other side.

The matrix of similarities is never held, only a tile of it. What is kept of a tile (largest values, counts, best
rows) merges over tiles, and so over workers: each takes a `Part` of the matrix.

**The same bits wherever a tile is computed.** A sum of products may round differently in a matrix of another shape
or at another place of the matrix. So every product has the same shape, filled up with zeros, and its tiles lie on
one grid over the whole matrix: a similarity does not depend on how the matrix is divided. The budget changes the
shape only below about 32 MiB.

Source: Conneau et al., "Word translation without parallel data" (ICLR 2018), section 2.3.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from snag_dist.errors import NumericError, ResourceError, ShapeError

DEFAULT_BUDGET = 64 << 20
"""Bytes for the tile at work, unless asked otherwise."""

# Sides of a tile, largest first. Multiples of 48: the kernels of matrix libraries work on 6, 8, 12, 16, 24 or 48
# rows at a time and may round otherwise in what is left over. Then equal codes tie, wherever they stand.
_SIDES = (768, 384, 192, 96, 48)
# A tile at work: similarities, corrected ones, both directions gathered, and their comparisons.
_COPIES_OF_TILE = 6
# Codes of a tile at work: as given, of unit length and filled up, of both sides.
_COPIES_OF_CODES = 6


class Codes(Protocol):
    """(N, D) codes that are read a slice of rows at a time: a tensor, or `CodeBlocks`."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> Tensor: ...


class CodeBlocks:
    """Blocks of codes, (n_i, D) each, read as if they lay end to end.

    Raises:
        ShapeError: at construction, if there is no block, or the blocks differ in width.
    """

    def __init__(self, blocks: Sequence[Tensor]) -> None:
        widths = sorted({tuple(block.shape[1:]) for block in blocks})
        if len(widths) != 1 or len(widths[0]) != 1:
            raise ShapeError(f"code blocks: expected (n, D) blocks of one width, got widths {widths}; pass such blocks")
        self._blocks = tuple(blocks)
        self._starts = [0]
        for block in blocks:
            self._starts.append(self._starts[-1] + len(block))

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, rows: slice, /) -> Tensor:
        start, stop, _ = rows.indices(len(self))
        pieces = [
            block[max(0, start - first) : stop - first]
            for first, block in zip(self._starts, self._blocks, strict=False)
            if first < stop and start < first + len(block)
        ]
        return torch.cat(pieces) if pieces else self._blocks[0][:0]


@dataclass(frozen=True)
class Part:
    """A rectangle of the matrix of similarities: some left codes against some right codes.

    Attributes:
        left, right: (n, D) and (m, D), of any length but zero; not changed.
        left_start, right_start: rows of the whole left and right list these codes begin at.
    """

    left: Codes
    right: Codes
    left_start: int = 0
    right_start: int = 0


@dataclass(frozen=True)
class Tile:
    """Similarities (a, b) of left rows from `left_start` and right rows from `right_start` of the whole lists."""

    left_start: int
    right_start: int
    scores: Tensor

    @property
    def left_stop(self) -> int:
        return self.left_start + self.scores.shape[0]

    @property
    def right_stop(self) -> int:
        return self.right_start + self.scores.shape[1]


def tile_side(width: int, dtype: torch.dtype, budget_bytes: int) -> int:
    """Say how many codes of each side are compared in one product.

    Args:
        width: D.
        dtype: of the similarities.
        budget_bytes: for everything a tile needs while it is at work.

    Raises:
        ResourceError: the budget does not hold the smallest tile.
    """
    needed = 0
    for side in _SIDES:
        needed = (_COPIES_OF_TILE * side * side + _COPIES_OF_CODES * side * width) * dtype.itemsize
        if needed <= budget_bytes:
            return side
    raise ResourceError(
        f"similarity: expected a budget of at least {needed} bytes, a tile of {_SIDES[-1]} codes a side of width "
        f"{width}, got {budget_bytes}; raise the budget"
    )


def tiles(part: Part, budget_bytes: int = DEFAULT_BUDGET) -> Iterator[Tile]:
    """Yield the cosines of a part, tile after tile, left rows outermost; no gradient flows into the codes.

    Raises:
        NumericError: a code has no finite length.
        ResourceError: the budget does not hold the smallest tile.
        ShapeError: left and right codes differ in width or type.
    """
    if not len(part.left) or not len(part.right):
        return
    left, right = part.left[:1], part.right[:1]
    if left.ndim != 2 or left.shape != right.shape or left.dtype != right.dtype:
        raise ShapeError(
            f"similarity: expected (n, D) left and right codes of one width and type, got {tuple(left.shape[1:])} "
            f"{left.dtype} and {tuple(right.shape[1:])} {right.dtype}; encode both sides alike"
        )
    side = tile_side(left.shape[1], score_type(left.dtype), budget_bytes)
    for left_from in range(part.left_start // side * side, part.left_start + len(part.left), side):
        rows, first = _unit_codes(part.left, part.left_start, left_from, side, "left")
        for right_from in range(part.right_start // side * side, part.right_start + len(part.right), side):
            columns, first_column = _unit_codes(part.right, part.right_start, right_from, side, "right")
            scores = _place(rows, first - left_from, side) @ _place(columns, first_column - right_from, side).T
            down, across = first - left_from, first_column - right_from
            yield Tile(first, first_column, scores[down : down + len(rows), across : across + len(columns)])


def score_type(dtype: torch.dtype) -> torch.dtype:
    """Return the type of similarities: codes in half precision are compared in single, as ranks hang on last bits."""
    return torch.promote_types(dtype, torch.float32)


def code_lengths(codes: Tensor, first: int, what: str) -> Tensor:
    """Return (N, 1) lengths of codes (N, D), of which the whole `what` list holds the first at row `first`.

    Raises:
        NumericError: a length is not finite.
    """
    length = codes.square().sum(dim=1, keepdim=True).sqrt()
    broken = ~torch.isfinite(length).view(-1)
    if bool(broken.any()):
        place = int(broken.to(torch.int64).argmax())
        raise NumericError(
            f"similarity, {what} code {first + place}: expected a vector of finite length, got length "
            f"{float(length[place])}; the encoder gives non-finite numbers: take an earlier checkpoint, or train "
            "with a lower learning rate"
        )
    return length


def _unit_codes(codes: Codes, start: int, tile_start: int, side: int, what: str) -> tuple[Tensor, int]:
    """Return the codes inside [tile_start, tile_start + side) at length 1 and the whole list's row of the first."""
    first = max(start, tile_start)
    rows = codes[first - start : tile_start + side - start]
    rows = rows.detach().to(score_type(rows.dtype))
    length = code_lengths(rows, first, what)
    # A code of zeros is like nothing: cosine 0.
    return rows / torch.where(length > 0.0, length, 1.0), first


def _place(rows: Tensor, offset: int, side: int) -> Tensor:
    if len(rows) == side:
        return rows
    placed = rows.new_zeros(side, rows.shape[1])
    placed[offset : offset + len(rows)] = rows
    return placed


def top_values(scores: Tensor, k: int) -> Tensor:
    """Return (N, k) the largest values of each row of scores (N, K), descending; -inf where K is below k."""
    found = scores.topk(min(k, scores.shape[1]), dim=1).values
    return torch.nn.functional.pad(found, (0, k - found.shape[1]), value=float("-inf"))


def merge_top(mine: Tensor, theirs: Tensor) -> Tensor:
    """Merge the (N, k) largest values over two disjoint sets of candidates; exact, in any order."""
    return top_values(torch.cat([mine, theirs], dim=1), mine.shape[1])


def mean_top(top: Tensor) -> Tensor:
    """Return (N,) the mean of the largest values (N, k), over those there are; 0 without any.

    Added one after another, largest first: the sum of a row does not depend on the other rows.
    """
    total = top.new_zeros(len(top))
    number = top.new_zeros(len(top))
    for column in top.unbind(1):
        there = column > float("-inf")
        total = total + torch.where(there, column, 0.0)
        number = number + there
    return total / number.clamp_min(1.0)


def csls(scores: Tensor, left_mean: Tensor, right_mean: Tensor) -> Tensor:
    """Correct cosines for hubs: 2 cos(x, y) - r(x) - r(y).

    Args:
        scores: (n, m) cosines.
        left_mean: (n,) mean cosine of each left code with its k nearest right ones (`mean_top`).
        right_mean: (m,) the same of each right code.

    Returns:
        (n, m) a new tensor; with means of 0 (k = 0) in the order of the cosines.
    """
    return (2.0 * scores - left_mean.unsqueeze(1)) - right_mean.unsqueeze(0)
