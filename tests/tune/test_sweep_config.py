"""The section `[tune]`: what goes together, and what is refused with its reason."""

from pathlib import Path

import pytest

from snag_dist.errors import ConfigError
from snag_dist.training.recipe import load_recipe
from snag_dist.tune.config import load_sweep
from snag_dist.tune.space import PROBABILITY, RATIO
from snag_dist.tune.sweep import list_trials

RECIPES = Path(__file__).parents[2] / "jobs" / "recipes"
SWEEP = RECIPES / "world_sweep.toml"
WIDE = ["tune.space={}"]

SIZES = {"mkg_w_sweep.toml": (12, 24), "world_sweep.toml": (12, 24)}

BAD = {
    "unknown field": (["tune.seed=1"], r"tune\.seed: no such field, got 1; remove it or mend its name"),
    "no section": (["tune=3"], r"tune: expected a section, got 3; write \[tune\]"),
    "seed twice": (["tune.seeds=[1,1]"], r"tune\.seeds: .*expected different seeds of at least 0, got \[1, 1\]"),
    "shared field": (
        ['tune.space={"ingest.seed"={kind="grid",values=[1]}}'],
        r"tune\.space: ingest\.seed: expected a field that trials may differ in",
    ),
    "the seed itself": (
        ['tune.space={seed={kind="grid",values=[1]}}'],
        r"tune\.space: seed: .*several seeds: tune\.seed",
    ),
    "no such field of the recipe": (
        ['tune.space={"train.rate"={kind="grid",values=[1]}}'],
        r"tune\.space: train\.rate: train\.rate: no such field, got 1",
    ),
    "range in a grid": (
        ['tune.space={"train.lr"={kind="uniform",low=1,high=2}}'],
        r"tune\.space: train\.lr: expected kind 'grid' under grid search, got 'uniform'; list its values",
    ),
    "grid in TPE": (["tune.search.kind=optuna"], r"method\.noise\.probability: expected values that TPE can draw"),
    "point outside": (
        [*WIDE, f'tune.search={{kind="optuna",points=[{{"{RATIO}"=0.95}}]}}'],
        r"tune\.search\.points\.0: method\.noise\.ratio: expected a value of tune\.space, got 0\.95; widen",
    ),
    "grace too short": (
        ["tune.scheduler.kind=asha", "tune.scheduler.grace_epochs=13"],
        r"grace_epochs: expected at least 14, a third of the 40 epochs of a trial, got 13; noise slows the start, so "
        r"an earlier stop would favour rho = 0: raise it",
    ),
    "several budgets": (
        ["tune.scheduler.kind=asha", 'tune.space={"train.epochs"={kind="grid",values=[20,40]}}'],
        r"tune\.space: train\.epochs: expected one budget under scheduler 'asha'",
    ),
    "seeds stopped apart": (
        [*WIDE, "tune.search.kind=optuna", "tune.scheduler.kind=asha"],
        r"tune\.seeds: expected one seed under search 'optuna' with scheduler 'asha', got 2",
    ),
    "share and k": (
        ["tune.fidelity={rungs=[{share=0.5,k=3,epochs=0.5}]}"],
        r"tune\.fidelity\.rungs\.0: .*expected share or k, got both; remove one",
    ),
    "rung as dear as the whole": (
        ["tune.fidelity={rungs=[{epochs=1.0}]}"],
        r"tune\.fidelity\.rungs\.0: .*expected a smaller graph or fewer epochs, got the whole",
    ),
    "no rung": (["tune.fidelity={rungs=[]}"], r"tune\.fidelity\.rungs: .*at least 1 item"),
    "too few epochs on a rung": (
        ["tune.fidelity={rungs=[{k=2,epochs=0.35},{k=2,epochs=0.3}]}"],
        r"tune\.fidelity\.rungs\.1\.epochs: expected at least 14 epochs, a third of the 40 of a trial, got 0\.3, which "
        r"is 12; noise slows the start, so fewer would favour rho = 0: raise it, or set tune\.fidelity\.study=true",
    ),
    "rungs and a scheduler": (
        ["tune.fidelity={rungs=[{k=2,epochs=0.5}]}", "tune.scheduler.kind=asha"],
        r"tune\.fidelity: expected scheduler 'none', got 'asha': settings would be sorted out twice",
    ),
    "rungs and TPE": (
        [*WIDE, "tune.fidelity={rungs=[{k=2,epochs=0.5}]}", "tune.search.kind=optuna"],
        r"tune\.fidelity: expected search 'grid' or 'random', got 'optuna': .*set tune\.search\.kind=random",
    ),
    "rungs and several budgets": (
        ["tune.fidelity={rungs=[{k=2,epochs=0.5}]}", 'tune.space={"train.epochs"={kind="grid",values=[20,40]}}'],
        r"tune\.space: train\.epochs: expected one budget under tune\.fidelity",
    ),
    "no noise to search": (
        [*WIDE, "method.noise.kind=none"],
        r"tune\.space: expected parameters, got none, .*method 'snag' has switched off",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_with_a_sweep_is_told_in_one_line(case: str) -> None:
    overrides, message = BAD[case]
    with pytest.raises(ConfigError, match=message) as caught:
        load_sweep(SWEEP, overrides)
    assert "\n" not in str(caught.value)


def test_the_sweep_that_comes_along_has_12_cells_of_2_seeds_and_trains_as_a_plain_recipe() -> None:
    sweep = load_sweep(SWEEP)
    trials = list_trials(sweep)
    assert len(trials) == 24
    assert [trial.seed for trial in trials[:4]] == [0, 1, 0, 1]
    assert load_recipe(SWEEP).to_tree() == sweep.recipe.to_tree()
    assert "tune" not in sweep.recipe.to_tree()


def test_a_third_of_the_budget_is_the_least_grace_and_the_default() -> None:
    asha = ["tune.scheduler.kind=asha"]
    assert load_sweep(SWEEP, asha).grace_epochs == 14
    assert load_sweep(SWEEP, [*asha, "tune.scheduler.grace_epochs=20"]).grace_epochs == 20
    # An iterative stage belongs to the budget.
    aligned = load_sweep(RECIPES / "zh_en.toml", [*asha, "iterative.epochs=31", "train.epochs=29"])
    assert aligned.budget == 60
    assert aligned.grace_epochs == 20


def test_tpe_begins_with_the_papers_points_as_far_as_they_are_in_the_space() -> None:
    tpe = "tune.search.kind=optuna"
    points = load_sweep(SWEEP, [*WIDE, tpe]).points()
    # What the paper does not say is as in the recipe.
    around = {
        **{"method.noise.redraw": "epoch", "method.noise.graph_scale": 1.0, "train.lr": 5e-3},
        **{"method.negatives.num": 128, "method.scorer.margin": 6.0},
    }
    assert points[0] == {PROBABILITY: 0.2, RATIO: 0.7, **around}
    assert points[-1] == {PROBABILITY: 0.0, RATIO: 0.0, **around}
    assert len(points) == 7
    field = '={kind="uniform",low=0.1,high=0.5}'
    narrow = load_sweep(SWEEP, [tpe, f'tune.space={{"{PROBABILITY}"{field},"{RATIO}"{field}}}']).points()
    assert narrow == [{PROBABILITY: 0.4, RATIO: 0.4}, {PROBABILITY: 0.5, RATIO: 0.2}]


def test_rungs_are_for_completion() -> None:
    with pytest.raises(ConfigError, match=r"tune\.fidelity: expected a method of completion, got one of alignment: "):
        load_sweep(RECIPES / "zh_en.toml", ["tune.fidelity={rungs=[{k=2,epochs=0.5}]}"])


def test_a_study_may_have_rungs_of_any_length() -> None:
    sweep = load_sweep(SWEEP, ["tune.fidelity={study=true,rungs=[{k=2,epochs=0.01}]}"])
    assert sweep.rung_epochs(0.01) == 1


def test_how_many_settings_go_on() -> None:
    fidelity = load_sweep(
        SWEEP, ["tune.fidelity={eta=3.0,rungs=[{k=2,epochs=0.5},{k=2,epochs=0.6,keep=5}]}"]
    ).tune.fidelity
    assert fidelity is not None
    assert [fidelity.num_kept(0, num) for num in (12, 10, 2, 1)] == [4, 4, 1, 1]
    assert [fidelity.num_kept(1, num) for num in (12, 4)] == [5, 4]


def test_the_sweeps_that_come_along_are_grids_of_rho_and_epsilon_with_two_seeds() -> None:
    found = {path.name: load_sweep(path) for path in RECIPES.glob("*_sweep.toml")}
    trials = {name: list_trials(sweep) for name, sweep in found.items()}
    assert {name: (len({trial.name[:-3] for trial in each}), len(each)) for name, each in trials.items()} == SIZES
    assert all(set(trial.changes) == {PROBABILITY, RATIO} for each in trials.values() for trial in each)
