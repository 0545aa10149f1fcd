"""Pictures of entities, from a folder, Parquet or WebDataset shards, to a vision modality.

The driver lists pictures as ranges of bytes in files; actors read, decode and encode them. The vector of an entity is
the mean over those of its pictures that can be used, summed in the order of its list, so that it does not depend on
scheduling. The mean of vectors of length 1 is not scaled again: it is shorter the more the pictures differ.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from PIL import Image
from pydantic import Field

from snag_dist.config import Config
from snag_dist.errors import DataError
from snag_dist.store.encoders import PixelsConfig, ResolvedEncoder, VisionEncoderConfig, resolve_vision
from snag_dist.store.media.folder import FolderConfig
from snag_dist.store.media.items import read_item
from snag_dist.store.media.parquet import MediaParquetConfig
from snag_dist.store.media.webdataset import WebdatasetConfig
from snag_dist.store.modality import Modality, match_keys
from snag_dist.store.opened import Store
from snag_dist.store.picture_maker import PictureSpec
from snag_dist.store.pictures import PictureError, decode_picture
from snag_dist.store.schema import FeatureDtype

PictureSourceConfig = Annotated[FolderConfig | MediaParquetConfig | WebdatasetConfig, Field(discriminator="kind")]


class PicturesConfig(Config):
    """Vectors of pictures, averaged where an entity has several."""

    kind: Literal["pictures"] = "pictures"
    """Tells this kind of features from the others."""
    source: PictureSourceConfig
    """Where the pictures are."""
    encoder: VisionEncoderConfig = PixelsConfig()
    """What makes vectors of them."""
    max_per_entity: int | None = Field(default=None, ge=1)
    """Pictures of an entity that are used, the first in order; none uses all."""
    max_pixels: int = Field(default=100_000_000, ge=1)
    """Pictures with more pixels are refused before they are decoded: a small file can claim a huge one."""
    decode_threads: int = Field(default=2, ge=1)
    """Threads of an actor that read and decode while it encodes."""
    dtype: FeatureDtype = "float16"
    """Type of the stored numbers."""

    def hashes(self) -> list[str]:
        """Return hashes of what the source lists and of the model.

        Raises:
            DataError: the source or the model is not found.
        """
        return [self.source.identity("pictures"), resolve_vision(self.encoder).record.weights_sha256]

    def open(self, store: Store, scratch: Path) -> Modality:
        """List the pictures and join them to the rows of a store.

        Args:
            store: whose entities are meant.
            scratch: folder that all workers reach, where pictures inside Parquet are laid out.

        Raises:
            DataError: the source is missing or malformed, or the encoder's model is not found.
        """
        found = resolve_vision(self.encoder)
        listing = self.source.list_pictures(scratch)
        matches = match_keys(store, listing.keys, are_ids=self.source.keys == "id", place=listing.place)
        items = first_items(listing.items.take(pa.array(matches.positions)), self.max_per_entity)
        spec = PictureSpec(found.spec, self.max_pixels, self.decode_threads)
        return Modality(
            rows=matches.rows,
            payload=items,
            encoder=ResolvedEncoder(spec, found.record, found.items_per_actor, found.num_actors, found.num_gpus),
            place=lambda index: listing.place(int(matches.positions[index])),
            source=listing.source,
            unknown_keys=matches.unknown,
            problems=listing.problems,
            show=lambda index: self._first_usable(items[index].as_py()),
        )

    def _first_usable(self, items: list[dict[str, Any]]) -> Image.Image | None:
        for item in items:
            try:
                return decode_picture(read_item(**item), max_pixels=self.max_pixels)
            except (PictureError, DataError):
                continue
        return None


def first_items(items: pa.LargeListArray, limit: int | None) -> pa.LargeListArray:
    """Return the first items of every list, at most `limit`; all of them if it is None."""
    if limit is None:
        return items
    lengths = items.value_lengths().to_numpy()
    starts = np.cumsum(lengths) - lengths
    kept = np.minimum(lengths, limit)
    offsets = np.concatenate([[0], np.cumsum(kept)])
    within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], kept)
    chosen = items.flatten().take(pa.array(np.repeat(starts, kept) + within))
    return pa.LargeListArray.from_arrays(pa.array(offsets), chosen)
