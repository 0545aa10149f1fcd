"""Sums over the edges of a graph, forward and backward, without a tensor of edges by width.

Edges are sorted by target, and a second order sorts them by source for the way back: every sum runs over a contiguous
piece in a fixed order, so results repeat on one device. Weighted sums of codes are products with a sparse matrix, and
the gradient of a weight is one dot product, taken at the edges alone.
"""

import warnings
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from snag_dist.errors import ShapeError
from snag_dist.kg.adjacency import Adjacency
from snag_dist.shapes import match_shape

# torch says so once a process; what is used of it here is tested.
warnings.filterwarnings("ignore", message="Sparse CSR tensor support")


@dataclass(frozen=True)
class Edges:
    """L edges from S sources into N targets; `connect` and `connect_graph` make them.

    Attributes:
        source: (L,) int64 positions among the sources.
        target: (L,) int64 positions among the targets, ascending.
        num_sources, num_targets: S and N.
        target_ends: (N + 1,) edges of target i lie at [target_ends[i], target_ends[i + 1]).
        by_source: (L,) the edges in the order of their sources.
        source_ends: (S + 1,) the same as `target_ends`, along `by_source`.
        value: (L,) float weights of the edges, where there are any.
    """

    source: Tensor
    target: Tensor
    num_sources: int
    num_targets: int
    target_ends: Tensor
    by_source: Tensor
    source_ends: Tensor
    value: Tensor | None = None

    def to(self, device: torch.device) -> "Edges":
        """Return the edges on a device."""
        return Edges(
            self.source.to(device),
            self.target.to(device),
            self.num_sources,
            self.num_targets,
            self.target_ends.to(device),
            self.by_source.to(device),
            self.source_ends.to(device),
            None if self.value is None else self.value.to(device),
        )


def connect(source: Tensor, target: Tensor, num_sources: int, num_targets: int, value: Tensor | None = None) -> Edges:
    """Make edges from two lists of positions.

    Args:
        source: (L,) int64 in [0, num_sources).
        target: (L,) int64 in [0, num_targets), ascending. Among the edges of one target the given order stays: give it
            by a name of the source that no worker changes, and sums are the same on all of them.
        num_sources, num_targets: S and N.
        value: (L,) weights.

    Raises:
        ShapeError: lengths differ, targets do not ascend, or a position is out of range.
    """
    match_shape(target, "targets of edges", len(source))
    if value is not None:
        match_shape(value, "values of edges", len(source))
    if bool((target[1:] < target[:-1]).any()):
        raise ShapeError(
            "targets of edges: expected them in ascending order, got a lower one after a higher; sort them"
        )
    for name, positions, limit in (("source", source, num_sources), ("target", target, num_targets)):
        if len(positions) and not 0 <= int(positions.min()) <= int(positions.max()) < limit:
            low, high = int(positions.min()), int(positions.max())
            raise ShapeError(f"{name}s of edges: expected positions in [0, {limit}), got {low} to {high}; mend them")
    by_source = torch.argsort(source, stable=True)
    return Edges(
        source,
        target,
        num_sources,
        num_targets,
        _ends(target, num_targets),
        by_source,
        _ends(source, num_sources),
        value,
    )


def connect_graph(adjacency: Adjacency) -> Edges:
    """Make the edges of a whole graph, with the normalised values that a GCN takes; GAT uses the pattern alone."""
    source, target = torch.as_tensor(adjacency.sources.values), torch.as_tensor(adjacency.targets())
    value = torch.as_tensor(adjacency.normalised(), dtype=torch.float32)
    return connect(source, target, adjacency.num_entities, adjacency.num_entities, value)


def aggregate(weights: Tensor, codes: Tensor, edges: Edges) -> Tensor:
    """Sum the codes of each target's sources by the weights of its edges.

    Args:
        weights: (L,).
        codes: (S, D) of the sources, float32 or float64; others are summed in float32.
        edges: L of them.

    Returns:
        (N, D), 0 where a target has no edge; differentiable in weights and codes.
    """
    summed = codes.dtype if codes.dtype in (torch.float32, torch.float64) else torch.float32
    result = cast(Any, _Aggregate).apply(weights.to(summed), codes.to(summed), edges)
    return cast(Tensor, result).to(codes.dtype)


def attend(of_target: Tensor, of_source: Tensor, edges: Edges, slope: float) -> Tensor:
    """Share each target among its edges: softmax of -LeakyReLU(of_target + of_source).

    Args:
        of_target: (N, heads).
        of_source: (S, heads).
        edges: L of them.
        slope: of the LeakyReLU on the negative side.

    Returns:
        (L, heads); over the edges of a target they add up to 1.
    """
    return cast(Tensor, cast(Any, _Attend).apply(of_target, of_source, edges, slope))


class _Aggregate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor, codes: Tensor, edges: Edges) -> Tensor:
        ctx.save_for_backward(weights, codes)
        ctx.edges = edges
        return _multiply(edges.target_ends, edges.source, weights, codes)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        weights, codes = cast("tuple[Tensor, Tensor]", ctx.saved_tensors)
        edges, grad = cast(Edges, ctx.edges), grads[0].contiguous()
        grad_weights = _dots(grad, codes, edges) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return grad_weights, None, None
        order = edges.by_source
        return grad_weights, _multiply(edges.source_ends, edges.target[order], weights[order], grad), None


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, of_target: Tensor, of_source: Tensor, edges: Edges, slope: float) -> Tensor:
        raw = of_target[edges.target] + of_source[edges.source]
        slopes = torch.where(raw > 0, -1.0, -slope).to(raw.dtype)
        logits = raw * slopes
        # Without its largest logit a row sum neither overflows nor vanishes; the shares are the same.
        largest = torch.segment_reduce(logits, "max", offsets=edges.target_ends, axis=0, unsafe=True)
        powers = torch.exp(logits - largest[edges.target])
        shares = powers / _sum_pieces(powers, edges.target_ends)[edges.target]
        ctx.save_for_backward(shares, slopes)
        ctx.edges = edges
        return shares

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        shares, slopes = cast("tuple[Tensor, Tensor]", ctx.saved_tensors)
        edges = cast(Edges, ctx.edges)
        weighted = shares * grads[0]
        grad = (weighted - shares * _sum_pieces(weighted, edges.target_ends)[edges.target]) * slopes
        return _sum_pieces(grad, edges.target_ends), _sum_pieces(grad[edges.by_source], edges.source_ends), None, None


def _ends(positions: Tensor, num: int) -> Tensor:
    ends = torch.zeros(num + 1, dtype=torch.int64, device=positions.device)
    torch.cumsum(torch.bincount(positions, minlength=num), dim=0, out=ends[1:])
    return ends


def _sum_pieces(values: Tensor, ends: Tensor) -> Tensor:
    # (L, heads) -> (pieces, heads), each piece summed in order.
    return torch.segment_reduce(values.contiguous(), "sum", offsets=ends, axis=0, unsafe=True, initial=0.0)


def _multiply(ends: Tensor, columns: Tensor, weights: Tensor, codes: Tensor) -> Tensor:
    return _sparse(ends, columns, weights.contiguous(), len(codes)) @ codes


def _dots(grad: Tensor, codes: Tensor, edges: Edges) -> Tensor:
    # (L,) products of the gradient at an edge's target with the code of its source.
    pattern = _sparse(edges.target_ends, edges.source, grad.new_zeros(len(edges.source)), len(codes))
    return cast(Tensor, cast(Any, torch.sparse).sampled_addmm(pattern, grad, codes.T, beta=0.0).values())


def _sparse(ends: Tensor, columns: Tensor, values: Tensor, num_columns: int) -> Tensor:
    # Columns keep the order of the edges, which need not ascend: products do not mind, only the check would.
    shape = (len(ends) - 1, num_columns)
    return cast(Tensor, cast(Any, torch).sparse_csr_tensor(ends, columns, values, shape, check_invariants=False))
