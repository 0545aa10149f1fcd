"""Encoders: a sentence or a picture in, a vector out.

A config says which; `resolve` and `resolve_vision` find it once on the driver, where a missing model is told in
one line, and say what is sent to the actors; the spec's `load` runs in each actor. The heavy packages are
imported there, or where the driver must ask them, and nowhere else.

choices           the closed unions, and finding what was chosen
resolved          an encoder that was found; the seam of pictures
hashing           text: words hashed
sentence_model    text: sentence-transformers
clip_text         text: the text tower of a CLIP
clip_vision       pictures: its image tower
pixels            pictures: their pixels, averaged
clip_weights      which CLIP, and where its weights are
windows           texts longer than a window
network           options and last step of all that are networks
weights           folder, hub or package of a model
torchvision_door  the one door to torchvision
"""

from snag_dist.store.encoders.choices import TextEncoderConfig, VisionEncoderConfig, resolve, resolve_vision
from snag_dist.store.encoders.clip_text import OpenClipTextConfig
from snag_dist.store.encoders.clip_vision import OpenClipConfig
from snag_dist.store.encoders.hashing import HashingConfig
from snag_dist.store.encoders.pixels import PixelsConfig
from snag_dist.store.encoders.resolved import (
    PictureEncoder,
    PictureEncoderSpec,
    ResolvedEncoder,
    ResolvedPictureEncoder,
)
from snag_dist.store.encoders.sentence_model import SentenceTransformersConfig
from snag_dist.store.encoders.weights import find_model, hash_model

__all__ = [
    "HashingConfig",
    "OpenClipConfig",
    "OpenClipTextConfig",
    "PictureEncoder",
    "PictureEncoderSpec",
    "PixelsConfig",
    "ResolvedEncoder",
    "ResolvedPictureEncoder",
    "SentenceTransformersConfig",
    "TextEncoderConfig",
    "VisionEncoderConfig",
    "find_model",
    "hash_model",
    "resolve",
    "resolve_vision",
]
