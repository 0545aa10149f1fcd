"""The modulus distance of many pairs, without a pairs-by-width tensor.

    distance(q, c) = sum_k sqrt((q_k - c_k)^2 + (q_{k+D/2} - c_{k+D/2})^2)

where the first half of a vector holds real parts and the second half imaginary parts (the layout of RotatE). For Q
queries and K candidates the plain formula stores Q x K x D numbers several times over; here nothing larger than Q x K
is kept, forward or backward, and the backward pass recomputes the differences instead of saving them.

Three implementations give the same numbers: `compiled` (numba, CPU), `fused` (Triton, CUDA, all formats but float64)
and `blocked` (torch, any device), which walks over tiles small enough for a cache. `pick` names the one in use. A
query's own candidates are `compiled` or `blocked`.

In float32 distances and gradients lie within 1e-5 of the largest of them from the truth. Narrower formats are widened
as they are read, computed in float32, and rounded once: a distance or a gradient of bfloat16 lies within 2^-8 of
itself, beside the 1e-5.

The loss stays apart, since fusing it would gain too little. On a CPU (B = 1,024, K = 256, D = 256) it takes 2.1 ms
beside the 16.7 of this kernel. Exponentials and logarithms, which no version is spared, are .7 of them, so fusing saves
7 % of both at most; and weights that are a softmax need all scores of a query first. `tools/bench/modulus.py` measures.
"""

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from importlib import import_module
from typing import Any, Literal, cast

import torch
from torch import Tensor

from snag_dist.model import modulus_numba

# Coordinates of one tile of the blocked version: 2^18 float32 fit a second-level cache of 1 MiB.
_TILE_COORDINATES = 1 << 18

Implementation = Literal["compiled", "fused", "blocked"]

logger = logging.getLogger("snag_dist")


def pick(queries: Tensor) -> Implementation:
    """Say which implementation serves tensors like these."""
    return choose(queries.device.type, queries.dtype)


def choose(device: str, dtype: torch.dtype) -> Implementation:
    """Say which implementation serves tensors of a format on a kind of device.

    That Triton is missing, or cannot launch a kernel here, is logged once.
    """
    if device == "cpu":
        return "compiled"
    if device == "cuda" and dtype != torch.float64 and _find_fused() is not None:
        return "fused"
    return "blocked"


@cache
def _find_fused() -> Any:
    try:
        fused = import_module("snag_dist.model.modulus_triton")
    except ImportError as error:
        logger.warning("modulus distance: Triton cannot be imported (%s); the slower blocked version is used", error)
        return None
    # Without a GPU there is nothing to try it on.
    if torch.cuda.is_available():
        try:
            _launch_once(fused, torch.device("cuda"))
        except Exception as error:  # noqa: BLE001 - of any kind: of the C compiler, the assembler, the driver
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            logger.warning(
                "modulus distance: Triton cannot launch a kernel here (%s); the slower blocked version is used; "
                "it needs a C compiler at run time",
                reason,
            )
            return None
    return fused


def _launch_once(fused: Any, device: torch.device) -> None:
    # Triton builds its launcher with a C compiler when a kernel is first launched, long after its import.
    points = torch.zeros(1, 2, device=device)
    fused.backward(points, points, fused.forward(points, points))


def modulus_distance(queries: Tensor, candidates: Tensor, implementation: Implementation | None = None) -> Tensor:
    """Distance of every query to every candidate.

    Args:
        queries: (Q, D), real half then imaginary half.
        candidates: (K, D), the same layout.
        implementation: that serves; unset takes the one of `pick`.

    Returns:
        (Q, K) non-negative distances; differentiable in both arguments, with gradient zero where a coordinate
        coincides.
    """
    distances = cast(Any, _AllPairs).apply(queries, candidates, implementation or pick(queries))
    return cast(Tensor, distances)


def modulus_distance_own(queries: Tensor, candidates: Tensor, index: Tensor) -> Tensor:
    """Distance of every query to its own list of candidates.

    Args:
        queries: (Q, D).
        candidates: (N, D).
        index: (Q, K) int64 rows of `candidates`.

    Returns:
        (Q, K) distances; differentiable in queries and candidates.
    """
    distances = cast(Any, _OwnPairs).apply(queries, candidates, index, pick(queries))
    return cast(Tensor, distances)


class _AllPairs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, candidates: Tensor, implementation: Implementation) -> Tensor:
        ctx.save_for_backward(queries, candidates)
        ctx.implementation = implementation
        left, right = _widen(implementation, queries, candidates)
        return _FORWARD[implementation](left, right).to(queries.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        queries, candidates = ctx.saved_tensors
        implementation = cast(Implementation, ctx.implementation)
        left, right, grad = _widen(implementation, queries, candidates, grads[0])
        grad_queries, grad_candidates = _BACKWARD[implementation](left, right, grad)
        return grad_queries.to(queries.dtype), grad_candidates.to(candidates.dtype), None


class _OwnPairs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, candidates: Tensor, index: Tensor, implementation: Implementation) -> Tensor:
        ctx.save_for_backward(queries, candidates, index)
        ctx.implementation = implementation
        left, right = _widen("blocked", queries, candidates)
        run = _compiled_forward_own if implementation == "compiled" else _blocked_forward_own
        return run(left, right, index).to(queries.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        queries, candidates, index = ctx.saved_tensors
        run = _compiled_backward_own if ctx.implementation == "compiled" else _blocked_backward_own
        left, right, grad = _widen("blocked", queries, candidates, grads[0])
        grad_queries, grad_candidates = run(left, right, index, grad)
        return grad_queries.to(queries.dtype), grad_candidates.to(candidates.dtype), None, None


def _widen(implementation: Implementation, *tensors: Tensor) -> list[Tensor]:
    # Triton's kernels widen what they load. Elsewhere a copy of Q x D and K x D numbers is small beside Q x K x D.
    narrow = implementation != "fused" and tensors[0].dtype.itemsize < torch.float32.itemsize
    return [tensor.detach().float() if narrow else tensor.detach() for tensor in tensors]


def _moduli(left: Tensor, right: Tensor) -> Tensor:
    difference = left - right
    real, imaginary = difference.chunk(2, dim=-1)
    return torch.sqrt(real * real + imaginary * imaginary)


def _directions(left: Tensor, right: Tensor, grad: Tensor) -> Tensor:
    # d|z|/dz = z/|z|; at z = 0 the subgradient 0 is taken, as the plain formula's masked backward would.
    difference = left - right
    real, imaginary = difference.chunk(2, dim=-1)
    modulus = torch.sqrt(real * real + imaginary * imaginary)
    weight = torch.where(modulus > 0, grad.unsqueeze(-1) / modulus, torch.zeros_like(modulus))
    return difference * torch.cat([weight, weight], dim=-1)


def _tiles(queries: Tensor, candidates: Tensor) -> list[tuple[slice, slice]]:
    side = max(1, int((_TILE_COORDINATES / queries.shape[1]) ** 0.5))
    return [
        (slice(row, row + side), slice(column, column + side))
        for row in range(0, len(queries), side)
        for column in range(0, len(candidates), side)
    ]


def _own_parts(queries: Tensor, index: Tensor) -> list[slice]:
    side = max(1, _TILE_COORDINATES // (queries.shape[1] * max(1, index.shape[1])))
    return [slice(row, row + side) for row in range(0, max(1, len(queries)), side)]


def _blocked_forward(queries: Tensor, candidates: Tensor) -> Tensor:
    distances = queries.new_empty(len(queries), len(candidates))
    for rows, columns in _tiles(queries, candidates):
        distances[rows, columns] = _moduli(queries[rows, None], candidates[None, columns]).sum(-1)
    return distances


def _blocked_backward(queries: Tensor, candidates: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    grad_queries, grad_candidates = torch.zeros_like(queries), torch.zeros_like(candidates)
    for rows, columns in _tiles(queries, candidates):
        pairs = _directions(queries[rows, None], candidates[None, columns], grad[rows, columns])
        grad_queries[rows] += pairs.sum(1)
        grad_candidates[columns] -= pairs.sum(0)
    return grad_queries, grad_candidates


def _blocked_forward_own(queries: Tensor, candidates: Tensor, index: Tensor) -> Tensor:
    parts = [_moduli(queries[part, None], candidates[index[part]]).sum(-1) for part in _own_parts(queries, index)]
    return torch.cat(parts)


def _blocked_backward_own(queries: Tensor, candidates: Tensor, index: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    grad_queries, grad_candidates = torch.empty_like(queries), torch.zeros_like(candidates)
    for part in _own_parts(queries, index):
        pairs = _directions(queries[part, None], candidates[index[part]], grad[part])
        grad_queries[part] = pairs.sum(1)
        grad_candidates.index_add_(0, index[part].reshape(-1), -pairs.reshape(-1, pairs.shape[-1]))
    return grad_queries, grad_candidates


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="modulus")


def _spans(size: int) -> list[tuple[int, int]]:
    # One span a thread: the partial sums of the backward pass are then added in a fixed order.
    threads = max(1, min(torch.get_num_threads(), size))
    return [(size * turn // threads, size * (turn + 1) // threads) for turn in range(threads)]


def _run_spans(function: Any, spans: list[tuple[int, int]], *arguments: Any) -> list[Any]:
    if len(spans) == 1:
        return [function(*spans[0], *arguments)]
    pool = _pool(len(spans))
    futures: list[Future[Any]] = [pool.submit(function, start, stop, *arguments) for start, stop in spans]
    return [future.result() for future in futures]


def _array(tensor: Tensor) -> Any:
    return tensor.detach().contiguous().numpy()


def _compiled_forward(queries: Tensor, candidates: Tensor) -> Tensor:
    distances = queries.new_empty(len(queries), len(candidates))
    arrays = _array(queries), _array(candidates), distances.numpy()
    _run_spans(modulus_numba.forward, _spans(len(queries)), *arrays)
    return distances


def _compiled_backward(queries: Tensor, candidates: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    grad_queries = torch.zeros_like(queries)
    arrays = _array(queries), _array(candidates), _array(grad), grad_queries.numpy()
    partial = _run_spans(modulus_numba.backward, _spans(len(queries)), *arrays)
    return grad_queries, _add_in_order(partial)


def _compiled_forward_own(queries: Tensor, candidates: Tensor, index: Tensor) -> Tensor:
    distances = queries.new_empty(index.shape)
    arrays = _array(queries), _array(candidates), _array(index), distances.numpy()
    _run_spans(modulus_numba.forward_own, _spans(len(queries)), *arrays)
    return distances


def _compiled_backward_own(queries: Tensor, candidates: Tensor, index: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    grad_queries = torch.zeros_like(queries)
    arrays = _array(queries), _array(candidates), _array(index), _array(grad), grad_queries.numpy()
    partial = _run_spans(modulus_numba.backward_own, _spans(len(queries)), *arrays)
    return grad_queries, _add_in_order(partial)


def _add_in_order(partial: list[Any]) -> Tensor:
    total = torch.as_tensor(partial[0])
    for later in partial[1:]:
        total += torch.as_tensor(later)
    return total


def _fused_forward(queries: Tensor, candidates: Tensor) -> Tensor:
    return _find_fused().forward(queries, candidates)


def _fused_backward(queries: Tensor, candidates: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    return _find_fused().backward(queries, candidates, grad)


_FORWARD: dict[Implementation, Callable[[Tensor, Tensor], Tensor]] = {
    "compiled": _compiled_forward,
    "fused": _fused_forward,
    "blocked": _blocked_forward,
}
_BACKWARD: dict[Implementation, Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "compiled": _compiled_backward,
    "fused": _fused_backward,
    "blocked": _blocked_backward,
}
