"""A trial: its name, its recipe, what its folder tells."""

import json
from pathlib import Path

from snag_dist.training.recipe import load_recipe
from snag_dist.tune.config import load_sweep, make_sweep
from snag_dist.tune.space import PROBABILITY, RATIO
from snag_dist.tune.trial import name_setting, read_trial, read_trials, short_names

RECIPES = Path(__file__).parents[2] / "jobs" / "recipes"
POINT = {PROBABILITY: 0.2, RATIO: 0.7}


def test_names_follow_from_the_changes_alone() -> None:
    name = name_setting(POINT)
    assert name.startswith("probability-0.2_ratio-0.7-")
    assert name == name_setting(dict(reversed(POINT.items())))
    assert name != name_setting({**POINT, RATIO: 0.70000001})
    assert name_setting({}).startswith("as-it-is-")
    long = name_setting({f"a{number}.field": number for number in range(40)})
    assert len(long) < 120
    assert load_sweep(RECIPES / "world_sweep.toml").trial(POINT, 3).name == f"{name}-s3"


def test_a_name_is_fit_for_a_run_whatever_the_values() -> None:
    recipe = load_recipe(RECIPES / "world.toml")
    sweep = make_sweep(recipe, {})
    changes = {"method.encoder.fusion": {"kind": "graph"}, "train.lr": 1e-05, "data": "a/b c"}
    assert sweep.trial(changes, 0).recipe().name.startswith("data-abc_fusion-graph_lr-1e-05-")


def test_short_names_tell_fields_apart() -> None:
    fields = {"a.text.ratio": 0, "a.vision.ratio": 0, "train.lr": 0, "lr": 0}
    assert list(short_names(fields).values()) == ["text.ratio", "vision.ratio", "train.lr", "lr"]


def test_the_recipe_of_a_trial_is_the_sweeps_but_for_its_changes() -> None:
    sweep = load_sweep(RECIPES / "world_sweep.toml")
    trial = sweep.trial({"method.noise.kind": "none", "train.lr": 0.5}, 7)
    recipe = trial.recipe()
    assert recipe.method.noise.kind == "none"
    expected = json.loads(json.dumps(sweep.recipe.to_tree()))
    expected |= {"name": trial.name, "runs": str(sweep.trials), "seed": 7}
    expected["method"]["noise"] = {"kind": "none"}
    expected["train"]["lr"] = 0.5
    assert recipe.to_tree() == expected
    assert recipe.run_path == trial.folder.path


def test_a_change_of_kind_begins_its_section_anew_wherever_it_stands() -> None:
    sweep = load_sweep(RECIPES / "world_sweep.toml")
    changes = {"method.encoder.fusion.code": "graph", "method.encoder.fusion.kind": "attention"}
    assert sweep.trial(changes, 0).recipe().method.encoder.fusion.code == "graph"


def test_what_a_folder_tells_at_any_moment(tmp_path: Path) -> None:
    trial = load_sweep(RECIPES / "world_sweep.toml", [f"runs={tmp_path}"]).trial(POINT, 1)
    assert read_trials(tmp_path / "world-sweep" / "trials") == []
    trial.begin()
    record = read_trial(trial.folder.path)
    assert (record.state, record.curve, record.best, record.is_over) == ("waiting", (), None, False)
    lines = [
        {"step": 1, "epoch": 0, "time": 100.0, "loss": 1.0},
        *(
            {"step": e, "epoch": e, "time": 100.0 + e, "stage": "plain", "dev": {"mrr": m}}
            for e, m in ((1, 0.5), (2, 0.7))
        ),
        # Epoch 2 again after an interruption, then the stage after mining.
        {"step": 2, "epoch": 2, "time": 104.0, "stage": "plain", "dev": {"mrr": 0.6}},
        {"step": 3, "epoch": 3, "time": 105.0, "stage": "iterative", "dev": {"mrr": 0.55}},
    ]
    half_a_line = '{"step": 4, "epo'
    trial.folder.log.write_text("".join(json.dumps(line) + "\n" for line in lines) + half_a_line)
    trial.folder.write_status(state="stopped")
    record = read_trial(trial.folder.path)
    assert record.curve == ((1, 0.5), (2, 0.6), (3, 0.55))
    assert record.best == 0.55
    assert (record.started, record.ended, record.epochs) == (100.0, 105.0, 3)
    assert record.is_over
    assert not record.is_complete
    assert (record.changes, record.seed) == (POINT, 1)
