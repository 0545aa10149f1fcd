"""The space of a sweep: what a parameter holds, the points of a grid, draws that stay what they are."""

from pathlib import Path

import pytest

from snag_dist.errors import ConfigError
from snag_dist.training.recipe import load_recipe
from snag_dist.tune.config import load_sweep, make_sweep
from snag_dist.tune.space import (
    PAPER_POINTS,
    PROBABILITY,
    RATIO,
    ChoiceConfig,
    GridConfig,
    LogUniformConfig,
    QUniformConfig,
    UniformConfig,
    draw_points,
    expand_grid,
    shipped_space,
)

RECIPES = Path(__file__).parents[2] / "jobs" / "recipes"


def test_a_grid_is_every_combination_the_last_field_fastest() -> None:
    space = {"a": GridConfig(values=(1, 2)), "b": GridConfig(values=("x", "y", "z"))}
    points = expand_grid(space)
    assert [tuple(point.values()) for point in points] == [(1, "x"), (1, "y"), (1, "z"), (2, "x"), (2, "y"), (2, "z")]


def test_draws_lie_in_the_space_and_are_crossed_with_the_grid() -> None:
    space = {
        "u": UniformConfig(low=-1.0, high=2.0),
        "g": GridConfig(values=(0, 1)),
        "l": LogUniformConfig(low=1e-4, high=1e-2),
        "q": QUniformConfig(low=0.0, high=0.9, step=0.05),
        "c": ChoiceConfig(values=("epoch", "step")),
    }
    points = draw_points(space, 40, seed=3)
    assert len(points) == 80
    assert all(list(point) == list(space) for point in points)
    assert all(space[field].holds(value) for point in points for field, value in point.items())
    pairs = [(points[place], points[place + 1]) for place in range(0, 80, 2)]
    assert all({**first, "g": 1} == second for first, second in pairs)
    # A log-uniform draw has as many values in each of its two orders of magnitude.
    assert 10 <= sum(first["l"] < 1e-3 for first, _ in pairs) <= 30
    assert len({first["q"] for first, _ in pairs}) > 8


def test_more_draws_keep_the_first_ones_and_another_seed_has_others() -> None:
    space = {"u": UniformConfig(low=0.0, high=1.0)}
    assert draw_points(space, 5, seed=0) == draw_points(space, 9, seed=0)[:5]
    assert draw_points(space, 5, seed=0) != draw_points(space, 5, seed=1)


def test_what_a_parameter_holds_and_how_many_values_it_has() -> None:
    steps = QUniformConfig(low=0.0, high=0.9, step=0.05)
    assert steps.size == 19
    assert steps.holds(0.35)
    assert not steps.holds(0.36)
    assert not steps.holds(0.95)
    assert UniformConfig(low=0.0, high=1.0).size == float("inf")
    assert ChoiceConfig(values=(1, 2)).size == 2


def test_the_shipped_space_is_gmnm_and_what_the_method_has() -> None:
    recipe = load_recipe(RECIPES / "world.toml")
    wide = shipped_space(recipe, grid=False, per_modality=False)
    assert list(wide) == [
        *(PROBABILITY, RATIO, "method.noise.redraw", "method.noise.graph_scale"),
        *("train.lr", "method.negatives.num", "method.scorer.margin"),
    ]
    assert wide["method.negatives.num"].examples() == (32, 64, 128, 256)
    assert all(wide[PROBABILITY].holds(rho) and wide[RATIO].holds(epsilon) for rho, epsilon in PAPER_POINTS)
    grid = expand_grid(shipped_space(recipe, grid=True, per_modality=False))
    assert len(grid) == 81
    assert {PROBABILITY: 0.2, RATIO: 0.7} in grid
    apart = shipped_space(recipe, grid=False, per_modality=True)
    assert [field for field in apart if field.endswith(".ratio")] == [
        f"method.noise.modalities.{name}.ratio" for name in ("graph", "text", "vision")
    ]


def test_alignment_has_no_negatives_and_no_margin() -> None:
    sweep = make_sweep(load_recipe(RECIPES / "zh_en.toml"), {"search": {"kind": "random"}})
    assert list(sweep.space) == [PROBABILITY, RATIO, "method.noise.redraw", "method.noise.graph_scale", "train.lr"]


def test_one_strength_a_modality_reaches_the_recipe() -> None:
    sweep = make_sweep(load_recipe(RECIPES / "world.toml"), {"search": {"kind": "random"}, "per_modality": True})
    point = draw_points(sweep.space, 1, seed=0)[0]
    noise = sweep.trial(point, 0).recipe().method.noise
    assert set(noise.modalities) == {"graph", "text", "vision"}
    assert noise.modalities["text"].ratio == point["method.noise.modalities.text.ratio"]


BAD = {
    "ends exchanged": ('{kind="uniform",low=2,high=1}', r"train\.lr: .*high: expected more than low=2, got 1"),
    "log of nothing": ('{kind="loguniform",low=0,high=1}', r"train\.lr\.low: .*greater than 0, got 0; mend it"),
    "step beside": ('{kind="quniform",low=0,high=1,step=0.3}', r"step: expected a divisor of low and high, got 0\.3"),
    "twice": ('{kind="grid",values=[1,2,1]}', r"values: expected different values, got one of them twice"),
    "empty": ('{kind="grid",values=[]}', r"train\.lr\.values: .*at least 1"),
    "unknown kind": ('{kind="normal"}', r"train\.lr\.kind: expected one of .*'loguniform'.*got 'normal'"),
    "a value the recipe refuses": ('{kind="grid",values=[0.1,-1]}', r"tune\.space: train\.lr: train\.lr: .*got -1"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_parameter_is_told_in_one_line(case: str) -> None:
    value, message = BAD[case]
    with pytest.raises(ConfigError, match=message) as caught:
        load_sweep(RECIPES / "world.toml", [f'tune.space={{"train.lr"={value}}}'])
    assert "\n" not in str(caught.value)
