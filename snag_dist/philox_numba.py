"""Philox4x32-10 as machine code, compiled on first use by numba: the words of `snag_dist.random`, bit for bit."""

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
