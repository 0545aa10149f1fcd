"""Pictures to vectors by averaging their pixels: no weights, the same numbers everywhere.

The picture is set in the middle of a white square that just holds it, so its shape is kept. The square is cut
into `side` x `side` equal cells. A cell's number is the mean of what it covers, where a pixel that lies in two
cells counts in each by the share that lies there. A picture smaller than the cells is treated alike: cells then
show parts of pixels. Black becomes -1, white 1.

All sums are of whole numbers below 2^53 and therefore exact in any order; one division follows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from snag_dist.config import Config
from snag_dist.store.encoders.resolved import PictureEncoder, ResolvedPictureEncoder
from snag_dist.store.manifest import EncoderRecord, hash_tree

# Raise it when the numbers that a picture gives change.
_VERSION = "1"
# Weights of red, green and blue in a grey, in thousandths. Source: ITU-R BT.601.
_GREY = np.array([299, 587, 114], dtype=np.float64)


class PixelsConfig(Config):
    """Pixels averaged over a grid of cells; needs no weights."""

    kind: Literal["pixels"] = "pixels"
    """Tells this encoder from the others."""
    side: int = Field(default=16, ge=1, le=256)
    """Cells along a side; F is 3 side^2, or side^2 in grey."""
    colour: Literal["rgb", "grey"] = "rgb"
    """Whether a cell has three numbers (red, green, blue) or one (their luma, BT.601)."""
    batch_size: int = Field(default=256, ge=1)
    """Pictures stacked at a time by an actor."""
    num_actors: int | None = Field(default=None, ge=1)
    """Actors that encode at a time; none takes one a CPU of the cluster."""

    @property
    def width(self) -> int:
        """Return F."""
        return (3 if self.colour == "rgb" else 1) * self.side**2


def resolve_pixels(config: PixelsConfig) -> ResolvedPictureEncoder:
    """Describe the encoder."""
    record = EncoderRecord(
        name=f"pixels {config.side} x {config.side} {config.colour}",
        revision=_VERSION,
        weights_sha256=hash_tree([_VERSION, config.side, config.colour]),
    )
    return ResolvedPictureEncoder(PixelsSpec(config), record, items_per_actor=500, num_actors=config.num_actors)


@dataclass(frozen=True)
class PixelsSpec:
    """What an actor needs to average pixels."""

    config: PixelsConfig

    def load(self) -> PictureEncoder:
        """Return the encoder."""
        return PixelsEncoder(self.config)


class PixelsEncoder:
    """Averages pixels over a grid of cells; all of the work is in `prepare`."""

    def __init__(self, config: PixelsConfig) -> None:
        self.width = config.width
        self.batch_size = config.batch_size
        self._config = config

    def prepare(self, picture: Image.Image) -> NDArray[np.float32]:
        """Return the (F,) vector of a picture in mode RGB: cells row by row, colours within a cell."""
        config = self._config
        pixels = np.asarray(picture)
        square = max(pixels.shape[:2])
        sums = _cell_sums(pixels, config.side, square)
        whole = square**2
        if config.colour == "grey":
            sums = sums @ _GREY
            whole *= 1000
        return (sums * 2 / (255 * whole) - 1).astype(np.float32).reshape(-1)

    def encode(self, prepared: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return (n, F) vectors."""
        return np.stack(prepared) if len(prepared) else np.zeros((0, self.width), np.float32)


def _cell_sums(pixels: NDArray[np.uint8], side: int, square: int) -> NDArray[np.float64]:
    """Sum a picture over the cells of its square.

    Args:
        pixels: (h, w, 3).
        square: S, side of the square in pixels, at least h and w.

    Returns:
        (side, side, 3) sums in which every cell has a total weight of S^2.
    """
    height, width = pixels.shape[:2]
    down = _overlaps(height, side, square)
    across = _overlaps(width, side, square)
    sums = np.zeros((side, side, 3))
    for i in range(side):
        # One band of rows at a time: the picture is never held in floating point as a whole.
        rows = np.flatnonzero(down[i])
        if len(rows):
            band = pixels[rows[0] : rows[-1] + 1].reshape(len(rows), -1).astype(np.float64)
            sums[i] = across @ (down[i, rows] @ band).reshape(width, 3)
    covered = np.outer(down.sum(axis=1), across.sum(axis=1))
    return sums + 255.0 * (float(square) ** 2 - covered)[:, :, None]


def _overlaps(length: int, side: int, square: int) -> NDArray[np.float64]:
    """Return (side, length): how much of each pixel lies in each cell along one axis.

    A pixel is `side` units long and a cell `square` units, so all overlaps are whole numbers.
    """
    offset = (square - length) // 2
    pixel_starts = (offset + np.arange(length)) * side
    cell_starts = np.arange(side)[:, None] * square
    begins = np.maximum(pixel_starts, cell_starts)
    ends = np.minimum(pixel_starts + side, cell_starts + square)
    return np.maximum(ends - begins, 0).astype(np.float64)
