"""The encoders there are, and finding the one that was chosen."""

from typing import Annotated

from pydantic import Field

from snag_dist.store.encoders.clip_text import OpenClipTextConfig, resolve_clip_text
from snag_dist.store.encoders.clip_vision import OpenClipConfig, resolve_clip_vision
from snag_dist.store.encoders.hashing import HashingConfig, resolve_hashing
from snag_dist.store.encoders.pixels import PixelsConfig, resolve_pixels
from snag_dist.store.encoders.resolved import ResolvedEncoder, ResolvedPictureEncoder
from snag_dist.store.encoders.sentence_model import SentenceTransformersConfig, resolve_sentence_transformers

TextEncoderConfig = Annotated[
    HashingConfig | SentenceTransformersConfig | OpenClipTextConfig, Field(discriminator="kind")
]
VisionEncoderConfig = Annotated[PixelsConfig | OpenClipConfig, Field(discriminator="kind")]


def resolve(config: HashingConfig | SentenceTransformersConfig | OpenClipTextConfig) -> ResolvedEncoder:
    """Find an encoder of texts and hash its weights.

    Raises:
        ConfigError: an option does not suit the model.
        DataError: the model is not found, or an option's package is not installed.
    """
    if isinstance(config, HashingConfig):
        return resolve_hashing(config)
    if isinstance(config, OpenClipTextConfig):
        return resolve_clip_text(config)
    return resolve_sentence_transformers(config)


def resolve_vision(config: PixelsConfig | OpenClipConfig) -> ResolvedPictureEncoder:
    """Find an encoder of pictures and hash its weights.

    Raises:
        ConfigError: an option does not suit the model.
        DataError: the model is not found, or an option's package is not installed.
    """
    if isinstance(config, PixelsConfig):
        return resolve_pixels(config)
    return resolve_clip_vision(config)
