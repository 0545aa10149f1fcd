"""Something a worker holds: how large, where, and what to change to have less of it."""

from dataclasses import dataclass
from typing import Literal

Where = Literal["device", "host", "mapped"]
"""Memory of the GPU, memory of the host (of both where there is no GPU), or files that are mapped."""


@dataclass(frozen=True)
class Item:
    """Something a worker holds.

    Attributes:
        name: in words.
        num_bytes: of it.
        where: it lies.
        remedy: which field to change to have less of it.
    """

    name: str
    num_bytes: int
    where: Where
    remedy: str


def total_bytes(items: tuple[Item, ...], where: Where) -> int:
    """Bytes of the items in one place."""
    return sum(item.num_bytes for item in items if item.where == where)
