"""Sentences to vectors by hashing their words: no weights, no training."""

import importlib.metadata
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from snag_dist.config import Config
from snag_dist.errors import ConfigError
from snag_dist.store.encoders.resolved import ResolvedEncoder
from snag_dist.store.makers import ItemMaker, Made, Problem
from snag_dist.store.manifest import EncoderRecord, hash_tree

# Raise it when the numbers that a text gives change.
_VERSION = "2"


class HashingConfig(Config):
    """Words hashed into a fixed number of columns, l2-normalised; needs no weights (scikit-learn)."""

    kind: Literal["hashing"] = "hashing"
    """Tells this encoder from the others."""
    width: int = Field(default=256, ge=8, le=65536)
    """Columns, F; more of them collide less."""
    analyzer: Literal["word", "char_wb"] = "word"
    """What is hashed: runs of words, or of characters within words."""
    ngram_min: int = Field(default=1, ge=1, le=10)
    """Shortest run that is hashed, in words or characters."""
    ngram_max: int = Field(default=2, ge=1, le=10)
    """Longest run that is hashed, in words or characters."""


def resolve_hashing(config: HashingConfig) -> ResolvedEncoder:
    """Describe the encoder.

    Raises:
        ConfigError: the n-gram range is empty.
    """
    if config.ngram_min > config.ngram_max:
        raise ConfigError(
            f"encoder.ngram_min: expected at most ngram_max ({config.ngram_max}), got {config.ngram_min}; "
            "lower it or raise ngram_max"
        )
    record = EncoderRecord(
        name=f"hashing {config.analyzer} {config.ngram_min}-{config.ngram_max} width {config.width}",
        revision=f"scikit-learn {importlib.metadata.version('scikit-learn')}",
        weights_sha256=hash_tree([_VERSION, config.model_dump()]),
    )
    return ResolvedEncoder(HashingSpec(config), record, items_per_actor=50_000)


@dataclass(frozen=True)
class HashingSpec:
    """What an actor needs to hash sentences."""

    config: HashingConfig

    def load(self) -> ItemMaker:
        """Return the encoder."""
        return HashingEncoder(self.config)


class HashingEncoder(ItemMaker):
    """Hashes runs of words or characters into columns with a random sign, and scales to length 1.

    A text in which nothing is counted (scikit-learn's words have two letters or more) has no vector.
    """

    def __init__(self, config: HashingConfig) -> None:
        from sklearn.feature_extraction.text import HashingVectorizer

        self.width = config.width
        self._vectorizer = HashingVectorizer(
            n_features=config.width,
            analyzer=config.analyzer,
            ngram_range=(config.ngram_min, config.ngram_max),
        )

    def make(self, payload: pa.Array) -> Made:
        """Return the vectors of n sentences, of those that have one."""
        vectors = self.vectors(payload)
        usable = np.asarray(vectors.any(axis=1))
        problems = [
            Problem(int(index), repr(payload[int(index)].as_py()), "no word that hashing counts")
            for index in np.flatnonzero(~usable)
        ]
        return Made(vectors, np.asarray(usable, dtype=np.int64), tuple(problems))

    def vectors(self, payload: pa.Array) -> NDArray[np.float32]:
        """Return (n, F) vectors of n sentences; zeros where nothing is counted."""
        hashed = self._vectorizer.transform(payload.to_pylist())
        # A sparse matrix, which scikit-learn's annotations do not say.
        return hashed.toarray().astype(np.float32)  # pyright: ignore[reportAttributeAccessIssue]
