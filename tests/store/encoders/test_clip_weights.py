import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_clips import TEXT, VISION

from snag_dist.errors import ConfigError, DataError
from snag_dist.store.encoders import OpenClipConfig, OpenClipTextConfig, resolve, resolve_vision

open_clip = pytest.importorskip("open_clip")


@pytest.fixture
def copy(tiny_clip: Path, tmp_path: Path) -> Path:
    """A copy of the tiny CLIP, for one test to spoil."""
    return shutil.copytree(tiny_clip, tmp_path / "copy")


@pytest.fixture
def tiny_architecture(tmp_path: Path) -> str:
    """An architecture that open_clip knows by name, as it knows ViT-B-32."""
    name = "tiny-test-architecture"
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps({"embed_dim": 32, "vision_cfg": VISION, "text_cfg": TEXT}))
    open_clip.add_model_config(path)
    return name


def refusal(expected: type[Exception], **fields: Any) -> str:
    with pytest.raises(expected) as error:
        resolve_vision(OpenClipConfig(**fields))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_folder_that_is_not_there(tmp_path: Path):
    assert "expected a folder with a model, found none; mend the path" in refusal(
        DataError, model=str(tmp_path / "nowhere")
    )


def test_a_folder_without_a_config(copy: Path):
    (copy / "open_clip_config.json").unlink()
    assert "expected open_clip_config.json in the folder, found none; name a folder saved by open_clip" in refusal(
        DataError, model=str(copy)
    )


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"model_cfg": {}}', '{"model_cfg": {"embed_dim": "wide"}}'])
def test_a_config_that_is_none(copy: Path, content: str):
    (copy / "open_clip_config.json").write_text(content)
    message = refusal(DataError, model=str(copy))
    assert message.startswith(f"{copy}/open_clip_config.json: expected JSON with model_cfg and its embed_dim, got ")


def test_a_folder_without_weights_would_be_random(copy: Path):
    (copy / "open_clip_model.safetensors").unlink()
    assert "expected weights (.safetensors, .bin, .pth) beside open_clip_config.json, found none" in refusal(
        DataError, model=str(copy)
    )


def test_an_architecture_without_weights_would_be_random():
    message = refusal(ConfigError, model="ViT-B-32")
    assert message.startswith("encoder.pretrained: expected the weights of ViT-B-32, a tag (openai, ")
    assert message.endswith("got none, and random weights are no encoder; name them")


def test_weights_that_are_neither_tag_nor_file():
    message = refusal(ConfigError, model="ViT-B-32", pretrained="opnai")
    assert message.startswith("encoder.pretrained: expected the weights of ViT-B-32, a tag (openai, ")
    assert message.endswith("or a file, got 'opnai'; mend it")


def test_an_unknown_architecture():
    message = refusal(ConfigError, model="ViT-B32", pretrained="openai")
    assert message.startswith("encoder.model: expected a folder, hf-hub:<name> or an architecture of open_clip (near: ")
    assert "ViT-B-32" in message and message.endswith("got 'ViT-B32'; mend the name")


def test_weights_beside_those_of_the_folder(tiny_clip: Path):
    assert "encoder.pretrained: expected none, since" in refusal(ConfigError, model=str(tiny_clip), pretrained="openai")


def test_the_package_is_missing(tiny_clip: Path, hidden_package: Callable[[str], None]):
    hidden_package("open_clip")
    assert refusal(DataError, model=str(tiny_clip)) == (
        "encoder: expected the package open_clip_torch, found none; pip install snag-dist[vision]"
    )


def test_an_architecture_with_a_file(tiny_architecture: str, tiny_clip: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tiny_clip)
    resolved = resolve_vision(OpenClipConfig(model=tiny_architecture, pretrained="open_clip_model.safetensors"))
    # Actors work in a folder of their own.
    monkeypatch.chdir("/")
    assert resolved.spec.load().width == 32
    assert resolved.record.name == f"open_clip {tiny_architecture} open_clip_model.safetensors image tower"
    text = OpenClipTextConfig(model=tiny_architecture, pretrained=str(tiny_clip / "open_clip_model.safetensors"))
    assert resolve(text).record.weights_sha256 == resolved.record.weights_sha256


def test_weights_of_another_architecture(copy: Path):
    path = copy / "open_clip_config.json"
    path.write_text(path.read_text().replace('"layers": 1', '"layers": 2'))
    spec = resolve_vision(OpenClipConfig(model=str(copy))).spec
    with pytest.raises(
        DataError, match="expected a model that open_clip loads, got RuntimeError: .*Missing key.*; mend"
    ) as error:
        spec.load()
    assert "\n" not in str(error.value)


class Trap:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return exec, ("raise SystemExit('a pickle was read')",)


def test_weights_that_hold_a_program_are_not_run(copy: Path):
    (copy / "open_clip_model.safetensors").unlink()
    (copy / "open_clip_pytorch_model.bin").write_bytes(pickle.dumps(Trap(), protocol=2))
    spec = resolve_vision(OpenClipConfig(model=str(copy))).spec
    with pytest.raises(DataError, match="expected a model that open_clip loads, got UnpicklingError"):
        spec.load()


@pytest.fixture
def offline_hub(tiny_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The tiny CLIP as a model fetched from the hub before; nothing is asked of the hub."""
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    commit = "0123456789abcdef0123456789abcdef01234567"
    folder = tmp_path / "models--some--clip"
    shutil.copytree(tiny_clip, folder / "snapshots" / commit)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    return commit


def test_a_hub_model_is_pinned_to_its_commit(offline_hub: str, tmp_path: Path, tiny_clip: Path):
    resolved = resolve_vision(OpenClipConfig(model="hf-hub:some/clip"))
    assert resolved.record.revision == offline_hub
    local = resolve_vision(OpenClipConfig(model=str(tiny_clip)))
    assert resolved.record.weights_sha256 == local.record.weights_sha256
    # The branch moves between the driver and an actor: the actor still loads what was hashed.
    (tmp_path / "models--some--clip" / "refs" / "main").write_text("f" * 40)
    assert resolved.spec.load().width == 32


def test_a_hub_model_that_is_out_of_reach(offline_hub: str):
    message = refusal(DataError, model="hf-hub:some/other")
    assert message.startswith("encoder.model 'some/other': expected a folder or a model of the hub, found neither")
