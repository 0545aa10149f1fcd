"""Settings: the trials of a sweep, grouped over their seeds."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from snag_dist.tune.trial import TrialRecord, name_setting


@dataclass(frozen=True)
class Setting:
    """The trials of one setting, by seed.

    Attributes:
        changes: dotted field to value.
        trials: ascending by seed.
    """

    changes: Mapping[str, Any]
    trials: tuple[TrialRecord, ...]

    @property
    def name(self) -> str:
        """As its run folders begin."""
        return name_setting(self.changes)

    @property
    def figures(self) -> tuple[float, ...]:
        """Best dev MRR of every seed that has one."""
        return tuple(trial.best for trial in self.trials if trial.best is not None)

    @property
    def mean(self) -> float | None:
        """Of the figures; None without any."""
        return fmean(self.figures) if self.figures else None

    @property
    def error(self) -> float | None:
        """Standard error of the mean over seeds; None with fewer than two."""
        return stdev(self.figures) / len(self.figures) ** 0.5 if len(self.figures) > 1 else None

    @property
    def num_complete(self) -> int:
        """Seeds that were trained to their end."""
        return sum(trial.is_complete for trial in self.trials)

    @property
    def state(self) -> str:
        """How far it is, in a word or two: "trained", or the states that its seeds are in."""
        states = {"trained" if trial.is_complete else trial.state for trial in self.trials}
        return ", ".join(sorted(states))


def group_trials(records: Iterable[TrialRecord]) -> list[Setting]:
    """Group trials by setting, the best mean on dev first, those without a figure last."""
    groups: dict[str, list[TrialRecord]] = {}
    for record in records:
        groups.setdefault(name_setting(record.changes), []).append(record)
    settings = [Setting(group[0].changes, tuple(sorted(group, key=lambda it: it.seed))) for group in groups.values()]
    return sorted(settings, key=lambda setting: (setting.mean is None, -(setting.mean or 0.0), setting.name))


def compare_settings(records: Iterable[TrialRecord]) -> list[Setting]:
    """Return the settings that a rung can compare, the best mean on dev first.

    Trials of another budget, or trained for the final comparison alone, are left out, and so are settings that miss a
    seed which others have: a mean over the seeds that did not fail is one of the easier ones.

    Args:
        records: of one rung.
    """
    settings = group_trials(it for it in records if it.is_complete and not it.compared and it.best is not None)
    most = max((len(setting.trials) for setting in settings), default=0)
    return [setting for setting in settings if len(setting.trials) == most]
