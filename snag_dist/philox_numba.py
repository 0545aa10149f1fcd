"""Words and permutations of `snag_dist.random` as machine code, compiled on first use by numba, bit for bit."""

# Numba has no type stubs: what it decorates is untyped here, and typed again by its one caller.
# pyright: reportUnknownVariableType=false, reportUnknownParameterType=false, reportMissingParameterType=false
# pyright: reportUntypedFunctionDecorator=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportMissingTypeArgument=false

from typing import Any

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def fill_words(index: Any, blocks: int, key0: int, key1: int, words: Any) -> None:
    """Fill `words` (N, 4 * blocks) int64 for `index` (N,) int64.

    Column `lane * blocks + block` holds word `lane` of the counter (index low, index high, block, 0).
    """
    mask = np.uint64(0xFFFFFFFF)
    shift = np.uint64(32)
    for row in range(index.shape[0]):
        low = np.uint64(index[row]) & mask
        high = (np.uint64(index[row]) >> shift) & mask
        for block in range(blocks):
            x0, x1, x2, x3 = low, high, np.uint64(block), np.uint64(0)
            k0, k1 = np.uint64(key0), np.uint64(key1)
            for _ in range(10):
                product0 = np.uint64(0xD2511F53) * x0
                product1 = np.uint64(0xCD9E8D57) * x2
                x0, x1, x2, x3 = (
                    (product1 >> shift) ^ x1 ^ k0,
                    product1 & mask,
                    (product0 >> shift) ^ x3 ^ k1,
                    product0 & mask,
                )
                k0 = (k0 + np.uint64(0x9E3779B9)) & mask
                k1 = (k1 + np.uint64(0xBB67AE85)) & mask
            words[row, block] = x0
            words[row, blocks + block] = x1
            words[row, 2 * blocks + block] = x2
            words[row, 3 * blocks + block] = x3


@njit(nogil=True, cache=True)
def walk(values: Any, size: int, half_bits: int, key0: int, key1: int, backward: bool, places: Any) -> None:
    """Fill `places` (N,) int64 with where the Feistel network takes `values` (N,) int64, walked until inside [0, size).

    `backward` runs the network the other way: it takes every place to its value.
    """
    mask = np.uint64(0xFFFFFFFF)
    half = np.uint64(half_bits)
    half_mask = (np.uint64(1) << half) - np.uint64(1)
    for row in range(values.shape[0]):
        current = np.uint64(values[row])
        while True:
            left, right = current >> half, current & half_mask
            if backward:
                left, right = right, left
            for step in range(6):
                turn = 5 - step if backward else step
                even, odd = (key0, key1) if turn % 2 == 0 else (key1, key0)
                mixed = right * np.uint64(0xD2511F53) + (
                    (np.uint64(even) + np.uint64(turn) * np.uint64(0x9E3779B9)) & mask
                )
                mixed &= mask
                mixed = ((mixed ^ (mixed >> np.uint64(15))) * np.uint64(0xCD9E8D57) + np.uint64(odd)) & mask
                mixed = ((mixed ^ (mixed >> np.uint64(13))) * np.uint64(0xBB67AE85)) & mask
                left, right = right, left ^ ((mixed ^ (mixed >> np.uint64(16))) & half_mask)
            if backward:
                left, right = right, left
            current = (left << half) | right
            if current < np.uint64(size):
                break
        places[row] = current
