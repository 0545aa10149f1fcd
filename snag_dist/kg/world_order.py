"""Who comes how far up in the generated world: members of a kind with given attributes, found by arithmetic.

The discrete attributes of a kind lie in the local index like digits, so a list of "the cities that are blue and by the
sea" need never be held: its q-th entry is computed, at any size of the world.
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

# Above 1, the popular are drawn more often than in proportion to 1 / (place + 1).
_STEEPNESS = 2.0


def draw_place(numbers: Floats, length: Ints | int) -> Ints:
    """Draw places in an order; the first q together have probability (ln(q + 1) / ln(length + 1))^(1/2).

    Args:
        numbers: (N,) uniform in [0, 1).
        length: places there are, one number or (N,); 0 yields place 0.

    Returns:
        (N,) places.
    """
    last = np.maximum(np.asarray(length, dtype=np.int64), 1)
    places = np.floor(np.exp(numbers**_STEEPNESS * np.log(last + 1.0))).astype(np.int64) - 1
    return np.clip(places, 0, last - 1)


class Order:
    """The members of a kind that share some digits, in order of popularity, by arithmetic.

    A place in the order is `rank * free + code`: rank is the part of the local index above all digits, code that of
    the digits left free. The code is turned by an amount that depends on the shared digits, so that the popular
    cities of every landscape are not all of one colour.

    Args:
        count: members of the kind.
        digits: name to size, lowest digit first.
        shared: names of the digits that the members have in common.

    Attributes:
        length: places in the order; the last may fall on members that have an earlier place too.
    """

    def __init__(self, count: int, digits: Mapping[str, int], shared: tuple[str, ...]) -> None:
        self._count = count
        self._digits = digits
        self._shared = shared
        self._cells = math.prod(digits.values())
        self._free = math.prod(size for name, size in digits.items() if name not in shared)
        self.length = self._free * -(-count // self._cells)

    def _turn(self, attributes: Mapping[str, Ints]) -> Ints | int:
        code: Ints | int = 0
        for name in self._shared:
            code = code * self._digits[name] + attributes[name]
        return 5 * code

    def member(self, attributes: Mapping[str, Ints], places: Ints) -> Ints:
        """Return the local index at each place, (N,)."""
        rank, code = np.divmod(places, self._free)
        code = (code + self._turn(attributes)) % self._free
        local, stride = rank * self._cells, 1
        for name, size in self._digits.items():
            if name in self._shared:
                digit = attributes[name]
            else:
                code, digit = np.divmod(code, size)
            local, stride = local + stride * digit, stride * size
        # The last rank may be incomplete: step one rank down, and in a tiny world around.
        local = np.where((local >= self._count) & (local >= self._cells), local - self._cells, local)
        return local % self._count

    def place(self, local: Ints, attributes: Mapping[str, Ints]) -> Ints:
        """Return the place of each local index in the order of its own shared digits, (N,)."""
        code, stride = np.zeros(len(local), dtype=np.int64), 1
        for name, size in self._digits.items():
            if name not in self._shared:
                code, stride = code + stride * attributes[name], stride * size
        return (local // self._cells) * self._free + (code - self._turn(attributes)) % self._free
