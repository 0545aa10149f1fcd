"""Tiny CLIP models with random weights, saved as open_clip saves real ones."""

import json
from pathlib import Path
from typing import Any

import pytest

VISION = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
TEXT = {"context_length": 8, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "city", "in", "the", "north", "south"]
# The last token of a text is [SEP], number 3.
WORD_TEXT = {**TEXT, "vocab_size": len(WORDS), "pool_type": "eos", "eos_id": 3, "hf_tokenizer_name": "beside"}


def save_clip(folder: Path, text: dict[str, Any] = TEXT) -> Path:
    """Save a CLIP of two 32-dimensional towers into a folder."""
    pytest.importorskip("open_clip")
    import open_clip
    import torch
    from safetensors.torch import save_file

    settings = {"embed_dim": 32, "vision_cfg": VISION, "text_cfg": text}
    torch.manual_seed(0)
    model = open_clip.CLIP(**settings)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    tree = {"model_cfg": settings, "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}}
    (folder / "open_clip_config.json").write_text(json.dumps(tree))
    return folder
