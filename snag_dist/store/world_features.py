"""Sentences and pictures of the generated world, drawn anew from its seed, to modalities."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from snag_dist.config import Config
from snag_dist.errors import ConfigError, DataError
from snag_dist.kg.world import World, WorldConfig
from snag_dist.store.encoders import HashingConfig, ResolvedEncoder, TextEncoderConfig, resolve
from snag_dist.store.makers import VectorMaker
from snag_dist.store.manifest import EncoderRecord, hash_tree
from snag_dist.store.modality import Modality
from snag_dist.store.opened import Store
from snag_dist.store.schema import FeatureDtype


class WorldTextConfig(Config):
    """Vectors of the world's sentences; every entity has one."""

    kind: Literal["world_text"] = "world_text"
    """Tells this kind of features from the others."""
    encoder: TextEncoderConfig = HashingConfig()
    """What makes vectors of them."""
    dtype: FeatureDtype = "float16"
    """Type of the stored numbers."""

    def hashes(self) -> list[str]:
        """Return the hash of the model that makes the vectors.

        Raises:
            DataError: the encoder's model is not found.
        """
        return [resolve(self.encoder).record.weights_sha256]

    def open(self, store: Store, scratch: Path) -> Modality:
        """Write the sentences of all entities.

        Raises:
            DataError: the store is not of a generated world, or the encoder's model is not found.
        """
        encoder = resolve(self.encoder)
        ids = _ids_by_row(store)
        sentences = pa.array(_world_of(store).texts(ids), pa.large_string())
        return Modality(
            rows=np.arange(len(ids)),
            payload=sentences,
            encoder=encoder,
            place=lambda index: f"entity {ids[index]} of the world",
            source="sentences of the generated world",
            show=lambda index: sentences[index].as_py(),
        )


class WorldPixelsConfig(Config):
    """The world's pictures as vectors: averaged over squares, scaled to [-1, 1], rows of red, green, blue."""

    kind: Literal["world_pixels"] = "world_pixels"
    """Tells this kind of features from the others."""
    pool: int = Field(default=4, ge=1)
    """Side of the squares that are averaged, in pixels; it divides the side of the pictures."""
    dtype: FeatureDtype = "float16"
    """Type of the stored numbers."""

    def hashes(self) -> list[str]:
        """Return the hashes of sources and models: there are none."""
        return []

    def open(self, store: Store, scratch: Path) -> Modality:
        """Find the entities that have a picture.

        Raises:
            DataError: the store is not of a generated world.
            ConfigError: `pool` does not divide the side of the pictures.
        """
        world = _world_of(store)
        side = world.config.picture_side
        if side % self.pool:
            raise ConfigError(f"pool: expected a divisor of the pictures' side ({side}), got {self.pool}; use 4 or 8")
        ids = _ids_by_row(store)
        rows = np.flatnonzero(world.shown(ids) >= 0)
        width = 3 * (side // self.pool) ** 2
        record = EncoderRecord(
            name=f"pixels {side} pooled by {self.pool}",
            revision="1",
            weights_sha256=hash_tree([side, self.pool]),
        )
        encoder = ResolvedEncoder(PixelSpec(world.config, self.pool, width), record, items_per_actor=20_000)
        return Modality(
            rows=rows,
            payload=pa.array(ids[rows]),
            encoder=encoder,
            place=lambda index: f"entity {ids[rows[index]]} of the world",
            source="pictures of the generated world",
            show=lambda index: Image.fromarray(world.pictures(ids[rows[index : index + 1]])[0][0]),
        )


@dataclass(frozen=True)
class PixelSpec:
    """What an actor needs to draw pictures.

    Attributes:
        config: of the world.
        pool: side of the squares that are averaged, in pixels.
        width: F.
    """

    config: WorldConfig
    pool: int
    width: int

    def load(self) -> VectorMaker:
        """Return the maker."""
        return PixelMaker(self)


class PixelMaker:
    """Draws pictures and averages them over squares."""

    def __init__(self, spec: PixelSpec) -> None:
        self.width = spec.width
        self._pool = spec.pool
        self._world = World(spec.config)

    def vectors(self, payload: pa.Array) -> NDArray[np.float32]:
        """Return (n, F) vectors of the pictures of n source ids."""
        pictures, _ = self._world.pictures(payload.to_numpy())
        side = pictures.shape[1] // self._pool
        squares = pictures.reshape(len(pictures), side, self._pool, side, self._pool, 3)
        means = squares.mean(axis=(2, 4), dtype=np.float64)
        return (means / 127.5 - 1.0).astype(np.float32).reshape(len(pictures), -1)


def _world_of(store: Store) -> World:
    source = store.manifest.config["source"]
    if source["kind"] != "world":
        raise DataError(
            f"{store.path}: expected the store of a generated world, got one of {store.manifest.source}; "
            "use features of kind text or array"
        )
    return World(WorldConfig.model_validate(source))


def _ids_by_row(store: Store) -> NDArray[np.int64]:
    return np.argsort(store.rows_of_source_ids)
