"""TPE over settings that stand for several seeds: points first, means told, nothing trained twice."""

from pathlib import Path
from typing import Any

import pytest

from snag_dist.tune.config import Sweep, load_sweep
from snag_dist.tune.search import METRIC, SeededSearch, make_tpe
from snag_dist.tune.space import PAPER_POINTS, PROBABILITY, RATIO

pytest.importorskip("optuna")

WORLD = Path(__file__).parents[2] / "jobs" / "recipes" / "world_sweep.toml"
COARSE = '={kind="choice",values=[0.0,0.2,0.7]}'


def sweep_of(*overrides: str) -> Sweep:
    return load_sweep(WORLD, ["tune.search.kind=optuna", "tune.space={}", *overrides])


def coarse_sweep() -> Sweep:
    return sweep_of(f'tune.space={{"{PROBABILITY}"{COARSE},"{RATIO}"{COARSE}}}')


def figure(changes: dict[str, Any], seed: int) -> float:
    """Highest at rho .7, epsilon .2; seeds apart by .02."""
    return 1.0 - abs(changes[PROBABILITY] - 0.7) - abs(changes[RATIO] - 0.2) + 0.02 * seed


def exhaust(search: SeededSearch, most: int = 100) -> list[tuple[dict[str, Any], int]]:
    trials = []
    for number in range(most):
        suggested = search.suggest(f"trial-{number}")
        if not isinstance(suggested, dict):
            break
        trial = suggested["trial"]
        trials.append((trial["changes"], trial["seed"]))
        search.on_trial_complete(f"trial-{number}", {METRIC: figure(trial["changes"], trial["seed"])})
    return trials


def test_the_papers_points_come_first_each_with_every_seed() -> None:
    trials = exhaust(make_tpe(sweep_of(), []), most=16)
    strengths = [(changes[PROBABILITY], changes[RATIO]) for changes, _ in trials]
    assert strengths[:14:2] == [(0.2, 0.7), (0.3, 0.6), (0.1, 0.8), (0.4, 0.4), (0.5, 0.2), (0.7, 0.2), (0.0, 0.0)]
    assert strengths[0::2] == strengths[1::2]
    assert [seed for _, seed in trials] == [0, 1] * 8


def test_no_setting_is_trained_twice_and_a_small_space_comes_to_an_end() -> None:
    trials = exhaust(make_tpe(coarse_sweep(), []))
    settings = [tuple(changes.values()) for changes, _ in trials[::2]]
    assert len(settings) == len(set(settings))
    assert (0.7, 0.2) in settings
    assert len(trials) == 2 * len(settings) <= 18


def test_optuna_is_told_the_mean_over_seeds_and_of_a_failure_nothing() -> None:
    search = make_tpe(coarse_sweep(), [])
    told: list[Any] = []
    inner: Any = search._inner
    inner.on_trial_complete = lambda proposal, result=None, error=False: told.append((result, error))
    for number in range(4):
        search.suggest(f"trial-{number}")
    search.on_trial_complete("trial-0", {METRIC: 0.2})
    assert told == []
    search.on_trial_complete("trial-1", {METRIC: 0.4})
    search.on_trial_complete("trial-2", error=True)
    search.on_trial_complete("trial-3", error=True)
    assert told == [({METRIC: pytest.approx(0.3)}, False), (None, True)]


def test_a_later_round_knows_what_was_found_and_does_not_begin_anew() -> None:
    known = [({PROBABILITY: 0.2, RATIO: 0.7}, 0.3), ({PROBABILITY: 0.7, RATIO: 0.2}, 0.9), ({"elsewhere": 1}, 0.5)]
    search = make_tpe(coarse_sweep(), known)
    study: Any = search._inner._ot_study  # pyright: ignore
    assert [trial.value for trial in study.get_trials() if trial.value is not None] == [0.3, 0.9]
    first = search.suggest("trial-0")
    assert isinstance(first, dict)
    assert first["trial"]["changes"] == {PROBABILITY: 0.0, RATIO: 0.0}


def test_with_numbers_for_each_token_the_papers_points_come_first_in_all_of_them() -> None:
    search = make_tpe(sweep_of("tune.per_modality=true"), [])
    suggested: list[Any] = [search.suggest(f"trial-{number}") for number in range(14)]
    fields = [f"method.noise.modalities.{name}" for name in ("graph", "text", "vision")]
    for one, strengths in zip(suggested[::2], PAPER_POINTS, strict=True):
        changes = one["trial"]["changes"]
        assert {(changes[f"{field}.probability"], changes[f"{field}.ratio"]) for field in fields} == {strengths}
