"""Losses over the cosines of all entities of a batch, where losses that need the same cosines share them.

Stack the unit codes of the B left entities of a batch on those of the B right ones. Row i of the Gram matrix (2B, 2B)
holds the cosines of entity i with all others, of both sides; its counterpart stands at column i + B (modulo 2B). A
joint code, weighted unit tokens side by side, needs no product of its own: its cosines are sums of its tokens',

    S_ij = sum_m a_im a_jm S^m_ij,    a_i the weights of entity i over the length of its joint code.

Rows are dealt with a tile at a time. Let C be the derivative of the losses by S. The way back needs C + C^T of a tile,
and knows C^T too, since a softmax needs no more of a row than its sum. S is computed anew unless it is small.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from snag_dist.shapes import match_shape

# Cosines of one space in a tile: 2^20 float32 are 4 MiB. Smaller tiles lose more to calls than they gain by the cache.
_TILE_COSINES = 1 << 20
# Cosines that may be kept for the way back: 64 MiB of float32.
_KEPT_COSINES = 1 << 24
# Least temperature: exponentials of cosines in [-1, 1] over it stay inside what float64 can hold.
MIN_TEMPERATURE = 0.003


@dataclass(frozen=True)
class Tile:
    """Rows [first, stop) of the Gram matrix of B pairs; all of them on one side."""

    first: int
    stop: int
    num_pairs: int

    @property
    def rows(self) -> slice:
        """The rows of the tile."""
        return slice(self.first, self.stop)

    def selves(self, matrix: Tensor) -> Tensor:
        """Entries (t,) of a tile (t, 2B) where an entity meets itself; a view."""
        return matrix.diagonal(self.first)

    def counterparts(self, matrix: Tensor) -> Tensor:
        """Entries (t,) of a tile (t, 2B) where an entity meets its counterpart; a view."""
        return matrix.diagonal(self.first + (self.num_pairs if self.first < self.num_pairs else -self.num_pairs))


@dataclass(frozen=True)
class Contrast:
    """-log p of the counterpart, p the softmax over an entity's cosines with all others, of both sides.

    Attributes:
        source: whose cosines, an index into the spaces and mixes of `Gram`.
        temperature: tau, divides the cosines; at least `MIN_TEMPERATURE`.
        known: (2B,) bool, which codes exist; the others are nobody's negatives. None means all.
    """

    source: int
    temperature: float
    known: Tensor | None = None

    def values(self, cosines: Sequence[Tensor], tile: Tile) -> tuple[Tensor, Tensor]:
        """Losses (t,) of a tile, and the sums (1, t) its softmax divides by."""
        matrix = cosines[self.source]
        sums = _sums(_exponentials(matrix, self.temperature, tile), self.known)
        values = sums.log() + (1 - tile.counterparts(matrix)) / self.temperature
        return values.to(matrix.dtype), sums.unsqueeze(0)

    def slopes(self, cosines: Sequence[Tensor], tile: Tile, sums: Tensor, weights: Tensor) -> Tensor:
        """C + C^T (t, 2B) of a tile, from the sums (1, 2B) and the gradient (2B,) of every row's loss."""
        weights = weights / self.temperature
        slopes = _softmax_both_ways(cosines[self.source], self.temperature, self.known, tile, sums[0], weights)
        tile.counterparts(slopes).sub_(weights[tile.rows] + weights.roll(tile.num_pairs)[tile.rows])
        return slopes


@dataclass(frozen=True)
class Divergence:
    """KL(q || p): p the softmax of `Contrast` for a student's cosines, q for a teacher's, without gradient.

    Attributes:
        source, teacher, temperature: as in `Contrast`.
        known: (2B,) bool, of the student and taken for the teacher too.
    """

    source: int
    teacher: int
    temperature: float
    known: Tensor | None = None

    def values(self, cosines: Sequence[Tensor], tile: Tile) -> tuple[Tensor, Tensor]:
        """Losses (t,) of a tile, and the sums (2, t) of student and teacher."""
        matrix, target = cosines[self.source], cosines[self.teacher]
        student, teacher = (_exponentials(each, self.temperature, tile) for each in (matrix, target))
        sums = torch.stack([_sums(student, self.known), _sums(teacher, self.known)])
        gaps = _sums(teacher.mul_(target - matrix), self.known) / sums[1]
        return (gaps / self.temperature + sums[0].log() - sums[1].log()).to(matrix.dtype), sums

    def slopes(self, cosines: Sequence[Tensor], tile: Tile, sums: Tensor, weights: Tensor) -> Tensor:
        """See `Contrast.slopes`; sums (2, 2B)."""
        weights = weights / self.temperature
        student, teacher = (
            _softmax_both_ways(cosines[index], self.temperature, self.known, tile, own, weights)
            for index, own in zip((self.source, self.teacher), sums, strict=True)
        )
        return student.sub_(teacher)


Term = Contrast | Divergence


@dataclass(frozen=True)
class Gram:
    """B pairs in several spaces; the pairs [start, stop) count, against all.

    Attributes:
        spaces: codes (2B, D) of unit length, left ones first; D may differ.
        weights: (2B, M) of each joint code of the first M spaces, 0 where a token is absent. Cosines of such a mix have
            the indices after those of the spaces.
        start, stop: the slice.
    """

    spaces: tuple[Tensor, ...]
    weights: tuple[Tensor, ...]
    start: int
    stop: int

    def losses(self, terms: Sequence[Term]) -> list[Tensor]:
        """Losses (b,) of every term: of a pair, the mean of both its entities; 0 where the code of one is unknown."""
        shares = [self._shares(weights) for weights in self.weights]
        plan = _Plan(tuple(terms), len(self.spaces), len(shares), len(self.spaces[0]) // 2, self.start, self.stop)
        rows = cast("Tensor", cast(Any, _RowLosses).apply(plan, *self.spaces, *shares))
        losses = rows.view(len(terms), 2, self.stop - self.start).mean(dim=1)
        return [self._counted(loss, term.known) for loss, term in zip(losses, terms, strict=True)]

    def _shares(self, weights: Tensor) -> Tensor:
        tokens = self.spaces[: weights.shape[1]]
        match_shape(weights, "weights of a joint code", len(tokens[0]), len(tokens))
        # Unit, but for a token of zeros.
        lengths = torch.stack([codes.detach().square().sum(dim=1).sqrt() for codes in tokens], dim=1)
        return functional.normalize(weights.to(lengths.dtype) * lengths, dim=1).T.contiguous()

    def _counted(self, losses: Tensor, known: Tensor | None) -> Tensor:
        if known is None:
            return losses
        return losses.masked_fill(~known.view(2, -1)[:, self.start : self.stop].all(dim=0), 0.0)


@dataclass(frozen=True)
class _Plan:
    terms: tuple[Term, ...]
    num_spaces: int
    num_mixes: int
    num_pairs: int
    start: int
    stop: int

    def tiles(self) -> Iterator[Tile]:
        """Tiles of the slice's left rows, then of its right ones."""
        step = max(1, _TILE_COSINES // (2 * self.num_pairs))
        for side in (0, self.num_pairs):
            for first in range(side + self.start, side + self.stop, step):
                yield Tile(first, min(first + step, side + self.stop), self.num_pairs)

    def keeps(self) -> bool:
        """Whether the cosines may be kept for the way back."""
        return (self.num_spaces + self.num_mixes) * 4 * (self.stop - self.start) * self.num_pairs <= _KEPT_COSINES

    @property
    def is_whole(self) -> bool:
        """Whether the slice is the whole batch."""
        return self.stop - self.start == self.num_pairs

    def of_slice(self, matrix: Tensor) -> Tensor:
        """View (..., 2, b) of the slice's columns of (..., 2B)."""
        return matrix.view(*matrix.shape[:-1], 2, self.num_pairs)[..., self.start : self.stop]

    def widened(self, rows: Tensor) -> Tensor:
        """(..., 2B) from (..., 2b) of the slice; 0 elsewhere."""
        wide = rows.new_zeros(*rows.shape[:-1], 2 * self.num_pairs)
        self.of_slice(wide).copy_(rows.reshape(*rows.shape[:-1], 2, self.stop - self.start))
        return wide


class _RowLosses(torch.autograd.Function):
    # (plan, spaces (2B, D), shares (M, 2B)) -> (terms, 2b) losses of the slice's left rows, then of its right ones.

    @staticmethod
    def forward(ctx: Any, plan: _Plan, *tensors: Tensor) -> Tensor:
        spaces, shares = tensors[: plan.num_spaces], tensors[plan.num_spaces :]
        losses = [[spaces[0].new_zeros(0)] for _ in plan.terms]
        sums: list[list[Tensor]] = [[] for _ in plan.terms]
        kept: list[Tensor] = []
        for tile in plan.tiles():
            cosines = _cosines(spaces, shares, tile)
            kept += cosines if plan.keeps() else []
            for index, term in enumerate(plan.terms):
                values, own_sums = term.values(cosines, tile)
                losses[index].append(values)
                sums[index].append(own_sums)
        ctx.plan = plan
        ctx.num_kept = len(kept)
        ctx.save_for_backward(*tensors, *kept, *(torch.cat(parts, dim=1) for parts in sums if parts))
        return torch.stack([torch.cat(parts) for parts in losses])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        plan: _Plan = ctx.plan
        saved, wanted = cast("tuple[Tensor, ...]", ctx.saved_tensors), cast("tuple[bool, ...]", ctx.needs_input_grad)
        tensors, statistics = saved[: len(wanted) - 1], saved[len(wanted) - 1 + ctx.num_kept :]
        spaces, shares = tensors[: plan.num_spaces], tensors[plan.num_spaces :]
        kept = iter(saved[len(tensors) : len(tensors) + ctx.num_kept])
        grads = [torch.zeros_like(tensor) for tensor in tensors]
        weights, sums = plan.widened(grad_outputs[0]), [plan.widened(part) for part in statistics]
        for tile in plan.tiles():
            cosines = [next(kept) for _ in tensors] if ctx.num_kept else _cosines(spaces, shares, tile)
            slopes: dict[int, Tensor] = {}
            for term, own_sums, own_weights in zip(plan.terms, sums, weights, strict=True):
                found = term.slopes(cosines, tile, own_sums, own_weights)
                slopes[term.source] = slopes[term.source].add_(found) if term.source in slopes else found
            for index, each in enumerate(shares, plan.num_spaces):
                if index in slopes:
                    _to_tokens(slopes, slopes.pop(index), cosines, each, grads[index], tile, plan)
            for index, codes in enumerate(spaces):
                if index in slopes and wanted[1 + index]:
                    _to_codes(slopes[index], codes, grads[index], tile, plan)
        return (None, *(found if want else None for found, want in zip(grads, wanted[1:], strict=True)))


def _exponentials(matrix: Tensor, temperature: float, tile: Tile) -> Tensor:
    # (t, 2B) exp((S - 1) / temperature), at most 1; 0 for the entity itself. float32 holds down to exp(-87).
    dtype = torch.float64 if 2 / temperature > 80 else torch.promote_types(matrix.dtype, torch.float32)
    shift = torch.full((), -1 / temperature, dtype=dtype, device=matrix.device)
    exponentials = torch.add(shift, matrix.to(dtype), alpha=1 / temperature).exp_()
    tile.selves(exponentials).zero_()
    return exponentials


def _sums(tiles: Tensor, known: Tensor | None) -> Tensor:
    # (t,) over the known columns.
    return tiles.sum(dim=1) if known is None else tiles @ known.to(tiles.dtype)


def _softmax_both_ways(
    matrix: Tensor, temperature: float, known: Tensor | None, tile: Tile, sums: Tensor, weights: Tensor
) -> Tensor:
    # (t, 2B) weights_i p_ij + weights_j p_ji, p the softmax of each row, 0 for unknown columns, from one exponential.
    # Rows without weight, whose sums may mean nothing, have no part in it.
    exponentials = _exponentials(matrix, temperature, tile)
    factors = torch.where(weights == 0, 0.0, weights / sums)
    if known is None:
        return exponentials.mul_(factors[tile.rows].unsqueeze(1) + factors).to(matrix.dtype)
    there = known.to(factors.dtype)
    both = torch.stack([factors, there], dim=1)[tile.rows] @ torch.stack([there, factors])
    return exponentials.mul_(both).to(matrix.dtype)


def _cosines(spaces: Sequence[Tensor], shares: Sequence[Tensor], tile: Tile) -> list[Tensor]:
    # (t, 2B) of every space, then of every mix.
    cosines = [codes[tile.rows] @ codes.T for codes in spaces]
    for each in shares:
        mixed = torch.zeros_like(cosines[0])
        for matrix, share in zip(cosines, each, strict=False):
            mixed.addcmul_(matrix * share[tile.rows].unsqueeze(1), share)
        cosines.append(mixed)
    return cosines


def _to_tokens(
    slopes: dict[int, Tensor], slope: Tensor, tokens: list[Tensor], share: Tensor, grad: Tensor, tile: Tile, plan: _Plan
) -> None:
    # From C + C^T of a mix to those of its tokens and the gradient (M, 2B) of its shares `share`.
    for index, column in enumerate(share):
        products = slope * tokens[index]
        grad[index, tile.rows] += products @ column
        if not plan.is_whole:
            # Rows of other workers' pairs are in no tile of ours; they are met as columns.
            across = column[tile.rows] @ products
            plan.of_slice(across).zero_()
            grad[index] += across
        if index not in slopes:
            slopes[index] = torch.zeros_like(slope)
        slopes[index].addcmul_(torch.mul(slope, column[tile.rows].unsqueeze(1), out=products), column)


def _to_codes(slope: Tensor, codes: Tensor, grad: Tensor, tile: Tile, plan: _Plan) -> None:
    # From C + C^T of a tile, which is used up, to the gradient of the codes (2B, D).
    grad[tile.rows].addmm_(slope, codes)
    if not plan.is_whole:
        plan.of_slice(slope).zero_()
        grad.addmm_(slope.T, codes[tile.rows])
