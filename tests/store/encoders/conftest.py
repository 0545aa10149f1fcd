"""Tiny CLIP models that tests load as they would load real ones."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_clips import WORD_TEXT, WORDS, save_clip

from snag_dist.store.encoders.torchvision_door import open_torchvision

open_torchvision()


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP with open_clip's own tokenizer and a window of 8 tokens."""
    return save_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="session")
def tiny_word_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP with a tokenizer of transformers beside it, of eleven words."""
    pytest.importorskip("transformers")
    from transformers import BertTokenizerFast

    folder = save_clip(tmp_path_factory.mktemp("word_clip"), WORD_TEXT)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


@pytest.fixture
def hidden_package(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make a package look as if it were not installed."""
    import importlib.util

    find = importlib.util.find_spec

    def hide(name: str) -> None:
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda found, *rest: None if found == name else find(found, *rest)
        )

    return hide
