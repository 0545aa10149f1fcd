"""Negative sampling: which entities stand in for the head or the tail of a true triple.

`shared`: a chunk of triples is compared with one pool of K entities; each of them is encoded once however many triples
see it. `per_triple`: K own draws for every triple, as in the released code. Either way a candidate that would form a
known-true training triple is excluded, and every draw is a function of (seed, epoch, step, place in the global batch).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from snag_dist.config import Config, default_kind
from snag_dist.kg.truth import Ragged, TruthIndex
from snag_dist.random import Moment, Stream

Ids = NDArray[np.int64]
Mask = NDArray[np.bool_]

_REDRAWS = 16


@dataclass(frozen=True)
class Negatives:
    """The candidates of a run of consecutive queries.

    Attributes:
        start, stop: queries [start, stop), q of them.
        ids: (K,) a pool all of them share, or (q, K) own candidates.
        excluded: (q, K) candidates that are known true, or the query's own answer.
    """

    start: int
    stop: int
    ids: Ids
    excluded: Mask


@dataclass(frozen=True)
class CorruptedTriples:
    """A slice of a batch with its negatives.

    Attributes:
        positives: (B, 3) head, relation, tail.
        triple: (Q,) which positive a query comes from; Q is B, or 2B where both sides are corrupted.
        find_tail: (Q,) True where candidates replace the tail, False where they replace the head.
        negatives: cover the Q queries in order; none where a loss looks at all entities.
        known: the known-true answers of each query, its own included, where such a loss leaves them out.
    """

    positives: Ids
    triple: Ids
    find_tail: Mask
    negatives: tuple[Negatives, ...]
    known: Ragged | None = None


class NegativeSampler(ABC):
    """Draws the negatives of a slice of the global batch."""

    @abstractmethod
    def draw(self, positives: Ids, first: int, moment: Moment) -> CorruptedTriples:
        """Corrupt positives.

        Args:
            positives: (B, 3), this worker's slice.
            first: place of the slice's first triple in the global batch; it keys the draws.
            moment: of training.
        """


class Sides:
    """Which side of each triple is replaced."""

    def __init__(self, choice: str, truth: TruthIndex):
        self._choice = choice
        self._tail_share = truth.bernoulli_tail_share()

    def draw(self, positives: Ids, first: int, moment: Moment) -> tuple[Ids, Mask]:
        """Return (Q,) the triple of each query and (Q,) whether its tail is replaced."""
        num = len(positives)
        if self._choice == "both":
            return np.repeat(np.arange(num), 2), np.tile(np.array([True, False]), num)
        stream = moment.each_step("negatives/side")
        uniform = stream.uniform(torch.arange(first, first + num), 1, torch.float64).squeeze(1).numpy()
        return np.arange(num), uniform < self._tail_share[positives[:, 1]]


class SharedSampler(NegativeSampler):
    """One pool for every chunk of triples."""

    def __init__(self, config: "SharedConfig", truth: TruthIndex):
        self._config = config
        self._truth = truth
        self._sides = Sides(config.sides, truth)

    def draw(self, positives: Ids, first: int, moment: Moment) -> CorruptedTriples:
        """See `NegativeSampler.draw`."""
        triple, find_tail = self._sides.draw(positives, first, moment)
        per_triple = 2 if self._config.sides == "both" else 1
        stream = moment.each_step("negatives/pool")
        blocks: list[Negatives] = []
        chunk = self._config.chunk
        for number in range(first // chunk, -(-(first + len(positives)) // chunk)):
            start = per_triple * max(0, number * chunk - first)
            stop = per_triple * min(len(positives), (number + 1) * chunk - first)
            index = torch.tensor([number])
            pool = stream.integers(index, self._config.num, self._truth.num_entities)[0].numpy()
            queries = positives[triple[start:stop]]
            blocks.append(Negatives(start, stop, pool, self._excluded(queries, find_tail[start:stop], pool)))
        return CorruptedTriples(positives, triple, find_tail, tuple(blocks))

    def _excluded(self, queries: Ids, find_tail: Mask, pool: Ids) -> Mask:
        answers = self._truth.answers(queries, find_tail)
        distinct, place = np.unique(pool, return_inverse=True)
        position = np.minimum(np.searchsorted(distinct, answers.values), len(distinct) - 1)
        hit = distinct[position] == answers.values
        excluded = np.zeros((len(queries), len(distinct)), dtype=np.bool_)
        excluded[answers.queries()[hit], position[hit]] = True
        return excluded[:, place]


class PerTripleSampler(NegativeSampler):
    """Own candidates for every query, drawn again where they hit a known truth."""

    def __init__(self, config: "PerTripleConfig", truth: TruthIndex):
        self._config = config
        self._truth = truth
        self._sides = Sides(config.sides, truth)

    def draw(self, positives: Ids, first: int, moment: Moment) -> CorruptedTriples:
        """See `NegativeSampler.draw`."""
        triple, find_tail = self._sides.draw(positives, first, moment)
        num_queries, num = len(triple), self._config.num
        places = (first + triple) * 2 + find_tail
        stream = moment.each_step("negatives/own")
        candidates = self._draw(stream, places)
        queries = positives[triple]
        known = self._is_known(queries, find_tail, candidates)
        for turn in range(_REDRAWS):
            if not known.any():
                break
            again = known.any(axis=1)
            redrawn = self._draw(stream.child(f"again{turn}"), places[again])
            candidates[again] = np.where(known[again], redrawn, candidates[again])
            known[again] = self._is_known(queries[again], find_tail[again], candidates[again])
        # What is still true after many draws belongs to a query that nearly every entity answers: leave it out.
        blocks = (Negatives(0, num_queries, candidates, known),) if num_queries and num else ()
        return CorruptedTriples(positives, triple, find_tail, blocks)

    def _draw(self, stream: Stream, places: Ids) -> Ids:
        return stream.integers(torch.as_tensor(places), self._config.num, self._truth.num_entities).numpy()

    def _is_known(self, queries: Ids, find_tail: Mask, candidates: Ids) -> Mask:
        num = candidates.shape[1]
        heads = np.where(find_tail[:, None], queries[:, :1], candidates).reshape(-1)
        tails = np.where(find_tail[:, None], candidates, queries[:, 2:]).reshape(-1)
        known = self._truth.contains(heads, np.repeat(queries[:, 1], num), tails)
        return known.reshape(candidates.shape)


class SharedConfig(Config):
    """A pool of candidates for every chunk of triples."""

    kind: Literal["shared"] = "shared"
    num: int = Field(default=256, ge=1)
    """K, candidates in a pool."""
    chunk: int = Field(default=1024, ge=1)
    """C, consecutive triples of the global batch that share a pool."""
    sides: Literal["bernoulli", "both"] = "bernoulli"
    """Replace one side of a triple, chosen by the Bernoulli rule, or both in turn (two queries a triple)."""

    def build(self, truth: TruthIndex) -> NegativeSampler:
        """Build over the known-true index of the training triples."""
        return SharedSampler(self, truth)


class PerTripleConfig(Config):
    """Own candidates for every triple, as in the released code."""

    kind: Literal["per_triple"] = "per_triple"
    num: int = Field(default=32, ge=1)
    """K, candidates of a query; 32 in SNAG."""
    sides: Literal["bernoulli", "both"] = "bernoulli"
    """Replace one side of a triple, chosen by the Bernoulli rule, or both in turn (two queries a triple)."""

    def build(self, truth: TruthIndex) -> NegativeSampler:
        """Build over the known-true index of the training triples."""
        return PerTripleSampler(self, truth)


NegativesConfig = Annotated[SharedConfig | PerTripleConfig, Field(discriminator="kind"), default_kind("shared")]
