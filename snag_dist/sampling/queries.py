"""Queries without candidates of their own, for a loss over all entities."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from snag_dist.kg.truth import TruthIndex
from snag_dist.random import Moment
from snag_dist.sampling.negatives import CorruptedTriples, NegativeSampler, Sides


class QuerySampler(NegativeSampler):
    """Says which side of each triple is asked for, and draws nothing else.

    Args:
        sides: both in turn, or one of them by the Bernoulli rule.
        with_known: look up the known-true answers of every query.
        truth: the training triples.
    """

    def __init__(self, sides: Literal["both", "bernoulli"], truth: TruthIndex, *, with_known: bool):
        self._sides = Sides(sides, truth)
        self._truth = truth
        self._with_known = with_known

    def draw(self, positives: NDArray[np.int64], first: int, moment: Moment) -> CorruptedTriples:
        """See `NegativeSampler.draw`."""
        triple, find_tail = self._sides.draw(positives, first, moment)
        known = self._truth.answers(positives[triple], find_tail) if self._with_known else None
        return CorruptedTriples(positives, triple, find_tail, (), known)
