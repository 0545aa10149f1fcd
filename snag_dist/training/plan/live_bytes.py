"""Bytes of tensors that are alive while something runs: what stays of a way forth, and the most on the way back."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Counts the memory of tensors that are made inside, until it is freed; what was there before does not count.

    Attributes:
        now: bytes that are alive.
        peak: the most there were.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.peak = 0
        self._known: dict[int, object] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count what it makes. Memory that comes in without having been counted is another's."""
        for given in _tensors((args, kwargs)):
            self._note(given, counts=False)
        made = func(*args, **(kwargs or {}))
        for tensor in _tensors(made):
            self._note(tensor, counts=True)
        self.peak = max(self.peak, self.now)
        return made

    def _note(self, tensor: Tensor, *, counts: bool) -> None:
        storage = tensor.untyped_storage()
        place = storage._cdata
        if place in self._known:
            return
        num_bytes = storage.nbytes() if counts else 0
        self.now += num_bytes
        self._known[place] = weakref.ref(storage, lambda _: self._forget(place, num_bytes))

    def _forget(self, place: int, num_bytes: int) -> None:
        self._known.pop(place, None)
        self.now -= num_bytes


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


@dataclass(frozen=True)
class Way:
    """Bytes of a way forth and back.

    Attributes:
        kept: that are alive after the way forth, what it returns included.
        peak: the most that are alive at a time, gradients included.
    """

    kept: float
    peak: float

    @classmethod
    def of(cls, forward: Callable[[], Tensor]) -> Self:
        """Go forth, and back with a gradient of ones."""
        with LiveBytes() as live:
            result = forward()
            kept = live.now
            result.backward(torch.ones_like(result))
            return cls(kept, live.peak)

    @classmethod
    def of_each(cls, forward: Callable[[int], Callable[[], Tensor]], few: int) -> tuple[Self, Self]:
        """What grows with a number, for each one of it, and what does not.

        Args:
            forward: makes the way for a number; its inputs do not count.
            few: a small number; the other one is twice as large.
        """
        one, two = (cls.of(forward(num)) for num in (few, 2 * few))
        each = cls(max(0.0, two.kept - one.kept) / few, max(0.0, two.peak - one.peak) / few)
        return each, cls(max(0.0, one.kept - few * each.kept), max(0.0, one.peak - few * each.peak))
