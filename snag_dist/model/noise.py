"""GMNM, Gaussian modality noise masking, and what it is compared with.

In training a random share of entities has its raw vectors blended with Gaussian noise of the modality's own mean and
standard deviation, independently for every modality. Noise is a pure function of (seed, epoch or step, modality, entity
id): only the rows of a batch are noised, and any worker would noise them alike.
"""

from abc import ABC, abstractmethod
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from snag_dist.config import Config, default_kind
from snag_dist.model.features import GRAPH, ColumnStatistics
from snag_dist.random import Moment, Stream
from snag_dist.shapes import match_shape

Share = Annotated[float, Field(ge=0.0, le=1.0)]


def mask_with_noise(
    features: Tensor,
    statistics: ColumnStatistics,
    ids: Tensor,
    *,
    probability: float,
    ratio: float,
    stream: Stream,
) -> Tensor:
    """Blend Gaussian noise into a random share of entities' features (GMNM).

    Args:
        features: (N, F) raw vectors of one modality, or learned rows.
        statistics: (F,) mean and std over the entities that have this modality.
        ids: (N,) entity ids; they key the draw.
        probability: share of entities touched, rho in [0, 1].
        ratio: weight of the noise in a touched vector, epsilon in [0, 1]; 1 replaces it.
        stream: keyed by epoch or step, so that every worker draws the same noise.

    Returns:
        (N, F) new tensor; untouched rows equal the input bit for bit. The gradient to a touched row is scaled by
        1 - ratio.

    Raises:
        ShapeError: mean or std is not (F,).

    Source: SNAG, eqs. (1)-(2).
    """
    match_shape(statistics.mean, "noise mean", features.shape[1])
    match_shape(statistics.std, "noise std", features.shape[1])
    if probability == 0.0 or ratio == 0.0:
        return features
    chosen = (stream.child("choice").uniform(ids, 1).squeeze(1) < probability).nonzero().squeeze(1)
    known = statistics.to(features)
    draws = stream.child("draw").normal(ids[chosen], features.shape[1], torch.float32).to(features.dtype)
    noise = known.mean + known.std * draws
    return features.index_copy(0, chosen, (1.0 - ratio) * features[chosen] + ratio * noise)


class Noise(ABC):
    """What is done to the raw inputs of the encoder in training, and only there."""

    @abstractmethod
    def apply(self, name: str, features: Tensor, statistics: ColumnStatistics, ids: Tensor, moment: Moment) -> Tensor:
        """Return the inputs (N, F) of the token `name` as training sees them at `moment`."""


class GaussianNoise(Noise):
    """GMNM on every modality and on the learned rows."""

    def __init__(self, config: "GaussianNoiseConfig"):
        self._config = config

    def apply(self, name: str, features: Tensor, statistics: ColumnStatistics, ids: Tensor, moment: Moment) -> Tensor:
        """See `Noise.apply` and `mask_with_noise`."""
        config = self._config
        own = config.modalities.get(name)
        scale = config.graph_scale if name == GRAPH else 1.0
        probability = own.probability if own else config.probability * scale
        ratio = own.ratio if own else config.ratio * scale
        place = f"noise/{name}"
        stream = moment.each_epoch(place) if config.redraw == "epoch" else moment.each_step(place)
        return mask_with_noise(features, statistics, ids, probability=probability, ratio=ratio, stream=stream)


class DropoutNoise(Noise):
    """Dropout of single values of the modality inputs; the learned rows are left alone (ablation of Table 3)."""

    def __init__(self, config: "DropoutNoiseConfig"):
        self._probability = config.probability

    def apply(self, name: str, features: Tensor, statistics: ColumnStatistics, ids: Tensor, moment: Moment) -> Tensor:
        """See `Noise.apply`."""
        if name == GRAPH or self._probability == 0.0:
            return features
        kept = moment.each_step(f"noise/{name}").uniform(ids, features.shape[1]) >= self._probability
        return features * kept.to(features.dtype) / (1.0 - self._probability)


class NoNoise(Noise):
    """Inputs as they are."""

    def apply(self, name: str, features: Tensor, statistics: ColumnStatistics, ids: Tensor, moment: Moment) -> Tensor:
        """See `Noise.apply`."""
        return features


class NoiseStrength(Config):
    """The two numbers of GMNM for one modality."""

    probability: Share
    """Share of entities touched, rho."""
    ratio: Share
    """Weight of the noise in a touched vector, epsilon."""


class GaussianNoiseConfig(Config):
    """GMNM (SNAG, section 3.1)."""

    kind: Literal["gaussian"] = "gaussian"
    probability: Share = 0.2
    """Share of entities touched, rho; .2 in the paper."""
    ratio: Share = 0.7
    """Weight of the noise in a touched vector, epsilon; .7 in the paper."""
    redraw: Literal["epoch", "step"] = "epoch"
    """How long a draw stays: the paper redraws every epoch, the released "epoch" mode every step."""
    graph_scale: Share = 1.0
    """Factor on both numbers for the learned rows: 1 for completion, .5 for alignment."""
    modalities: dict[str, NoiseStrength] = Field(default_factory=dict)
    """Other numbers for single tokens, by name ("graph" is the learned row)."""

    def build(self) -> Noise:
        """Build the noise this config describes."""
        return GaussianNoise(self)


class DropoutNoiseConfig(Config):
    """Dropout of the modality inputs in place of GMNM."""

    kind: Literal["dropout"] = "dropout"
    probability: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    """Share of values dropped; .1 to .4 in the paper."""

    def build(self) -> Noise:
        """Build the noise this config describes."""
        return DropoutNoise(self)


class NoNoiseConfig(Config):
    """GMNM off."""

    kind: Literal["none"] = "none"

    def build(self) -> Noise:
        """Build the noise this config describes."""
        return NoNoise()


NoiseConfig = Annotated[
    GaussianNoiseConfig | DropoutNoiseConfig | NoNoiseConfig, Field(discriminator="kind"), default_kind("gaussian")
]
