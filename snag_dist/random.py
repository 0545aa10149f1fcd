"""Keyed counter streams: every random number is a pure function of its address.

The address is (seed, stream name, epoch, step, index): the same number comes out on any worker, in any order, on any
machine of any number of workers. So batches, negatives, noise and initial rows do not depend on how many workers there
are, a run resumes without iterator state, and a new entity can be added without moving the others.

Source: Philox4x32-10, the counter-based generator of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy
as 1, 2, 3" (SC 2011); its published known answers are tests here. Permutations: a Feistel network over the next power
of four, walked along its cycle until the value falls inside the range (Black and Rogaway, 2002).
"""

import hashlib
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from snag_dist.philox_numba import fill_words, walk

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_FEISTEL_ROUNDS = 6


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]) -> tuple[Tensor, ...]:
    """Encrypt 128-bit counters into 128 random bits each.

    Args:
        counter: four int64 tensors of one shape, each holding 32-bit words in [0, 2^32).
        key: two 32-bit words.

    Returns:
        Four int64 tensors of the same shape with words in [0, 2^32).
    """
    x0, x1, x2, x3 = counter
    key0, key1 = key
    for _ in range(_ROUNDS):
        # The product of two 32-bit words wraps in int64, but its 64 bits are right; the mask undoes the sign.
        product0 = x0 * _MULTIPLIERS[0]
        product1 = x2 * _MULTIPLIERS[1]
        high0, low0 = (product0 >> 32) & _MASK, product0 & _MASK
        high1, low1 = (product1 >> 32) & _MASK, product1 & _MASK
        x0, x1, x2, x3 = high1 ^ x1 ^ key0, low1, high0 ^ x3 ^ key1, low0
        key0, key1 = (key0 + _WEYL[0]) & _MASK, (key1 + _WEYL[1]) & _MASK
    return x0, x1, x2, x3


@dataclass(frozen=True)
class Stream:
    """A named source of random numbers.

    Attributes:
        seed: of the run or of the store.
        name: what the numbers are for, e.g. "noise/text"; two names never share numbers.
        epoch, step: the position in training, where the numbers change with it.
    """

    seed: int
    name: str
    epoch: int = 0
    step: int = 0

    def at(self, *, epoch: int = 0, step: int = 0) -> "Stream":
        """Return the same stream at another position."""
        return replace(self, epoch=epoch, step=step)

    def child(self, name: str) -> "Stream":
        """Return an independent stream below this one's name, at the same position."""
        return replace(self, name=f"{self.name}/{name}")

    def bits16(self, index: Tensor, width: int) -> Tensor:
        """Draw integers in [0, 2^16), (N, width) int64, two from each word: cheap masks."""
        words = self._words(index, (width + 1) // 2)
        return torch.cat([words & 0xFFFF, words >> 16], dim=1)[:, :width]

    def uniform(self, index: Tensor, width: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw uniform numbers for each index.

        Args:
            index: (N,) int64, non-negative: entity ids or global positions.
            width: how many numbers an index gets.
            dtype: of the result.

        Returns:
            (N, width) in [0, 1).
        """
        return (self._words(index, width) >> 8).to(dtype) * 2.0**-24

    def normal(self, index: Tensor, width: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw standard normal numbers, (N, width), for each index (Box-Muller)."""
        pairs = (width + 1) // 2
        words = self._words(index, 2 * pairs)
        radius = ((words[:, :pairs] >> 8).to(dtype) * 2.0**-24 + 2.0**-25).log_().mul_(-2.0).sqrt_()
        angle = (words[:, pairs:] >> 8).to(dtype).mul_(2.0 * math.pi * 2.0**-24)
        return torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)[:, :width]

    def integers(self, index: Tensor, width: int, high: int) -> Tensor:
        """Draw integers in [0, high), (N, width) int64, for each index; high is below 2^53."""
        words = self._words(index, 2 * width)
        # 53 bits, so that no id of a large table is likelier than another.
        fraction = ((words[:, :width] << 21) ^ (words[:, width:] >> 11)).to(torch.float64) * 2.0**-53
        return (fraction * high).to(torch.int64).clamp_(max=high - 1)

    def permute(self, index: Tensor, size: int) -> Tensor:
        """Send each index to its place under a keyed bijection of [0, size), without storing it.

        Args:
            index: (N,) int64 in [0, size).
            size: length of the range.

        Returns:
            (N,) int64 in [0, size); over all indices every value occurs once.

        Raises:
            ValueError: an index outside the range, whose walk might never end.
        """
        return self._walk(index, size, backward=False)

    def unpermute(self, places: Tensor, size: int) -> Tensor:
        """Send each place back to the index that `permute` sends there.

        Args:
            places: (N,) int64 in [0, size).
            size: length of the range.

        Returns:
            (N,) int64 in [0, size).

        Raises:
            ValueError: a place outside the range.
        """
        return self._walk(places, size, backward=True)

    def _walk(self, values: Tensor, size: int, *, backward: bool) -> Tensor:
        if len(values) and not (int(values.min()) >= 0 and int(values.max()) < size):
            raise ValueError(f"expected values in [0, {size}), got {int(values.min())} to {int(values.max())}")
        half_bits = max(1, ((size - 1).bit_length() + 1) // 2)
        if values.device.type == "cpu":
            places = torch.empty(len(values), dtype=torch.int64)
            walk(values.numpy(), size, half_bits, *self._key(), backward, places.numpy())
            return places
        return self._walk_by_torch(values, size, half_bits, backward=backward)

    def _walk_by_torch(self, values: Tensor, size: int, half_bits: int, *, backward: bool) -> Tensor:
        # The same places on any device; tests compare.
        current = self._feistel(values, half_bits, backward=backward)
        outside = current >= size
        while bool(outside.any()):
            current = torch.where(outside, self._feistel(current, half_bits, backward=backward), current)
            outside = current >= size
        return current

    def _feistel(self, value: Tensor, half_bits: int, *, backward: bool) -> Tensor:
        half_mask = (1 << half_bits) - 1
        left, right = value >> half_bits, value & half_mask
        if backward:
            left, right = right, left
        key = self._key()
        for turn in reversed(range(_FEISTEL_ROUNDS)) if backward else range(_FEISTEL_ROUNDS):
            # Three Philox-style multiplications mix the right half; a Feistel network needs no inverse of them.
            mixed = (right * _MULTIPLIERS[0] + ((key[turn % 2] + turn * _WEYL[0]) & _MASK)) & _MASK
            mixed = ((mixed ^ (mixed >> 15)) * _MULTIPLIERS[1] + key[(turn + 1) % 2]) & _MASK
            mixed = ((mixed ^ (mixed >> 13)) * _WEYL[1]) & _MASK
            left, right = right, left ^ ((mixed ^ (mixed >> 16)) & half_mask)
        if backward:
            left, right = right, left
        return (left << half_bits) | right

    def _words(self, index: Tensor, width: int) -> Tensor:
        blocks = (width + 3) // 4
        if index.device.type == "cpu":
            filled = torch.empty(len(index), 4 * blocks, dtype=torch.int64)
            fill_words(index.numpy(), blocks, *self._key(), filled.numpy())
            return filled[:, :width]
        return self._words_by_torch(index, width)

    def _words_by_torch(self, index: Tensor, width: int) -> Tensor:
        # The same words on any device; tests compare.
        blocks = (width + 3) // 4
        block = torch.arange(blocks, dtype=torch.int64, device=index.device).expand(len(index), blocks)
        low = (index & _MASK).unsqueeze(1).expand(len(index), blocks)
        high = ((index >> 32) & _MASK).unsqueeze(1).expand(len(index), blocks)
        words = philox((low, high, block, torch.zeros_like(block)), self._key())
        return torch.cat(words, dim=1)[:, :width]

    def _key(self) -> tuple[int, int]:
        address = f"{self.seed}\x00{self.name}\x00{self.epoch}\x00{self.step}".encode()
        digest = hashlib.blake2b(address, digest_size=8).digest()
        return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")


@dataclass(frozen=True)
class Moment:
    """A position in a training run, from which every random draw of that step takes its stream.

    Attributes:
        seed: of the run.
        epoch: counted from 0.
        step: counted from 0 over the whole run, not within the epoch.
    """

    seed: int
    epoch: int
    step: int

    def each_epoch(self, name: str) -> Stream:
        """A stream whose numbers stay for the whole epoch."""
        return Stream(self.seed, name, epoch=self.epoch)

    def each_step(self, name: str) -> Stream:
        """A stream whose numbers change every step."""
        return Stream(self.seed, name, epoch=self.epoch, step=self.step + 1)
