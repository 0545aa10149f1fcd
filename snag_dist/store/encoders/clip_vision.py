"""Pictures to vectors with the image tower of a CLIP model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from snag_dist.store.encoders.clip_weights import OpenClipModelConfig, describe, load_clip
from snag_dist.store.encoders.network import to_numpy
from snag_dist.store.encoders.resolved import PictureEncoder, ResolvedPictureEncoder


class OpenClipConfig(OpenClipModelConfig):
    """The image tower of a CLIP model loaded by open_clip."""

    kind: Literal["open_clip"] = "open_clip"
    """Tells this encoder from the others."""


def resolve_clip_vision(config: OpenClipConfig) -> ResolvedPictureEncoder:
    """Find the model and hash its weights.

    Raises:
        ConfigError: `pretrained` or `truncate` does not suit the model.
        DataError: the model or its weights are not found, or the package is not installed.
    """
    named, record = describe(config, "image tower")
    return ResolvedPictureEncoder(
        OpenClipSpec(named), record, 100, num_actors=config.num_actors, num_gpus=config.num_gpus
    )


@dataclass(frozen=True)
class OpenClipSpec:
    """What an actor needs to load a CLIP model; a folder is named in full."""

    config: OpenClipModelConfig

    def load(self) -> PictureEncoder:
        """Load the model.

        Raises:
            DataError: the weights are damaged or belong to another architecture.
        """
        return OpenClipEncoder(self.config)


class OpenClipEncoder:
    """Encodes pictures; resizing, cropping and scaling are those the model was trained with."""

    def __init__(self, config: OpenClipModelConfig) -> None:
        import torch

        self._config = config
        self._model, self._transform, _ = load_clip(config)
        self._device = next(self._model.parameters()).device
        self._dtype = torch.float32 if config.dtype == "float32" else torch.bfloat16
        self.batch_size = config.batch_size
        probe = self._encode([self.prepare(Image.new("RGB", (8, 8)))])
        self.width = config.width_of(probe.shape[1])

    def prepare(self, picture: Image.Image) -> NDArray[np.float32]:
        """Return the (3, H, W) input of the image tower for a picture in mode RGB."""
        return self._transform(picture).numpy()

    def encode(self, prepared: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return (n, F) vectors of n prepared pictures, `batch_size` at a time."""
        if not len(prepared):
            return np.zeros((0, self.width), np.float32)
        starts = range(0, len(prepared), self.batch_size)
        made = [self._encode(prepared[start : start + self.batch_size]) for start in starts]
        return self._config.finish(np.concatenate(made))

    def _encode(self, prepared: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        import torch

        inputs = torch.from_numpy(np.stack(prepared)).to(self._device, self._dtype)
        with torch.inference_mode():
            return to_numpy(self._model.encode_image(inputs))
