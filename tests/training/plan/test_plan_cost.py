"""Hours and price of a run by hand, and what a plan says of them."""

from typing import Any

import pytest

from snag_dist.config import validate
from snag_dist.errors import ConfigError
from snag_dist.training.plan.calibration import Calibration
from snag_dist.training.plan.cost import RunCost
from snag_dist.training.plan.report import RunPlan
from snag_dist.training.recipe import Recipe

# 1,000 steps of 0.36 s: six minutes an epoch.
TIMED = Calibration(compute_seconds=0.3, network_seconds=0.06, steps=1000, threads=1)


def make(**changes: Any) -> Recipe:
    tree = {"name": "planned", "store": "nowhere", "ingest": {"source": {"kind": "world"}}, "train": {"epochs": 50}}
    return Recipe.model_validate({**tree, **changes})


def test_hours_and_price_by_hand() -> None:
    cost = RunCost.of(make(cluster={"num_workers": 4}, plan={"price_per_hour": 0.5}), TIMED)
    assert cost.hours == pytest.approx(5.0)
    assert cost.price == pytest.approx(10.0)
    assert cost.line() == "50 epochs: 5 hours of steps on 4 worker(s), 10 at 0.5 a worker and hour"


def test_without_a_price_the_hours_are_told() -> None:
    cost = RunCost.of(make(), TIMED)
    assert cost.price is None
    assert cost.line() == "50 epochs: 5 hours of steps on 1 worker(s); their price needs plan.price_per_hour"


def test_the_iterative_stage_counts_and_an_elastic_run_has_its_fewest_workers() -> None:
    recipe = make(
        method={"kind": "snag_alignment"}, iterative={"epochs": 150}, cluster={"num_workers": [2, 8]}, plan={}
    )
    cost = RunCost.of(recipe, TIMED)
    assert (cost.epochs, cost.num_workers) == (200, 2)
    assert cost.hours == pytest.approx(20.0)


def test_a_negative_price_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"plan\.price_per_hour: .*greater than or equal to 0, got -1\.0; mend it"):
        validate(Recipe, {**make().to_tree(), "plan": {"price_per_hour": -1.0}}, "recipe")


def test_the_plan_of_a_recipe_says_what_its_epochs_cost() -> None:
    plan = {"num_entities": 60, "num_triples": 200, "price_per_hour": 3.0, "calibration_steps": 2}
    recipe = make(modalities=[], plan=plan, method={"encoder": {"width": 8}})
    planned = RunPlan.of(recipe, None, timed=True)
    assert planned.cost is not None and planned.calibration is not None
    assert planned.cost.hours == pytest.approx(50 * planned.calibration.epoch_seconds / 3600)
    assert planned.cost.line() in planned.lines()
    untimed = RunPlan.of(recipe, None, timed=False)
    assert untimed.cost is None and not any("hours" in line for line in untimed.lines())
