"""How much each modality weighs in an entity's code, by which modalities the entity has.

Weights of entities that lack a picture are not those of entities that have one, so they are never averaged together:
entities are grouped by their pattern of presence. Sums and counts add up over blocks and workers; means are taken last.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from snag_dist.config import Config, validate
from snag_dist.errors import DataError, NumericError, ShapeError
from snag_dist.store.manifest import write_json

WEIGHTS = "weights.json"
"""In a run folder: the weights under its best checkpoint."""

_MOST_TOKENS = 62

Pattern = tuple[str, ...]
"""Tokens an entity has, in the order of the encoder's tokens."""


@dataclass(frozen=True)
class WeightSums:
    """Sums over the weights of a set of entities; those of disjoint sets add up.

    Attributes:
        names: M tokens, the graph token first.
        counts: entities by pattern.
        sums: by pattern, (M,) float64 sum of the weights.
    """

    names: tuple[str, ...]
    counts: Mapping[Pattern, int]
    sums: Mapping[Pattern, NDArray[np.float64]]

    def __add__(self, other: "WeightSums") -> "WeightSums":
        if self.names != other.names:
            raise ShapeError(f"weights: expected tokens {self.names}, got {other.names}; add those of one encoder")
        zeros = np.zeros(len(self.names))
        patterns = dict.fromkeys([*self.counts, *other.counts])
        return WeightSums(
            self.names,
            {pattern: self.counts.get(pattern, 0) + other.counts.get(pattern, 0) for pattern in patterns},
            {pattern: self.sums.get(pattern, zeros) + other.sums.get(pattern, zeros) for pattern in patterns},
        )


def weigh(confidence: NDArray[np.floating], present: NDArray[np.bool_], names: Sequence[str]) -> WeightSums:
    """Sum the weights of N entities by what is present.

    Args:
        confidence: (N, M) weights of the tokens, summing to 1 over the present ones; N may be 0.
        present: (N, M) which tokens an entity has.
        names: M of the tokens, distinct.

    Raises:
        ShapeError: the arrays are not (N, M), a name repeats, or there are more than 62 tokens.
        NumericError: a weight is not finite.
    """
    num_tokens = len(names)
    if confidence.ndim != 2 or confidence.shape != present.shape or confidence.shape[1] != num_tokens:
        raise ShapeError(
            f"weights: expected (N, {num_tokens}) confidence and presence for {', '.join(names)}, got "
            f"{confidence.shape} and {present.shape}; pass one column a token"
        )
    if len(set(names)) != num_tokens or num_tokens > _MOST_TOKENS:
        raise ShapeError(
            f"weights: expected at most {_MOST_TOKENS} distinct tokens, got {tuple(names)}; name every token once"
        )
    if not np.isfinite(confidence).all():
        row = int(np.argmin(np.isfinite(confidence).all(axis=1)))
        raise NumericError(
            f"weights row {row}: expected finite weights, got {confidence[row].tolist()}; see the losses"
        )
    # A pattern as one number: rows of bits are slow to sort.
    codes = present.astype(np.int64) @ (1 << np.arange(num_tokens, dtype=np.int64))
    values, places, counts = np.unique(codes, return_inverse=True, return_counts=True)
    sums = np.stack(
        [np.bincount(places, weights=column, minlength=len(values)) for column in confidence.T.astype(np.float64)]
    ).T
    patterns = [tuple(name for bit, name in enumerate(names) if code >> bit & 1) for code in values.tolist()]
    return WeightSums(
        tuple(names),
        dict(zip(patterns, counts.tolist(), strict=True)),
        {pattern: sums[index] for index, pattern in enumerate(patterns)},
    )


class PatternWeights(Config):
    """The weights of the entities that have the same modalities."""

    present: tuple[str, ...]
    """Tokens these entities have."""
    num_entities: int = Field(ge=1)
    """How many they are."""
    mean: dict[str, float]
    """Mean weight of each token; 0 for those that are absent."""

    @property
    def name(self) -> str:
        """The present tokens in one word: "graph+text"."""
        return "+".join(self.present)


class ModalityWeights(Config):
    """Mean weights by pattern of presence, of all entities of a store under one checkpoint."""

    names: tuple[str, ...]
    """Tokens of the encoder, the graph token first."""
    patterns: tuple[PatternWeights, ...]
    """Those that occur, the most frequent first."""

    @classmethod
    def of(cls, sums: WeightSums) -> Self:
        """Take the means of sums."""
        ordered = sorted(sums.counts, key=lambda pattern: (-sums.counts[pattern], pattern))
        return cls(
            names=sums.names,
            patterns=tuple(
                PatternWeights(
                    present=pattern,
                    num_entities=sums.counts[pattern],
                    mean=dict(zip(sums.names, (sums.sums[pattern] / sums.counts[pattern]).tolist(), strict=True)),
                )
                for pattern in ordered
            ),
        )

    @classmethod
    def average(cls, runs: Sequence["ModalityWeights"]) -> "ModalityWeights":
        """Average over runs of one recipe under several seeds, at least one; every run counts the same.

        Raises:
            DataError: their encoders have different tokens.
        """
        names = runs[0].names
        found: dict[Pattern, list[PatternWeights]] = {}
        for run in runs:
            if run.names != names:
                raise DataError(
                    f"{WEIGHTS}: expected the tokens {', '.join(names)} in all runs of a recipe, got "
                    f"{', '.join(run.names)}; evaluate the runs again"
                )
            for pattern in run.patterns:
                found.setdefault(pattern.present, []).append(pattern)
        patterns = [
            PatternWeights(
                present=present,
                num_entities=round(sum(weights.num_entities for weights in group) / len(group)),
                mean={name: sum(weights.mean[name] for weights in group) / len(group) for name in names},
            )
            for present, group in found.items()
        ]
        return ModalityWeights(names=names, patterns=tuple(sorted(patterns, key=lambda it: -it.num_entities)))

    def write(self, path: Path) -> None:
        """Write the weights as JSON, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, self.model_dump(mode="json"))


def read_weights(path: Path) -> ModalityWeights:
    """Read weights that `ModalityWeights.write` wrote.

    Raises:
        DataError: the file is missing or is not JSON.
        ConfigError: it is JSON, but not of weights.
    """
    if not path.is_file():
        raise DataError(f"{path}: expected the weights of the modalities, found none; evaluate the run again")
    try:
        tree: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: expected JSON, got: {error}; evaluate the run again") from error
    return validate(ModalityWeights, tree, str(path), remedy="evaluate the run again")
