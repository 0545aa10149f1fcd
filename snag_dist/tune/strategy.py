"""How a sweep spends its trials: which settings are tried, and which of them are trained to the end."""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from snag_dist.config import Config, default_kind


class GridSearchConfig(Config):
    """Every combination of values."""

    kind: Literal["grid"] = "grid"
    """Tells the searches apart."""


class RandomSearchConfig(Config):
    """Independent draws."""

    kind: Literal["random"] = "random"
    """Tells the searches apart."""
    num: int = Field(default=20, ge=1)
    """Draws; raised later, the first ones stay what they are."""
    seed: int = Field(default=0, ge=0)
    """Of the draws."""


class OptunaSearchConfig(Config):
    """TPE of Optuna: draws that learn from the trials before them."""

    kind: Literal["optuna"] = "optuna"
    """Tells the searches apart."""
    num: int = Field(default=20, ge=1)
    """Settings tried, over all calls."""
    seed: int = Field(default=0, ge=0)
    """Of the draws."""
    points: tuple[dict[str, Any], ...] | None = None
    """Settings tried first, each dotted field to value; fields left out have the value of the recipe. Unset takes the
    paper's of rho and epsilon, as far as they lie in the space."""


SearchConfig = Annotated[
    GridSearchConfig | RandomSearchConfig | OptunaSearchConfig, Field(discriminator="kind"), default_kind("grid")
]


class NoSchedulerConfig(Config):
    """Every trial is trained to its end."""

    kind: Literal["none"] = "none"
    """Tells the schedulers apart."""


class AshaConfig(Config):
    """Asynchronous successive halving: at every rung the worse trials are stopped."""

    kind: Literal["asha"] = "asha"
    """Tells the schedulers apart."""
    grace_epochs: int | None = Field(default=None, ge=1)
    """Epochs that every trial gets; unset gives a third of the budget, and less is refused: noise slows the start, so
    an earlier stop would favour rho = 0."""
    reduction_factor: float = Field(default=2.0, gt=1.0)
    """At a rung one trial in so many goes on; the next rung is so many times as far."""


SchedulerConfig = Annotated[NoSchedulerConfig | AshaConfig, Field(discriminator="kind"), default_kind("none")]


class RungConfig(Config):
    """A cheap training that decides which settings are worth a dearer one: a core of the store, and fewer epochs."""

    share: float | None = Field(default=None, gt=0.0, le=1.0)
    """Share of the entities that the graph has, at least: the smallest k-core that has it is taken. Unset, without `k`
    too, is the whole graph."""
    k: int | None = Field(default=None, ge=1)
    """Or the k of the core: training triples that every entity of it has with the others, at least."""
    epochs: float = Field(gt=0.0, le=1.0)
    """Share of the epochs of the recipe; also of the epochs between evaluations."""
    keep: int | None = Field(default=None, ge=1)
    """Settings that go on from here; unset: one in `eta`."""

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        if self.share is not None and self.k is not None:
            raise ValueError("expected share or k, got both; remove one")
        if self.k is None and self.share in (None, 1.0) and self.epochs == 1.0:
            raise ValueError("expected a smaller graph or fewer epochs, got the whole, which comes last anyway")
        return self


class FidelityConfig(Config):
    """Successive halving over the size of the graph and the epochs.

    All settings are trained on the first rung, the best of a rung anew on the next, and those of the last rung as the
    recipe has it: on the whole graph, for all epochs.

    Source: Jamieson and Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization" (AISTATS
    2016); that subsets are enough to search GMNM on is advice of SNAG.
    """

    rungs: tuple[RungConfig, ...] = Field(min_length=1)
    """The cheap trainings, cheapest first; the whole one follows them."""
    eta: float = Field(default=2.0, gt=1.0)
    """At a rung one setting in so many goes on, at least one."""
    study: bool = False
    """Train all settings on every rung, the whole graph included: nothing is saved, and the report says of all
    settings how well the cheap rankings predict the full one, and what halving would have chosen."""

    def num_kept(self, rung: int, num_settings: int) -> int:
        """Return how many settings go on from a rung that trained so many."""
        keep = self.rungs[rung].keep
        return min(num_settings, math.ceil(num_settings / self.eta) if keep is None else keep)
