import numpy as np
import pyarrow as pa
import pytest

from snag_dist.errors import ConfigError
from snag_dist.store.encoders import HashingConfig, resolve
from snag_dist.store.makers import ItemMaker


def encode(config: HashingConfig, sentences: list[str]) -> np.ndarray:
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


def test_a_text_without_a_countable_word_has_no_vector():
    encoder = resolve(HashingConfig(width=64, ngram_max=1)).spec.load()
    assert isinstance(encoder, ItemMaker)
    made = encoder.make(pa.array(["the sea", "? !", "X"]))
    assert made.counts.tolist() == [1, 0, 0]
    assert [(problem.entity, problem.item) for problem in made.problems] == [(1, "'? !'"), (2, "'X'")]
    assert {problem.reason for problem in made.problems} == {"no word that hashing counts"}


def test_an_empty_range_of_ngrams_is_refused():
    with pytest.raises(ConfigError, match=r"encoder.ngram_min: expected at most ngram_max \(1\), got 2"):
        resolve(HashingConfig(ngram_min=2, ngram_max=1))
