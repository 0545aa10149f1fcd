"""The modulus distance on a GPU, fused by Triton: no pair-by-width tensor forward or backward, and nothing saved.

Forward, a program holds a tile of pairs and walks over the coordinates, so a pair's sum is added in one order whatever
the shape of the call. Backward, the gradient of each side is a pass of its own over the other side, which recomputes
differences: a program holds a tile of rows and coordinates and walks over the other side's rows. No atomic addition is
used, so a run repeats bit for bit. Numbers are read in their own format and computed in float32.
"""

# Triton is not installed everywhere, and what it decorates is untyped; modulus.py, the one caller, types it again.
# pyright: reportMissingImports=false, reportUnknownVariableType=false, reportUnknownParameterType=false
# pyright: reportMissingParameterType=false, reportUntypedFunctionDecorator=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false, reportIndexIssue=false, reportAttributeAccessIssue=false

import torch
import triton
import triton.language as tl
from torch import Tensor

# Forward: pairs of a tile. Of 32 x 32 over 128 threads each thread adds up 8 pairs.
_TILE_QUERIES, _TILE_CANDIDATES = 32, 32
# Backward: rows and complex coordinates of a tile; 16 coordinates a thread, in four registers each.
_TILE_ROWS, _TILE_COORDINATES = 32, 64
# Backward: programs wanted at least, some eight for each multiprocessor of a large card. Where there are fewer tiles,
# the other side is split and partial sums are added afterwards; they take at most
# _PROGRAMS * _TILE_ROWS * 2 * _TILE_COORDINATES float32, 16 MiB.
_PROGRAMS = 1024
# Rows of the other side a program walks over at least.
_FEWEST_ROWS = 16


def forward(queries: Tensor, candidates: Tensor) -> Tensor:
    """Distances (Q, K) of queries (Q, D) to candidates (K, D), in the format of the queries."""
    # Transposed, so that a tile reads neighbouring numbers at every step over the coordinates.
    query_real, query_imaginary = queries.T.contiguous().chunk(2)
    candidate_real, candidate_imaginary = candidates.T.contiguous().chunk(2)
    num_queries, num_candidates = len(queries), len(candidates)
    distances = queries.new_empty(num_queries, num_candidates, dtype=torch.float32)
    if distances.numel() == 0:
        return distances.to(queries.dtype)
    grid = (triton.cdiv(num_queries, _TILE_QUERIES), triton.cdiv(num_candidates, _TILE_CANDIDATES))
    with torch.cuda.device_of(queries):
        _forward[grid](
            query_real,
            query_imaginary,
            candidate_real,
            candidate_imaginary,
            distances,
            num_queries,
            num_candidates,
            queries.shape[1] // 2,
            QUERIES=_TILE_QUERIES,
            CANDIDATES=_TILE_CANDIDATES,
        )
    return distances.to(queries.dtype)


def backward(queries: Tensor, candidates: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of queries (Q, D) and candidates (K, D) from the gradient (Q, K) of their distances."""
    queries, candidates = queries.contiguous(), candidates.contiguous()
    # The distance is symmetric: each side is pulled towards or pushed from the other by the same directions.
    grad_queries = _pull(queries, candidates, grad.T.contiguous())
    grad_candidates = _pull(candidates, queries, grad.contiguous())
    return grad_queries, grad_candidates


def _pull(rows: Tensor, others: Tensor, weights: Tensor) -> Tensor:
    # Gradient (N, D) of rows (N, D) against others (M, D) under weights (M, N).
    num_rows, half = len(rows), rows.shape[1] // 2
    if rows.numel() == 0 or len(others) == 0:
        return torch.zeros_like(rows)
    tiles = triton.cdiv(num_rows, _TILE_ROWS), triton.cdiv(half, _TILE_COORDINATES)
    splits = min(triton.cdiv(_PROGRAMS, tiles[0] * tiles[1]), triton.cdiv(len(others), _FEWEST_ROWS))
    partial = rows.new_empty(splits, *rows.shape, dtype=torch.float32)
    with torch.cuda.device_of(rows):
        _directions[(*tiles, splits)](
            rows,
            others,
            weights,
            partial,
            num_rows,
            len(others),
            half,
            triton.cdiv(len(others), splits),
            ROWS=_TILE_ROWS,
            COORDINATES=_TILE_COORDINATES,
        )
    return partial.sum(0).to(rows.dtype)


@triton.jit
def _forward(
    query_real,  # (half, Q)
    query_imaginary,  # (half, Q)
    candidate_real,  # (half, K)
    candidate_imaginary,  # (half, K)
    distances,  # (Q, K)
    num_queries,
    num_candidates,
    half,
    QUERIES: tl.constexpr,
    CANDIDATES: tl.constexpr,
):
    row = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    column = tl.program_id(1) * CANDIDATES + tl.arange(0, CANDIDATES)
    row_exists, column_exists = row < num_queries, column < num_candidates
    # Pointers move on by a coordinate a turn: offsets of large tables would not fit 32 bits.
    query_real += row
    query_imaginary += row
    candidate_real += column
    candidate_imaginary += column
    total = tl.zeros((QUERIES, CANDIDATES), dtype=tl.float32)
    for _ in range(half):
        real = tl.load(query_real, mask=row_exists, other=0.0).to(tl.float32)[:, None]
        real -= tl.load(candidate_real, mask=column_exists, other=0.0).to(tl.float32)[None, :]
        imaginary = tl.load(query_imaginary, mask=row_exists, other=0.0).to(tl.float32)[:, None]
        imaginary -= tl.load(candidate_imaginary, mask=column_exists, other=0.0).to(tl.float32)[None, :]
        total += tl.sqrt(real * real + imaginary * imaginary)
        query_real += num_queries
        query_imaginary += num_queries
        candidate_real += num_candidates
        candidate_imaginary += num_candidates
    place = row.to(tl.int64)[:, None] * num_candidates + column[None, :]
    exists = row_exists[:, None] & column_exists[None, :]
    tl.store(distances + place, total, mask=exists)


@triton.jit
def _directions(
    rows,  # (N, 2 * half)
    others,  # (M, 2 * half)
    weights,  # (M, N)
    partial,  # (splits, N, 2 * half)
    num_rows,
    num_others,
    half,
    others_per_split,
    ROWS: tl.constexpr,
    COORDINATES: tl.constexpr,
):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    coordinate = tl.program_id(1) * COORDINATES + tl.arange(0, COORDINATES)
    row_exists, coordinate_exists = row < num_rows, coordinate < half
    exists = row_exists[:, None] & coordinate_exists[None, :]
    place = row.to(tl.int64)[:, None] * (2 * half) + coordinate[None, :]
    row_real = tl.load(rows + place, mask=exists, other=0.0).to(tl.float32)
    row_imaginary = tl.load(rows + place + half, mask=exists, other=0.0).to(tl.float32)
    split = tl.program_id(2).to(tl.int64)
    first = split * others_per_split
    others += first * (2 * half) + coordinate
    weights += first * num_rows + row
    sum_real = tl.zeros((ROWS, COORDINATES), dtype=tl.float32)
    sum_imaginary = tl.zeros((ROWS, COORDINATES), dtype=tl.float32)
    for _ in range(first, tl.minimum(first + others_per_split, num_others)):
        real = row_real - tl.load(others, mask=coordinate_exists, other=0.0).to(tl.float32)[None, :]
        imaginary = row_imaginary - tl.load(others + half, mask=coordinate_exists, other=0.0).to(tl.float32)[None, :]
        weight = tl.load(weights, mask=row_exists, other=0.0).to(tl.float32)[:, None]
        # Where the coordinate coincides both differences are 0, so the products below are 0, not NaN.
        inverse = weight * tl.rsqrt(tl.maximum(real * real + imaginary * imaginary, 1e-36))
        sum_real += real * inverse
        sum_imaginary += imaginary * inverse
        others += 2 * half
        weights += num_rows
    partial += split * num_rows * (2 * half) + place
    tl.store(partial, sum_real, mask=exists)
    tl.store(partial + half, sum_imaginary, mask=exists)
