"""Sentences to vectors with a model of sentence-transformers."""

import importlib.metadata
import importlib.util
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from snag_dist.errors import ConfigError, DataError
from snag_dist.store.encoders.network import NetworkConfig, open_device, to_numpy
from snag_dist.store.encoders.resolved import ResolvedEncoder
from snag_dist.store.encoders.torchvision_door import open_torchvision
from snag_dist.store.encoders.weights import find_model, hash_model, hub_revision, name_for_actors
from snag_dist.store.encoders.windows import LongTexts, Windows, cut_into_windows, frame_of
from snag_dist.store.makers import VectorMaker
from snag_dist.store.manifest import EncoderRecord

# Some tokenizers say "no limit" with a number beyond any text.
_NO_WINDOW = 1_000_000


class SentenceTransformersConfig(NetworkConfig):
    """A sentence model loaded by sentence-transformers."""

    kind: Literal["sentence_transformers"] = "sentence_transformers"
    """Tells this encoder from the others."""
    model: str
    """A folder, a hub name, or `package:<module>/<folder>` for weights that an installed package carries."""
    revision: str | None = None
    """Hub revision; none takes the newest, whose commit goes into the manifest."""
    max_tokens: int | None = Field(default=None, ge=2)
    """Window in tokens, special ones included; none keeps the model's own."""
    long_texts: LongTexts = "truncate"
    """What becomes of a text longer than the window: cut at its end, or the mean over its windows."""


def resolve_sentence_transformers(config: SentenceTransformersConfig) -> ResolvedEncoder:
    """Find the model and hash its weights.

    Raises:
        DataError: the model is neither a folder nor known to the hub, or the package is not installed.
    """
    if importlib.util.find_spec("sentence_transformers") is None:
        raise DataError("encoder: expected the package sentence-transformers, found none; pip install snag-dist[text]")
    folder = find_model(config.model, config.revision)
    # Every node fetches a hub model itself: the commit, not a branch that may move meanwhile.
    revision = hub_revision(folder) or config.revision
    record = EncoderRecord(
        name=f"sentence_transformers {config.model}",
        revision=revision or f"sentence-transformers {importlib.metadata.version('sentence-transformers')}",
        weights_sha256=hash_model(folder),
    )
    named = config.model_copy(update={"model": name_for_actors(config.model, folder), "revision": revision})
    spec = SentenceTransformersSpec(named)
    return ResolvedEncoder(spec, record, 500, num_actors=config.num_actors, num_gpus=config.num_gpus)


@dataclass(frozen=True)
class SentenceTransformersSpec:
    """What an actor needs to load a sentence model; a folder is named in full."""

    config: SentenceTransformersConfig

    def load(self) -> VectorMaker:
        """Load the model."""
        return SentenceTransformersEncoder(self.config)


class SentenceTransformersEncoder:
    """Encodes sentences with a sentence model."""

    def __init__(self, config: SentenceTransformersConfig) -> None:
        open_torchvision()
        import torch
        from sentence_transformers import SentenceTransformer

        self._config = config
        folder = find_model(config.model, config.revision)
        device = open_device(config.device)
        self._model = SentenceTransformer(str(folder), device=str(device), local_files_only=True).eval()
        if config.dtype == "bfloat16":
            self._model.to(dtype=torch.bfloat16)
        if config.max_tokens is not None:
            self._model.max_seq_length = config.max_tokens
        self._cutter = _cutter_of(self._model) if config.long_texts == "mean" else None
        self.width = config.width_of(self._encode(["width"]).shape[1])

    def vectors(self, payload: pa.Array) -> NDArray[np.float32]:
        """Return (n, F) vectors of n sentences."""
        sentences = payload.to_pylist()
        if self._cutter is None or not sentences:
            return self._config.finish(self._encode(sentences))
        windows = self._cutter.cut(sentences)
        return self._config.finish(windows.mean(self._encode_windows(windows, self._cutter)))

    def _encode(self, sentences: list[str]) -> NDArray[np.float32]:
        if not sentences:
            return np.zeros((0, self.width), np.float32)
        made = self._model.encode(
            sentences, batch_size=self._config.batch_size, show_progress_bar=False, convert_to_tensor=True
        )
        return to_numpy(made)

    def _encode_windows(self, windows: Windows, cutter: "_Cutter") -> NDArray[np.float32]:
        import torch

        # Windows of like length together, so that little is padded.
        order = np.argsort([-len(chunk) for chunk in windows.chunks], kind="stable")
        batches: list[NDArray[np.float32]] = []
        with torch.inference_mode():
            for begin in range(0, len(order), self._config.batch_size):
                chosen = order[begin : begin + self._config.batch_size]
                features = cutter.features([windows.chunks[index] for index in chosen])
                on_device = {name: tensor.to(self._model.device) for name, tensor in features.items()}
                batches.append(to_numpy(self._model(on_device)["sentence_embedding"]))
        made = np.concatenate(batches)
        vectors = np.empty_like(made)
        vectors[order] = made
        return vectors


class _Cutter:
    """Cuts sentences into windows with the tokenizer of a sentence model."""

    def __init__(self, tokenizer: Any, window: int) -> None:
        self._tokenizer = tokenizer
        self._frame = frame_of(tokenizer)
        self._room = self._frame.room(window)

    def cut(self, sentences: list[str]) -> Windows:
        tokens = self._tokenizer(sentences, add_special_tokens=False, truncation=False, verbose=False)["input_ids"]
        return cut_into_windows(tokens, self._room)

    def features(self, chunks: list[list[int]]) -> dict[str, Any]:
        framed = [self._frame.around(chunk) for chunk in chunks]
        return dict(self._tokenizer.pad({"input_ids": framed}, padding=True, return_tensors="pt", verbose=False))


def _cutter_of(model: Any) -> _Cutter | None:
    from transformers import PreTrainedTokenizerBase

    window = model.max_seq_length
    if window is None or window >= _NO_WINDOW:
        # A model without a window takes any text whole.
        return None
    if model.default_prompt_name is not None:
        raise ConfigError(
            "encoder.long_texts: expected a model without a default prompt for 'mean', got one whose prompt is "
            f"{model.default_prompt_name!r}; set long_texts=truncate"
        )
    if not isinstance(model.tokenizer, PreTrainedTokenizerBase):
        raise ConfigError(
            "encoder.long_texts: expected a model with a tokenizer of transformers for 'mean', got "
            f"{type(model.tokenizer).__name__}; set long_texts=truncate"
        )
    return _Cutter(model.tokenizer, window)
