"""The seam between extraction and what makes vectors: text and picture encoders, arrays, the generated world.

A spec travels to the actors and loads a maker there. A `VectorMaker` has a vector for every entity it is handed; an
`ItemMaker` is handed lists of items, of which some may be unusable.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


class Problem(NamedTuple):
    """An item that gave no vector.

    Attributes:
        entity: whose it is, as an index into those handed to the maker.
        item: which of its items, as a person finds it.
        reason: why, in a few words.
    """

    entity: int
    item: str
    reason: str


@dataclass(frozen=True)
class Made:
    """What a maker made of n entities.

    Attributes:
        vectors: (n, F); what stands where `counts` is 0 is not used.
        counts: (n,) items behind each vector; an entity without any does not have the modality.
        problems: items that are not among them.
    """

    vectors: NDArray[np.floating]
    counts: NDArray[np.int64]
    problems: tuple[Problem, ...] = ()

    @classmethod
    def of_all(cls, vectors: NDArray[np.floating]) -> Self:
        """Return vectors of entities that each have one item."""
        return cls(vectors, np.ones(len(vectors), dtype=np.int64))


class VectorMaker(Protocol):
    """Turns what a part holds of each entity into a vector; there is one for every entity."""

    width: int

    def vectors(self, payload: pa.Array) -> NDArray[np.float32]:
        """Return (n, F) vectors of n items: sentences, positions in an array, or source ids."""
        ...


class ItemMaker(ABC):
    """Turns the items of each entity, some of which may be unusable, into a vector."""

    width: int

    @abstractmethod
    def make(self, payload: pa.Array) -> Made:
        """Return the vectors of n entities, given (n,) lists of items."""


class VectorMakerSpec(Protocol):
    """What is sent to an actor instead of a model: a few values from which it loads one."""

    def load(self) -> VectorMaker | ItemMaker:
        """Load the model or open the array."""
        ...
