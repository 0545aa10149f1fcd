from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from snag_dist.errors import ConfigError, DataError
from snag_dist.store.encoders import SentenceTransformersConfig, hash_model, resolve
from snag_dist.store.encoders.sentence_model import _cutter_of

# Fourteen words, each one token.
LONG = "a city in the north in the south a city a city in the"


def encode(config: SentenceTransformersConfig, sentences: list[str]) -> np.ndarray:
    return resolve(config).spec.load().vectors(pa.array(sentences, pa.large_string()))


def test_a_sentence_model_from_a_folder(tiny_model: Path):
    config = SentenceTransformersConfig(model=str(tiny_model))
    resolved = resolve(config)
    vectors = encode(config, ["a city in the north", "a city in the south", "a city in the north"])
    assert vectors.shape == (3, 32) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(vectors[0], vectors[2], rtol=1e-5, atol=1e-6)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3
    assert resolved.record.weights_sha256 == hash_model(tiny_model)


def test_the_vectors_are_those_of_the_library(tiny_model: Path):
    from sentence_transformers import SentenceTransformer

    sentences = ["a city", LONG, "the north"]
    direct = SentenceTransformer(str(tiny_model), device="cpu").encode(sentences)
    made = encode(SentenceTransformersConfig(model=str(tiny_model), normalize=False), sentences)
    np.testing.assert_allclose(made, direct, rtol=1e-5, atol=1e-6)


def test_normalising_and_the_window_are_choices(tiny_model: Path):
    loose = SentenceTransformersConfig(model=str(tiny_model), normalize=False)
    assert abs(np.linalg.norm(encode(loose, [LONG])) - 1) > 0.1
    cut = SentenceTransformersConfig(model=str(tiny_model), max_tokens=4)
    # The window holds [CLS], two words and [SEP].
    np.testing.assert_allclose(*encode(cut, [LONG, "a city"]), rtol=1e-5, atol=1e-6)


def test_the_mean_of_windows_weighs_them_by_their_words(tiny_model: Path):
    plain = SentenceTransformersConfig(model=str(tiny_model), normalize=False)
    config = plain.model_copy(update={"max_tokens": 8, "long_texts": "mean", "batch_size": 2})
    made = encode(config, ["the south", LONG, "a city in the north in", ""])
    # Six words to a window of eight: 6, 6 and 2.
    windows = ["a city in the north in", "the south a city a city", "in the"]
    first, second, third, south, nothing = encode(plain, [*windows, "the south", ""])
    np.testing.assert_allclose(made[1], (6 * first + 6 * second + 2 * third) / 14, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(made[[0, 2, 3]], [south, first, nothing], rtol=1e-5, atol=1e-6)
    scaled = encode(config.model_copy(update={"normalize": True, "truncate": 7}), [LONG])
    np.testing.assert_allclose(scaled[0], made[1, :7] / np.linalg.norm(made[1, :7]), rtol=1e-5, atol=1e-6)


def test_columns_are_cut_before_scaling(tiny_model: Path):
    whole = encode(SentenceTransformersConfig(model=str(tiny_model), normalize=False), ["a city"])[0]
    config = SentenceTransformersConfig(model=str(tiny_model), truncate=4)
    np.testing.assert_allclose(
        encode(config, ["a city"])[0], whole[:4] / np.linalg.norm(whole[:4]), rtol=1e-5, atol=1e-6
    )
    assert resolve(config).spec.load().width == 4
    with pytest.raises(
        ConfigError, match=r"encoder.truncate: expected at most the model's width \(32\), got 40; lower"
    ):
        resolve(config.model_copy(update={"truncate": 40})).spec.load()


def test_half_precision_is_close_but_not_the_same(tiny_model: Path):
    full = encode(SentenceTransformersConfig(model=str(tiny_model)), [LONG])
    for long_texts in ("truncate", "mean"):
        config = SentenceTransformersConfig(model=str(tiny_model), dtype="bfloat16", long_texts=long_texts)
        half = encode(config, [LONG])
        assert half.dtype == np.float32
        assert 0 < np.abs(full - half).max() < 0.02


def test_no_sentences_give_no_vectors(tiny_model: Path):
    for long_texts in ("truncate", "mean"):
        config = SentenceTransformersConfig(model=str(tiny_model), long_texts=long_texts)
        assert encode(config, []).shape == (0, 32)


def test_the_package_is_missing(tiny_model: Path, hidden_package: Callable[[str], None]):
    hidden_package("sentence_transformers")
    with pytest.raises(DataError, match="expected the package sentence-transformers, found none; pip install"):
        resolve(SentenceTransformersConfig(model=str(tiny_model)))


def model_with(**fields: Any) -> SimpleNamespace:
    return SimpleNamespace(**{"max_seq_length": 32, "default_prompt_name": None, "tokenizer": object(), **fields})


def test_windows_need_a_tokenizer_that_can_be_asked():
    pytest.importorskip("transformers")
    with pytest.raises(
        ConfigError, match="encoder.long_texts: expected a model with a tokenizer of .*, got object; set"
    ):
        _cutter_of(model_with())
    with pytest.raises(
        ConfigError, match="encoder.long_texts: expected a model without a default prompt .* 'query'; set"
    ):
        _cutter_of(model_with(default_prompt_name="query"))
    # A model without a window takes any text whole.
    assert _cutter_of(model_with(max_seq_length=None)) is None
