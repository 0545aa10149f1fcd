"""The space of a sweep: dotted fields of a recipe, and the values each may take."""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator
from ray.tune.search.sample import Domain
from ray.tune.search.sample import choice as any_of
from ray.tune.search.sample import loguniform as log_between
from ray.tune.search.sample import quniform as stepwise_between
from ray.tune.search.sample import uniform as between

from snag_dist.config import Config
from snag_dist.model.features import GRAPH
from snag_dist.model.noise import GaussianNoiseConfig
from snag_dist.training.recipe import Recipe

PROBABILITY = "method.noise.probability"
"""Field of rho, the share of entities that GMNM touches."""
RATIO = "method.noise.ratio"
"""Field of epsilon, the weight of the noise in a touched vector."""
NOISE = "method.noise"


def ratio_beside(field: str) -> str | None:
    """Return the field of epsilon that belongs to one of rho, of all tokens or of a single one; None for others."""
    section, _, last = field.rpartition(".")
    is_rho = last == "probability" and (section == NOISE or section.startswith(f"{NOISE}.modalities."))
    return f"{section}.ratio" if is_rho else None


PAPER_POINTS: tuple[tuple[float, float], ...] = (
    *((0.2, 0.7), (0.3, 0.6), (0.1, 0.8), (0.4, 0.4), (0.5, 0.2), (0.7, 0.2)),
    (0.0, 0.0),
)
"""(rho, epsilon) that the paper found good, and no noise at all."""
PAPER_GRID = tuple(round(0.1 * step, 1) for step in range(1, 10))
"""Values of rho and of epsilon in the paper's grid."""

Changes = Mapping[str, Any]
"""One point of a space: dotted field to value."""


class _Parameter(Config):
    """Values of one field."""

    @abstractmethod
    def domain(self) -> Domain:
        """Return the values as Ray Tune draws them."""

    @abstractmethod
    def examples(self) -> Sequence[Any]:
        """Return values that a recipe must accept: all of a list, the ends of a range."""

    @property
    @abstractmethod
    def size(self) -> float:
        """Number of values; infinite for a range."""

    @abstractmethod
    def holds(self, value: Any) -> bool:
        """Return whether a value is one of these."""


class _Listed(_Parameter):
    values: tuple[Any, ...] = Field(min_length=1)
    """Numbers, words, or whole sections."""

    @model_validator(mode="after")
    def _check_values(self) -> Self:
        if any(value in self.values[:place] for place, value in enumerate(self.values)):
            raise ValueError("values: expected different values, got one of them twice; remove it")
        return self

    def domain(self) -> Domain:
        """See `_Parameter.domain`."""
        return any_of(list(self.values))

    def examples(self) -> Sequence[Any]:
        """See `_Parameter.examples`."""
        return self.values

    @property
    def size(self) -> float:
        """See `_Parameter.size`."""
        return len(self.values)

    def holds(self, value: Any) -> bool:
        """See `_Parameter.holds`."""
        return value in self.values


class GridConfig(_Listed):
    """Every value is tried: by grid search with every value of the other fields, by random search with every draw."""

    kind: Literal["grid"] = "grid"
    """Tells the values of a parameter apart."""


class ChoiceConfig(_Listed):
    """One of some values is drawn."""

    kind: Literal["choice"] = "choice"
    """Tells the values of a parameter apart."""


class _Range(_Parameter):
    low: float
    """Smallest value."""
    high: float
    """Largest value."""

    @model_validator(mode="after")
    def _check_ends(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"high: expected more than low={self.low:g}, got {self.high:g}; exchange them")
        return self

    def examples(self) -> Sequence[Any]:
        """See `_Parameter.examples`."""
        return self.low, self.high

    @property
    def size(self) -> float:
        """See `_Parameter.size`."""
        return math.inf

    def holds(self, value: Any) -> bool:
        """See `_Parameter.holds`."""
        return isinstance(value, int | float) and self.low <= value <= self.high


class UniformConfig(_Range):
    """Any number between two."""

    kind: Literal["uniform"] = "uniform"
    """Tells the values of a parameter apart."""

    def domain(self) -> Domain:
        """See `_Parameter.domain`."""
        return between(self.low, self.high)


class LogUniformConfig(_Range):
    """Any number between two, every order of magnitude alike."""

    kind: Literal["loguniform"] = "loguniform"
    """Tells the values of a parameter apart."""
    low: float = Field(gt=0)
    """Smallest value, above 0."""

    def domain(self) -> Domain:
        """See `_Parameter.domain`."""
        return log_between(self.low, self.high)


class QUniformConfig(_Range):
    """Multiples of a step between two numbers."""

    kind: Literal["quniform"] = "quniform"
    """Tells the values of a parameter apart."""
    step: float = Field(gt=0)
    """Distance of two values; both ends are multiples of it."""

    @model_validator(mode="after")
    def _check_step(self) -> Self:
        for end in (self.low, self.high):
            if not math.isclose(end / self.step, round(end / self.step), abs_tol=1e-9):
                raise ValueError(f"step: expected a divisor of low and high, got {self.step:g} for {end:g}; mend it")
        return self

    def domain(self) -> Domain:
        """See `_Parameter.domain`."""
        return stepwise_between(self.low, self.high, self.step)

    @property
    def size(self) -> float:
        """See `_Parameter.size`."""
        return round((self.high - self.low) / self.step) + 1

    def holds(self, value: Any) -> bool:
        """See `_Parameter.holds`."""
        return super().holds(value) and math.isclose(value / self.step, round(value / self.step), abs_tol=1e-9)


Parameter = Annotated[
    GridConfig | ChoiceConfig | UniformConfig | LogUniformConfig | QUniformConfig, Field(discriminator="kind")
]
Space = Mapping[str, Parameter]
"""Parameters by dotted field."""


def shipped_space(recipe: Recipe, *, grid: bool, per_modality: bool) -> dict[str, Parameter]:
    """Return the space that is searched where a recipe names none.

    Args:
        recipe: that is searched around.
        grid: the paper's grid over rho and epsilon, instead of ranges of everything.
        per_modality: a rho and an epsilon for every modality and the learned rows, instead of one for all.

    Returns:
        GMNM where the recipe has it; but for a grid also learning rate, negatives and margin where the method has them.
    """
    method: Any = recipe.method
    space: dict[str, Parameter] = {}
    if isinstance(getattr(method, "noise", None), GaussianNoiseConfig):
        names = [f"{NOISE}.modalities.{name}" for name in (GRAPH, *recipe.used_modalities)] if per_modality else [NOISE]
        shares: Parameter = GridConfig(values=PAPER_GRID) if grid else QUniformConfig(low=0.0, high=0.9, step=0.05)
        space = {f"{name}.{field}": shares for name in names for field in ("probability", "ratio")}
        if not grid:
            space[f"{NOISE}.redraw"] = ChoiceConfig(values=("epoch", "step"))
            if not per_modality:
                space[f"{NOISE}.graph_scale"] = UniformConfig(low=0.0, high=1.0)
    if grid:
        return space
    space["train.lr"] = LogUniformConfig(low=recipe.train.lr / 4, high=recipe.train.lr * 4)
    num = getattr(getattr(method, "negatives", None), "num", None)
    if num is not None:
        values = sorted({max(1, num // 4), max(1, num // 2), num, 2 * num})
        space["method.negatives.num"] = ChoiceConfig(values=tuple(values))
    margin = getattr(getattr(method, "scorer", None), "margin", None)
    if margin is not None:
        space["method.scorer.margin"] = UniformConfig(low=margin / 2, high=margin * 2)
    return space


def expand_grid(space: Space) -> list[dict[str, Any]]:
    """Return every point of the `grid` parameters of a space, the last field fastest; one empty point without any."""
    points: list[dict[str, Any]] = [{}]
    for field, parameter in space.items():
        if isinstance(parameter, GridConfig):
            points = [{**point, field: value} for point in points for value in parameter.values]
    return points


def draw_points(space: Space, num: int, seed: int) -> list[dict[str, Any]]:
    """Draw points of a space; each draw of the ranges and choices is crossed with the grid.

    A larger `num` keeps the points of a smaller one and adds to them.

    Args:
        space: parameters by field.
        num: draws.
        seed: of all draws.
    """
    points: list[dict[str, Any]] = []
    for number in range(num):
        generator = np.random.default_rng([seed, number])
        drawn = {
            field: to_plain(parameter.domain().sample(random_state=generator))
            for field, parameter in space.items()
            if not isinstance(parameter, GridConfig)
        }
        points += [{field: {**drawn, **point}[field] for field in space} for point in expand_grid(space)]
    return points


def to_plain(value: Any) -> Any:
    """Return a drawn value as JSON holds it; a number of many digits is cut to six, which names and TOML show alike."""
    if isinstance(value, np.generic):
        value = value.item()
    return float(f"{value:.6g}") if isinstance(value, float) else value
