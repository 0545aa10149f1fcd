"""The modulus distance as machine code, compiled on first use by numba (no C compiler needed) and cached on disk.

Each function works on the span [start, stop) of queries and releases the interpreter lock, so that spans run in
threads. `reassoc` lets the sum over coordinates use vector registers; the order is fixed by the compiled code, so a run
repeats bit for bit on the same machine.
"""

# Numba has no type stubs: what it decorates is untyped here, and typed again by its one caller, modulus.py.
# pyright: reportUnknownVariableType=false, reportUnknownParameterType=false, reportMissingParameterType=false
# pyright: reportUntypedFunctionDecorator=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportMissingTypeArgument=false

import math
from typing import Any

import numpy as np
from numba import njit

_compile = njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz"}, error_model="numpy")


@_compile
def forward(start: int, stop: int, queries: Any, candidates: Any, distances: Any) -> None:
    half = queries.shape[1] // 2
    for row in range(start, stop):
        for column in range(candidates.shape[0]):
            total = queries.dtype.type(0)
            for k in range(half):
                real = queries[row, k] - candidates[column, k]
                imaginary = queries[row, half + k] - candidates[column, half + k]
                total += math.sqrt(real * real + imaginary * imaginary)
            distances[row, column] = total


@_compile
def backward(start: int, stop: int, queries: Any, candidates: Any, grad: Any, grad_queries: Any) -> Any:
    half = queries.shape[1] // 2
    grad_candidates = np.zeros_like(candidates)
    tiny = queries.dtype.type(1e-30)
    for row in range(start, stop):
        for column in range(candidates.shape[0]):
            weight = grad[row, column]
            if weight == 0:
                continue
            for k in range(half):
                real = queries[row, k] - candidates[column, k]
                imaginary = queries[row, half + k] - candidates[column, half + k]
                # Where the coordinate coincides both differences are 0, so the quotient below is 0, not NaN.
                inverse = weight / max(math.sqrt(real * real + imaginary * imaginary), tiny)
                grad_queries[row, k] += real * inverse
                grad_queries[row, half + k] += imaginary * inverse
                grad_candidates[column, k] -= real * inverse
                grad_candidates[column, half + k] -= imaginary * inverse
    return grad_candidates


@_compile
def forward_own(start: int, stop: int, queries: Any, candidates: Any, index: Any, distances: Any) -> None:
    half = queries.shape[1] // 2
    for row in range(start, stop):
        for place in range(index.shape[1]):
            column = index[row, place]
            total = queries.dtype.type(0)
            for k in range(half):
                real = queries[row, k] - candidates[column, k]
                imaginary = queries[row, half + k] - candidates[column, half + k]
                total += math.sqrt(real * real + imaginary * imaginary)
            distances[row, place] = total


@_compile
def backward_own(start: int, stop: int, queries: Any, candidates: Any, index: Any, grad: Any, grad_queries: Any) -> Any:
    half = queries.shape[1] // 2
    grad_candidates = np.zeros_like(candidates)
    tiny = queries.dtype.type(1e-30)
    for row in range(start, stop):
        for place in range(index.shape[1]):
            column = index[row, place]
            weight = grad[row, place]
            for k in range(half):
                real = queries[row, k] - candidates[column, k]
                imaginary = queries[row, half + k] - candidates[column, half + k]
                inverse = weight / max(math.sqrt(real * real + imaginary * imaginary), tiny)
                grad_queries[row, k] += real * inverse
                grad_queries[row, half + k] += imaginary * inverse
                grad_candidates[column, k] -= real * inverse
                grad_candidates[column, half + k] -= imaginary * inverse
    return grad_candidates
