"""Dropout whose masks are keyed by entity and step, so that any number of workers draws the same."""

import torch
from torch import Tensor

from snag_dist.random import Moment


class KeyedDropout:
    """Dropout for tensors whose first dimension is the entities of a step.

    The mask of an entity is a function of (seed, place in the network, step, entity id). Probabilities are rounded to
    multiples of 2^-16, and the surviving values are scaled by the rounded one.
    """

    def __init__(self, ids: Tensor, moment: Moment | None):
        """Hold the entities' (N,) ids and the moment of training; None switches dropout off."""
        self._ids = ids
        self._moment = moment

    def __call__(self, values: Tensor, probability: float, place: str) -> Tensor:
        """Drop values, (N, ...) -> (N, ...); `place` names the spot in the network."""
        threshold = round(probability * 65536)
        if self._moment is None or threshold == 0:
            return values
        flat = values.flatten(1)
        bits = self._moment.each_step(f"dropout/{place}").bits16(self._ids, flat.shape[1])
        kept = (bits >= threshold).to(values.dtype).mul_(65536.0 / (65536 - threshold))
        return values * kept.view(values.shape)


def no_dropout(ids: Tensor) -> KeyedDropout:
    """Dropout that leaves everything as it is, for evaluation."""
    return KeyedDropout(torch.empty_like(ids[:0]), None)
