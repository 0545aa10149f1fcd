"""Encoders that were found: what goes to the actors, and what the manifest says of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from snag_dist.store.makers import VectorMakerSpec
from snag_dist.store.manifest import EncoderRecord


class PictureEncoder(Protocol):
    """Turns pictures into vectors, in two steps.

    `prepare` runs in many threads at a time, `encode` in one. What a picture becomes does not depend on the
    thread. Beside other pictures of a batch its last bits may differ, as in any network; so whoever wants
    the same bytes makes the same batches.
    """

    width: int
    batch_size: int

    def prepare(self, picture: Image.Image) -> NDArray[np.float32]:
        """Return what `encode` needs of one picture in mode RGB; all pictures give the same shape."""
        ...

    def encode(self, prepared: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return (n, F) vectors of n prepared pictures, as a list or stacked; n is best at most `batch_size`."""
        ...


class PictureEncoderSpec(Protocol):
    """What is sent to an actor instead of a model: a few values from which it loads one."""

    def load(self) -> PictureEncoder:
        """Load the model."""
        ...


@dataclass(frozen=True)
class ResolvedEncoder:
    """A maker of vectors that was found.

    Attributes:
        spec: what an actor loads.
        record: what the manifest says of it.
        items_per_actor: fewer items than this are not worth a second actor.
        num_actors: wanted by the user, or None.
        num_gpus: an actor reserves.
    """

    spec: VectorMakerSpec
    record: EncoderRecord
    items_per_actor: int
    num_actors: int | None = None
    num_gpus: float = 0.0


@dataclass(frozen=True)
class ResolvedPictureEncoder:
    """An encoder of pictures that was found; the attributes are those of `ResolvedEncoder`."""

    spec: PictureEncoderSpec
    record: EncoderRecord
    items_per_actor: int
    num_actors: int | None = None
    num_gpus: float = 0.0
