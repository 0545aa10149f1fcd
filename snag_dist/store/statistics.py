"""Mean and standard deviation of every column, exact to rounding and the same however the work was cut.

Source: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances"
    (1979).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Moments:
    """Count, mean and squared deviations of the columns of some vectors.

    Attributes:
        count: number of vectors.
        mean: (F,) float64.
        squares: (F,) float64 sums of squared deviations from the mean.
    """

    count: int
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]

    @classmethod
    def zero(cls, width: int) -> Self:
        """Return the moments of no vectors."""
        return cls(0, np.zeros(width), np.zeros(width))

    @classmethod
    def of(cls, vectors: NDArray[np.floating]) -> Self:
        """Compute the moments of (n, F) vectors, as they are stored, in float64."""
        if not len(vectors):
            return cls.zero(vectors.shape[1])
        exact = vectors.astype(np.float64)
        mean = exact.mean(axis=0)
        return cls(len(exact), mean, np.square(exact - mean).sum(axis=0))

    def merge(self, other: Self) -> Self:
        """Return the moments of both sets of vectors together."""
        count = self.count + other.count
        if not count:
            return self
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.count / count)
        squares = self.squares + other.squares + np.square(delta) * (self.count * other.count / count)
        return type(self)(count, mean, squares)

    def std(self) -> NDArray[np.float64]:
        """Return the (F,) sample standard deviation (ddof 1); zeros for fewer than two vectors."""
        return np.sqrt(self.squares / (self.count - 1)) if self.count > 1 else np.zeros_like(self.squares)


def save_statistics(path: Path, moments: Moments) -> None:
    """Write mean and std of every column, as `load_statistics` reads them."""
    with path.open("wb") as file:
        np.savez(file, mean=moments.mean, std=moments.std())


def load_statistics(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Read (F,) mean and (F,) std of every column."""
    with np.load(path, allow_pickle=False) as statistics:
        return statistics["mean"], statistics["std"]
