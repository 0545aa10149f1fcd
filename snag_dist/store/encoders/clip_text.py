"""Sentences to vectors with the text tower of a CLIP model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from snag_dist.errors import ConfigError
from snag_dist.store.encoders.clip_weights import OpenClipModelConfig, describe, load_clip
from snag_dist.store.encoders.network import to_numpy
from snag_dist.store.encoders.resolved import ResolvedEncoder
from snag_dist.store.encoders.windows import Frame, LongTexts, cut_into_windows, frame_of
from snag_dist.store.makers import VectorMaker


class OpenClipTextConfig(OpenClipModelConfig):
    """The text tower of a CLIP model loaded by open_clip; its window is often 77 tokens."""

    kind: Literal["open_clip"] = "open_clip"
    """Tells this encoder from the others."""
    long_texts: LongTexts = "truncate"
    """What becomes of a text longer than the window: cut at its end, or the mean over its windows."""


def resolve_clip_text(config: OpenClipTextConfig) -> ResolvedEncoder:
    """Find the model and hash its weights.

    Raises:
        ConfigError: `pretrained` or `truncate` does not suit the model.
        DataError: the model or its weights are not found, or the package is not installed.
    """
    named, record = describe(config, "text tower")
    assert isinstance(named, OpenClipTextConfig)
    return ResolvedEncoder(OpenClipTextSpec(named), record, 500, num_actors=config.num_actors, num_gpus=config.num_gpus)


@dataclass(frozen=True)
class OpenClipTextSpec:
    """What an actor needs to load a CLIP model; a folder is named in full."""

    config: OpenClipTextConfig

    def load(self) -> VectorMaker:
        """Load the model.

        Raises:
            ConfigError: windows are wanted of a model whose tokenizer knows none.
            DataError: the weights or the tokenizer are damaged or belong to another architecture.
        """
        return OpenClipTextEncoder(self.config)


class OpenClipTextEncoder:
    """Encodes sentences with a text tower and the tokenizer that belongs to it."""

    def __init__(self, config: OpenClipTextConfig) -> None:
        self._config = config
        self._model, _, name = load_clip(config)
        # Not before load_clip, which opens the door to torchvision.
        import open_clip

        self._tokenizer = open_clip.get_tokenizer(name)
        if isinstance(self._tokenizer, open_clip.SimpleTokenizer):
            # Some models were trained on tokens drawn from a long text. Here its first ones are kept, always.
            self._tokenizer.reduction_fn = None
        self._cutter = _cutter_of(self._tokenizer) if config.long_texts == "mean" else None
        self._device = next(self._model.parameters()).device
        self.width = config.width_of(self._encode(self._tokenizer(["width"]).numpy()).shape[1])

    def vectors(self, payload: pa.Array) -> NDArray[np.float32]:
        """Return (n, F) vectors of n sentences."""
        sentences = payload.to_pylist()
        if not sentences:
            return np.zeros((0, self.width), np.float32)
        if self._cutter is None:
            return self._config.finish(self._encode(self._tokenizer(sentences).numpy()))
        windows = cut_into_windows([self._cutter.tokens(sentence) for sentence in sentences], self._cutter.room)
        return self._config.finish(windows.mean(self._encode(self._cutter.inputs(windows.chunks))))

    def _encode(self, inputs: NDArray[np.int64]) -> NDArray[np.float32]:
        import torch

        made: list[NDArray[np.float32]] = []
        with torch.inference_mode():
            for begin in range(0, len(inputs), self._config.batch_size):
                batch = torch.from_numpy(inputs[begin : begin + self._config.batch_size]).to(self._device)
                made.append(to_numpy(self._model.encode_text(batch)))
        return np.concatenate(made)


@dataclass(frozen=True)
class _Cutter:
    """What of a tokenizer of open_clip is needed to make windows.

    Attributes:
        room: tokens of a text in a window.
        tokens: token ids of a text, without special ones.
        inputs: (w, length) what the text tower takes, given w windows.
    """

    room: int
    tokens: Callable[[str], list[int]]
    inputs: Callable[[list[list[int]]], NDArray[np.int64]]


def _cutter_of(tokenizer: Any) -> _Cutter:
    from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

    if isinstance(tokenizer, SimpleTokenizer):
        return _simple_cutter(tokenizer)
    if isinstance(tokenizer, HFTokenizer) and not tokenizer.tokenizer_mode:
        return _transformers_cutter(tokenizer)
    raise ConfigError(
        "encoder.long_texts: expected a model with open_clip's own tokenizer or a plain one of transformers for "
        f"'mean', got {type(tokenizer).__name__}; set long_texts=truncate"
    )


def _simple_cutter(tokenizer: Any) -> _Cutter:
    frame = Frame([tokenizer.sot_token_id], [tokenizer.eot_token_id])
    length = tokenizer.context_length

    def inputs(chunks: list[list[int]]) -> NDArray[np.int64]:
        made = np.zeros((len(chunks), length), dtype=np.int64)
        for row, chunk in zip(made, chunks, strict=True):
            framed = frame.around(chunk)
            row[: len(framed)] = framed
        return made

    return _Cutter(frame.room(length), tokenizer.encode, inputs)


def _transformers_cutter(tokenizer: Any) -> _Cutter:
    inner = tokenizer.tokenizer
    frame = frame_of(inner)
    length = tokenizer.context_length

    def tokens(sentence: str) -> list[int]:
        cleaned = tokenizer.clean_fn(sentence)
        return inner(cleaned, add_special_tokens=False, truncation=False, verbose=False)["input_ids"]

    def inputs(chunks: list[list[int]]) -> NDArray[np.int64]:
        framed = {"input_ids": [frame.around(chunk) for chunk in chunks]}
        padded = inner.pad(framed, padding="max_length", max_length=length, verbose=False)["input_ids"]
        made = np.array(padded, dtype=np.int64)
        return np.where(made == inner.sep_token_id, 0, made) if tokenizer.strip_sep_token else made

    return _Cutter(frame.room(length), tokens, inputs)
