"""What a person chooses for a sweep: the section `[tune]` of a recipe file."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from snag_dist.config import Config, read_recipe, validate
from snag_dist.errors import ConfigError
from snag_dist.training.recipe import TUNE_SECTION, Recipe, load_recipe
from snag_dist.tune.space import PAPER_POINTS, GridConfig, Parameter, draw_points, ratio_beside, shipped_space
from snag_dist.tune.strategy import (
    AshaConfig,
    FidelityConfig,
    GridSearchConfig,
    NoSchedulerConfig,
    OptunaSearchConfig,
    SchedulerConfig,
    SearchConfig,
)
from snag_dist.tune.trial import Trial, base_tree

_OF_THE_GRAPH = ("store", "ingest", "features", "missing", "holdout", "data")
_SHARED = (*_OF_THE_GRAPH, "name", "runs", "seed", "variants", "cluster", "evaluate")


class TuneConfig(Config):
    """How a recipe is searched around."""

    search: SearchConfig = GridSearchConfig()
    """Which settings are tried."""
    scheduler: SchedulerConfig = NoSchedulerConfig()
    """Whether trials are stopped early."""
    fidelity: FidelityConfig | None = None
    """Whether settings are tried on smaller graphs for fewer epochs first; none trains all of them as they are."""
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    """Seeds of training; every setting is trained with each of them."""
    max_concurrent: int = Field(default=1, ge=1)
    """Trials at a time."""
    per_modality: bool = False
    """A rho and an epsilon for every modality in the space that comes along, instead of one for all."""
    space: dict[str, Parameter] = Field(default_factory=dict)
    """Values by dotted field of the recipe; empty takes the space that comes along: of a grid search rho and epsilon
    in .1, .2, ..., .9, of the others GMNM, learning rate, negatives and margin."""

    @field_validator("seeds")
    @classmethod
    def _check_seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds) or min(seeds) < 0:
            raise ValueError("expected different seeds of at least 0")
        return seeds


@dataclass(frozen=True)
class Sweep:
    """A recipe and how it is searched around.

    Attributes:
        recipe: of every trial but for the fields of the space; its name is that of the sweep.
        tune: the choices, checked against the recipe.
        space: parameters by field, never empty.
    """

    recipe: Recipe
    tune: TuneConfig
    space: dict[str, Parameter]

    @property
    def path(self) -> Path:
        """Folder of the sweep, absolute."""
        return self.recipe.run_path

    @property
    def trials(self) -> Path:
        """Folder of the run folders of trials."""
        return self.path / "trials"

    @property
    def best(self) -> Path:
        """The winner, as a recipe file."""
        return self.path / "best.toml"

    @property
    def report(self) -> Path:
        """Folder of the report."""
        return self.path / "report"

    @property
    def budget(self) -> int:
        """Epochs of a trial that is trained to its end."""
        return self.recipe.train.epochs + (self.recipe.iterative.epochs if self.recipe.iterative else 0)

    @property
    def grace_epochs(self) -> int:
        """Epochs that no trial is stopped in."""
        asha = self.tune.scheduler
        if not isinstance(asha, AshaConfig):
            return self.budget
        return asha.grace_epochs or math.ceil(self.budget / 3)

    def rung_epochs(self, share: float) -> int:
        """Return the epochs of a trial that gets a share of them, at least 1."""
        return max(1, round(share * self.recipe.train.epochs))

    def trial(self, changes: dict[str, Any], seed: int) -> Trial:
        """Return the trial of a setting and a seed."""
        return Trial(base_tree(self.recipe), str(self.trials), changes, seed)

    def points(self) -> list[dict[str, Any]]:
        """Return the settings that TPE tries first, with a value for every field of the space.

        A field that a point leaves out has the value of the recipe, or a drawn one where the space does not hold that.
        """
        search = self.tune.search
        if not isinstance(search, OptunaSearchConfig):
            return []
        given = search.points
        if given is None:
            # In all tokens alike, where each has numbers of its own.
            pairs = [(field, partner) for field in self.space if (partner := ratio_beside(field)) in self.space]
            given = tuple(
                {field: value for pair in pairs for field, value in zip(pair, strengths, strict=True)}
                for strengths in PAPER_POINTS
                if pairs
            )
            given = tuple(point for point in given if self._holds(point))
        tree = self.recipe.to_tree()
        drawn = draw_points(self.space, len(given), search.seed)
        return [
            {
                field: point.get(field, _value_at(tree, field, parameter, others[field]))
                for field, parameter in self.space.items()
            }
            for point, others in zip(given, drawn, strict=True)
        ]

    def _holds(self, point: dict[str, Any]) -> bool:
        return all(field in self.space and self.space[field].holds(value) for field, value in point.items())


def _value_at(tree: dict[str, Any], field: str, parameter: Parameter, otherwise: Any) -> Any:
    node: Any = tree
    for part in field.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return node if parameter.holds(node) else otherwise


def load_sweep(path: Path, overrides: Sequence[str] = ()) -> Sweep:
    """Read a recipe file and its section `[tune]`, with overrides `a.b.c=value` laid over both.

    Raises:
        ConfigError: the file is missing or not TOML, or a field is unknown or has a wrong value.
    """
    section = read_recipe(path, overrides).get(TUNE_SECTION, {})
    if not isinstance(section, dict):
        raise ConfigError(f"{path}: {TUNE_SECTION}: expected a section, got {section!r}; write [tune] and fields below")
    return make_sweep(load_recipe(path, overrides), section, str(path))


class _TuneSection(Config):
    """The section by its name, so that errors tell dotted paths as a person types them."""

    tune: TuneConfig


def make_sweep(recipe: Recipe, section: dict[str, Any], place: str = "recipe") -> Sweep:
    """Check the choices of a sweep against its recipe.

    Args:
        recipe: of the trials, but for the fields of the space.
        section: the choices, a plain tree.
        place: where they come from; it opens messages.

    Raises:
        ConfigError: a field is unknown or has a wrong value, or the choices do not go together.
    """
    tune = validate(_TuneSection, {TUNE_SECTION: section}, place).tune
    grid = isinstance(tune.search, GridSearchConfig)
    space = dict(tune.space) or shipped_space(recipe, grid=grid, per_modality=tune.per_modality)
    if not space:
        raise ConfigError(
            f"tune.space: expected parameters, got none, and the shipped grid is over GMNM, which method "
            f"{recipe.method.kind!r} has switched off; name fields, or set method.noise.kind=gaussian"
        )
    sweep = Sweep(recipe, tune, space)
    _check_space(sweep)
    _check_search(sweep)
    _check_scheduler(sweep)
    _check_fidelity(sweep)
    return sweep


def _check_space(sweep: Sweep) -> None:
    for field, parameter in sweep.space.items():
        if field.split(".")[0] in _SHARED:
            raise ConfigError(
                f"tune.space: {field}: expected a field that trials may differ in, got one that all trials of a sweep "
                "share; remove it (several seeds: tune.seeds)"
            )
        # The first value of every other field, so that the fields of one section are there together.
        others = {name: other.examples()[0] for name, other in sweep.space.items()}
        for value in parameter.examples():
            _check_point(sweep, {**others, field: value}, f"tune.space: {field}")


def _check_point(sweep: Sweep, changes: dict[str, Any], place: str) -> None:
    validate(Recipe, sweep.trial(changes, 0).tree(), place)


def _check_search(sweep: Sweep) -> None:
    search = sweep.tune.search
    for field, parameter in sweep.space.items():
        listed = isinstance(parameter, GridConfig)
        if isinstance(search, GridSearchConfig) and not listed:
            raise ConfigError(
                f"tune.space: {field}: expected kind 'grid' under grid search, got {parameter.kind!r}; list its "
                "values, or set tune.search.kind=random"
            )
        if isinstance(search, OptunaSearchConfig) and listed:
            raise ConfigError(
                f"tune.space: {field}: expected values that TPE can draw, got kind 'grid'; set kind = 'choice'"
            )
    if not isinstance(search, OptunaSearchConfig):
        return
    for number, point in enumerate(search.points or ()):
        for field, value in point.items():
            if field not in sweep.space or not sweep.space[field].holds(value):
                raise ConfigError(
                    f"tune.search.points.{number}: {field}: expected a value of tune.space, got {value!r}; widen the "
                    "space or mend the point"
                )


def _check_scheduler(sweep: Sweep) -> None:
    asha = sweep.tune.scheduler
    if not isinstance(asha, AshaConfig):
        return
    least = math.ceil(sweep.budget / 3)
    if asha.grace_epochs is not None and asha.grace_epochs < least:
        raise ConfigError(
            f"tune.scheduler.grace_epochs: expected at least {least}, a third of the {sweep.budget} epochs of a trial, "
            f"got {asha.grace_epochs}; noise slows the start, so an earlier stop would favour rho = 0: raise it"
        )
    if "train.epochs" in sweep.space:
        raise ConfigError(
            "tune.space: train.epochs: expected one budget under scheduler 'asha', which compares trials after equal "
            "epochs, got several; remove it, or set tune.scheduler.kind=none"
        )
    if isinstance(sweep.tune.search, OptunaSearchConfig) and len(sweep.tune.seeds) > 1:
        raise ConfigError(
            f"tune.seeds: expected one seed under search 'optuna' with scheduler 'asha', got {len(sweep.tune.seeds)}: "
            "seeds of a setting would be stopped apart, and TPE told a mean over different budgets; keep one seed, or "
            "set tune.scheduler.kind=none"
        )


def _check_fidelity(sweep: Sweep) -> None:
    fidelity = sweep.tune.fidelity
    if fidelity is None:
        return
    if sweep.recipe.task == "alignment":
        raise ConfigError(
            "tune.fidelity: expected a method of completion, got one of alignment: a core would draw its train and dev "
            "links anew, among those that are test in the whole; remove it, or set tune.scheduler.kind=asha"
        )
    if sweep.tune.search.kind == "optuna":
        raise ConfigError(
            "tune.fidelity: expected search 'grid' or 'random', got 'optuna': it proposes a setting at a time, and a "
            "rung compares all of them; set tune.search.kind=random"
        )
    if sweep.tune.scheduler.kind != "none":
        raise ConfigError(
            f"tune.fidelity: expected scheduler 'none', got {sweep.tune.scheduler.kind!r}: settings would be sorted "
            "out twice; remove one of both"
        )
    if "train.epochs" in sweep.space:
        raise ConfigError(
            "tune.space: train.epochs: expected one budget under tune.fidelity, whose rungs have shares of it, got "
            "several; remove it, or remove tune.fidelity"
        )
    least = math.ceil(sweep.budget / 3)
    for number, rung in enumerate(fidelity.rungs):
        epochs = sweep.rung_epochs(rung.epochs)
        if epochs < least and not fidelity.study:
            raise ConfigError(
                f"tune.fidelity.rungs.{number}.epochs: expected at least {least} epochs, a third of the {sweep.budget} "
                f"of a trial, got {rung.epochs:g}, which is {epochs}; noise slows the start, so fewer would favour "
                "rho = 0: raise it, or set tune.fidelity.study=true, where rungs decide nothing"
            )
