"""Pictures to one vector an entity, in an actor: read and decode in threads, encode in batches, average."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from snag_dist.errors import DataError
from snag_dist.store.encoders import PictureEncoderSpec
from snag_dist.store.makers import ItemMaker, Made, Problem
from snag_dist.store.media.items import read_item
from snag_dist.store.pictures import PictureError, decode_picture

Prepared = NDArray[np.float32] | PictureError
# Handing over a picture at a time to a thread costs a tenth of decoding a small one.
_PICTURES_A_TASK = 16


@dataclass(frozen=True)
class PictureSpec:
    """What an actor needs to make vectors of pictures.

    Attributes:
        encoder: of pictures.
        max_pixels: pictures with more are refused before they are decoded.
        decode_threads: that read and decode.
    """

    encoder: PictureEncoderSpec
    max_pixels: int
    decode_threads: int

    def load(self) -> ItemMaker:
        """Load the encoder and start the threads."""
        return PictureMaker(self)


class PictureMaker(ItemMaker):
    """Makes the mean vector of each entity's pictures."""

    def __init__(self, spec: PictureSpec) -> None:
        self._encoder = spec.encoder.load()
        self.width = self._encoder.width
        self._max_pixels = spec.max_pixels
        self._threads = ThreadPoolExecutor(spec.decode_threads)

    def make(self, payload: pa.Array) -> Made:
        """Return the vectors of n entities, given (n,) lists of pictures as ranges of bytes."""
        lengths = payload.value_lengths().to_numpy()
        owners = np.repeat(np.arange(len(payload)), lengths)
        items = payload.flatten()
        totals = np.zeros((len(payload), self.width))
        counts = np.zeros(len(payload), dtype=np.int64)
        problems: list[Problem] = []
        for start, batch in self._batches(items):
            usable: list[NDArray[np.float32]] = []
            usable_owners: list[int] = []
            for position, prepared in enumerate(batch, start):
                owner = int(owners[position])
                if isinstance(prepared, PictureError):
                    problems.append(Problem(owner, _name(items[position]), prepared.reason))
                else:
                    usable.append(prepared)
                    usable_owners.append(owner)
            if usable:
                # Owners ascend, so each has one run; its vectors are added one after the other.
                vectors = self._encoder.encode(usable).astype(np.float64)
                found, starts, numbers = np.unique(usable_owners, return_index=True, return_counts=True)
                totals[found] += np.add.reduceat(vectors, starts, axis=0)
                counts[found] += numbers
        means = totals / np.maximum(counts, 1)[:, None]
        return Made(means.astype(np.float32), counts, tuple(problems))

    def _batches(self, items: pa.StructArray) -> Iterator[tuple[int, list[Prepared]]]:
        """Yield the prepared pictures batch by batch, the next one being read while one is encoded."""
        size = self._encoder.batch_size
        pending = None
        for start in [*range(0, len(items), size), None]:
            following = None
            if start is not None:
                chunk = items.slice(start, size).to_pylist()
                few = [chunk[i : i + _PICTURES_A_TASK] for i in range(0, len(chunk), _PICTURES_A_TASK)]
                following = (start, [self._threads.submit(self._prepare_all, group) for group in few])
            if pending is not None:
                yield pending[0], [prepared for future in pending[1] for prepared in future.result()]
            pending = following

    def _prepare_all(self, items: list[dict[str, Any]]) -> list[Prepared]:
        return [self._prepare(**item) for item in items]

    def _prepare(self, path: str, offset: int, size: int) -> Prepared:
        try:
            data = read_item(path, offset, size)
        except DataError as error:
            return PictureError(f"gone since it was listed: {error}")
        try:
            return self._encoder.prepare(decode_picture(data, max_pixels=self._max_pixels))
        except PictureError as error:
            return error


def _name(item: pa.StructScalar) -> str:
    path, offset = Path(item["path"].as_py()), item["offset"].as_py()
    return f"{path} from byte {offset}" if offset else str(path)
