"""What a sweep found: settings over their seeds, the winner on dev, and what it is compared with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from snag_dist.model.noise import GaussianNoiseConfig, NoNoiseConfig
from snag_dist.training.recipe import Recipe
from snag_dist.tune.prediction import Prediction
from snag_dist.tune.setting import Setting
from snag_dist.tune.space import NOISE, PROBABILITY, RATIO
from snag_dist.tune.trial import TrialRecord

NOISE_OFF: Mapping[str, Any] = {f"{NOISE}.kind": "none"}
"""Changes that switch GMNM off."""


@dataclass(frozen=True)
class TestScore:
    """Test figures of one setting, by seed.

    Attributes:
        setting: that was scored.
        mrr, hits10: of the realistic rank, or of the headline of alignment, in the order of the seeds.
    """

    __test__ = False

    setting: Setting
    mrr: tuple[float, ...]
    hits10: tuple[float, ...]


@dataclass(frozen=True)
class Outcome:
    """A sweep as it stands.

    Attributes:
        name: of the sweep.
        task: completion or alignment.
        settings: of the search and of the comparison, best on dev first.
        winner: chosen on dev; None before the first trial was trained.
        noise_off: the winner without GMNM, where the method has noise; may be the winner itself.
        scores: on test, of the winner first, then of noise_off; empty before the end.
        budget: epochs of a trial that is trained to its end.
        prediction: how well rungs predicted one another; None without rungs.
    """

    name: str
    task: str
    settings: tuple[Setting, ...]
    winner: Setting | None
    noise_off: Setting | None
    scores: tuple[TestScore, ...]
    budget: int
    prediction: Prediction | None = None

    @property
    def trials(self) -> list[TrialRecord]:
        """All trials in the order they began."""
        found = [trial for setting in self.settings for trial in setting.trials]
        return sorted(found, key=lambda trial: (trial.started or float("inf"), trial.name))

    @property
    def fields(self) -> list[str]:
        """Fields that settings differ in: rho and epsilon, the rest of the noise, the others."""
        found = {field for setting in self.settings for field in setting.changes}
        first = (PROBABILITY, RATIO)
        return sorted(found, key=lambda it: (first.index(it) if it in first else 3 - is_of_noise(it), it))


def choose_winner(settings: Sequence[Setting]) -> Setting | None:
    """Return the setting with the highest mean on dev among those with the most seeds trained to their end.

    A setting whose seeds were stopped early has figures of a smaller budget, of the better seeds alone, or both.

    Args:
        settings: best first, as `group_trials` returns them.
    """
    most = max((setting.num_complete for setting in settings), default=0)
    return next((it for it in settings if most and it.num_complete == most and it.mean is not None), None)


def has_noise(recipe: Recipe) -> bool:
    """Return whether the method of a recipe has GMNM, switched on or off."""
    return hasattr(recipe.method, "noise")


def is_noise_off(recipe: Recipe) -> bool:
    """Return whether training a recipe touches no vector: noise of kind none, or every rho or epsilon 0."""
    noise: Any = getattr(recipe.method, "noise", NoNoiseConfig())
    if isinstance(noise, GaussianNoiseConfig):
        strengths = [noise.probability * noise.ratio, *(it.probability * it.ratio for it in noise.modalities.values())]
        return not any(strengths)
    return isinstance(noise, NoNoiseConfig)


def without_noise(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a setting with GMNM off and everything else as it is."""
    return {field: value for field, value in changes.items() if not is_of_noise(field)} | dict(NOISE_OFF)


def is_of_noise(field: str) -> bool:
    """Return whether a dotted field is the noise's."""
    return field == NOISE or field.startswith(f"{NOISE}.")
