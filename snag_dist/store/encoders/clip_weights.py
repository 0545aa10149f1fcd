"""Where the weights of a CLIP model are, and how open_clip is told to load them."""

import difflib
import importlib.metadata
import importlib.util
import json
import pickle
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snag_dist.errors import ConfigError, DataError
from snag_dist.store.encoders.network import NetworkConfig, open_device
from snag_dist.store.encoders.torchvision_door import open_torchvision
from snag_dist.store.encoders.weights import (
    fetch_from_hub,
    find_model,
    hash_model,
    hub_revision,
    is_path,
    name_for_actors,
)
from snag_dist.store.manifest import EncoderRecord, hash_file, hash_tree

_HUB_PREFIX = "hf-hub:"
_CONFIG_FILE = "open_clip_config.json"
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pth")
# A hub model often holds its weights twice; the second form is fetched only where the first is missing.
_TOKENIZER_FILES = ("*.json", "*.txt", "*.model")
_HUB_WEIGHTS = (("open_clip*.safetensors",), ("open_clip*.bin",))


class OpenClipModelConfig(NetworkConfig):
    """Which CLIP model, by open_clip's names."""

    model: str
    """A folder with open_clip_config.json and weights, `hf-hub:<name>`, or an architecture (ViT-B-32)."""
    pretrained: str | None = None
    """Weights of an architecture: a tag that open_clip knows, or a file; none for a folder or a hub model."""
    revision: str | None = None
    """Hub revision; none takes the newest, whose commit goes into the manifest."""


@dataclass(frozen=True)
class Located:
    """A model whose files are on this machine.

    Attributes:
        name: by which open_clip loads it.
        folder: where a folder or hub model lies, None for an architecture.
        settings: open_clip's `model_cfg`.
    """

    name: str
    folder: Path | None
    settings: dict[str, Any]


def describe(config: OpenClipModelConfig, tower: str) -> tuple[OpenClipModelConfig, EncoderRecord]:
    """Find a model and hash its weights, on the driver.

    Args:
        tower: which half is used, for the manifest.

    Returns:
        The config as an actor needs it, and what the manifest says.

    Raises:
        ConfigError: `pretrained` or `truncate` does not suit the model.
        DataError: the model or its weights are not found, or the package is not installed.
    """
    located = locate(config)
    config.width_of(int(located.settings["embed_dim"]))
    version = f"open_clip_torch {importlib.metadata.version('open_clip_torch')}"
    if located.folder is None:
        assert config.pretrained is not None
        file = _weights_of_architecture(config.model, config.pretrained)
        named = str(file) if Path(config.pretrained).expanduser().is_file() else config.pretrained
        update = {"pretrained": named}
        revision = hub_revision(file.parent) or version
        sha256 = hash_tree({"settings": located.settings, "weights": hash_file(file)})
    else:
        commit = hub_revision(located.folder) or config.revision
        # Every node fetches a hub model itself: the commit, not a branch that may move meanwhile.
        update = {"model": name_for_actors(config.model, located.folder), "revision": commit}
        revision = commit or version
        sha256 = hash_model(located.folder)
    label = " ".join(["open_clip", config.model, *([config.pretrained] if config.pretrained else []), tower])
    return config.model_copy(update=update), EncoderRecord(name=label, revision=revision, weights_sha256=sha256)


def locate(config: OpenClipModelConfig) -> Located:
    """Find a model's files, fetching them where needed.

    Raises:
        ConfigError, DataError: as for `describe`.
    """
    if importlib.util.find_spec("open_clip") is None:
        raise DataError("encoder: expected the package open_clip_torch, found none; pip install snag-dist[vision]")
    folder = _folder_of(config)
    if folder is None:
        return Located(config.model, None, _settings_of_architecture(config))
    if config.pretrained is not None:
        raise ConfigError(
            f"encoder.pretrained: expected none, since {config.model!r} carries its weights, got "
            f"{config.pretrained!r}; remove it"
        )
    settings = _read_settings(folder, config.model)
    if not any(path.suffix in _WEIGHT_SUFFIXES for path in folder.iterdir()):
        raise DataError(
            f"encoder.model {config.model!r}: expected weights ({', '.join(_WEIGHT_SUFFIXES)}) beside {_CONFIG_FILE}, "
            "found none, and without them vectors would be random; add the weights"
        )
    return Located(f"local-dir:{folder}", folder, settings)


def load_clip(config: OpenClipModelConfig) -> tuple[Any, Any, str]:
    """Load a model, in an actor.

    Returns:
        The model, its transform of pictures, and its name for open_clip.

    Raises:
        DataError: the weights are damaged, hold more than weights, or belong to another architecture.
    """
    located = locate(config)
    open_torchvision()
    import open_clip

    device = open_device(config.device)
    try:
        # Random weights are an error to this function, and only tensors are unpickled.
        loaded: Any = open_clip.create_model_from_pretrained(
            located.name,
            pretrained=config.pretrained,
            precision="fp32" if config.dtype == "float32" else "pure_bf16",
            device=device,
            weights_only=True,
        )
    except (RuntimeError, ValueError, KeyError, TypeError, OSError, AssertionError, pickle.UnpicklingError) as error:
        reason = textwrap.shorten(str(error), 200)
        raise DataError(
            f"encoder.model {config.model!r}: expected a model that open_clip loads, got {type(error).__name__}: "
            f"{reason}; mend {_CONFIG_FILE} or the weights"
        ) from error
    model, transform = loaded
    return model.eval(), transform, located.name


def _folder_of(config: OpenClipModelConfig) -> Path | None:
    model = config.model
    if model.startswith(_HUB_PREFIX):
        return _fetch_clip(model.removeprefix(_HUB_PREFIX), config.revision)
    if model.startswith("package:") or Path(model).expanduser().is_dir() or is_path(model):
        return find_model(model)
    return None


def _fetch_clip(name: str, revision: str | None) -> Path:
    folder = Path()
    for weights in _HUB_WEIGHTS:
        folder = fetch_from_hub(name, revision, [*_TOKENIZER_FILES, *weights])
        if any(path.suffix in _WEIGHT_SUFFIXES for path in folder.iterdir()):
            break
    return folder


def _read_settings(folder: Path, model: str) -> dict[str, Any]:
    path = folder / _CONFIG_FILE
    if not path.is_file():
        raise DataError(
            f"encoder.model {model!r}: expected {_CONFIG_FILE} in the folder, found none; name a folder saved by "
            "open_clip"
        )
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))["model_cfg"]
        int(settings["embed_dim"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: expected JSON with model_cfg and its embed_dim, got {error!r}; save the model anew with open_clip"
        ) from error
    return settings


def _settings_of_architecture(config: OpenClipModelConfig) -> dict[str, Any]:
    open_torchvision()
    import open_clip

    model, pretrained = config.model, config.pretrained
    if model not in open_clip.list_models():
        near = difflib.get_close_matches(model, open_clip.list_models(), n=3, cutoff=0.4)
        hint = f" (near: {', '.join(near)})" if near else ""
        raise ConfigError(
            f"encoder.model: expected a folder, hf-hub:<name> or an architecture of open_clip{hint}, got {model!r}; "
            "mend the name"
        )
    tags = open_clip.list_pretrained_tags_by_model(model)
    known = f"a tag ({', '.join(tags)}) or a file" if tags else "a file"
    if pretrained is None:
        raise ConfigError(
            f"encoder.pretrained: expected the weights of {model}, {known}, got none, and random weights are no "
            "encoder; name them"
        )
    if not open_clip.get_pretrained_cfg(model, pretrained) and not Path(pretrained).expanduser().is_file():
        raise ConfigError(f"encoder.pretrained: expected the weights of {model}, {known}, got {pretrained!r}; mend it")
    settings: Any = open_clip.get_model_config(model)
    return settings


def _weights_of_architecture(model: str, pretrained: str) -> Path:
    import open_clip

    file = Path(pretrained).expanduser()
    if file.is_file():
        return file.absolute()
    try:
        return Path(open_clip.download_pretrained(open_clip.get_pretrained_cfg(model, pretrained)))
    except (OSError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise DataError(
            f"encoder.pretrained {pretrained!r}: expected to download the weights, got {type(error).__name__}: "
            f"{reason}; download them elsewhere and name the file or folder"
        ) from error
