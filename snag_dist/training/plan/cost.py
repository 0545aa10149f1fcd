"""Hours and money of a run, from the seconds of an epoch that were measured."""

from dataclasses import dataclass
from typing import Self

from snag_dist.training.plan.calibration import Calibration
from snag_dist.training.recipe import Recipe


@dataclass(frozen=True)
class RunCost:
    """What the steps of a run cost; evaluations, starts and restarts come on top.

    Attributes:
        epochs: at most; early stopping may end a run sooner.
        hours: of all of them, by the clock.
        num_workers: that are paid for.
        price_per_hour: of a worker; None where nobody told it.
    """

    epochs: int
    hours: float
    num_workers: int
    price_per_hour: float | None

    @classmethod
    def of(cls, recipe: Recipe, calibration: Calibration) -> Self:
        """Multiply; an elastic run is counted with its fewest workers, as all of a plan is."""
        epochs = recipe.train.epochs + (0 if recipe.iterative is None else recipe.iterative.epochs)
        hours = epochs * calibration.epoch_seconds / 3600
        return cls(epochs, hours, recipe.cluster.fewest_workers, recipe.plan.price_per_hour)

    @property
    def price(self) -> float | None:
        """Of all workers together, in the currency of `price_per_hour`."""
        return None if self.price_per_hour is None else self.hours * self.num_workers * self.price_per_hour

    def line(self) -> str:
        """Say it."""
        said = f"{self.epochs:,} epochs: {self.hours:.3g} hours of steps on {self.num_workers} worker(s)"
        if self.price is None:
            return f"{said}; their price needs plan.price_per_hour"
        return f"{said}, {self.price:.3g} at {self.price_per_hour:g} a worker and hour"
