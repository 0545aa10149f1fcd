import pytest
from pydantic import TypeAdapter

from snag_dist.config import Config, validate
from snag_dist.errors import ConfigError
from snag_dist.store.encoders import (
    OpenClipConfig,
    OpenClipTextConfig,
    PixelsConfig,
    TextEncoderConfig,
    VisionEncoderConfig,
)


def test_open_clip_means_the_tower_of_its_modality():
    tree = {"kind": "open_clip", "model": "ViT-B-32", "pretrained": "openai"}
    assert type(TypeAdapter(TextEncoderConfig).validate_python(tree)) is OpenClipTextConfig
    assert type(TypeAdapter(VisionEncoderConfig).validate_python(tree)) is OpenClipConfig
    assert TypeAdapter(VisionEncoderConfig).validate_python({"kind": "pixels"}) == PixelsConfig()


class Recipe(Config):
    vision: VisionEncoderConfig
    """Pictures."""


def test_texts_are_no_business_of_an_image_tower():
    tree = {"vision": {"kind": "open_clip", "model": "ViT-B-32", "long_texts": "mean"}}
    with pytest.raises(ConfigError, match=r"recipe: vision.long_texts: no such field, got 'mean'; remove it"):
        validate(Recipe, tree, "recipe")
