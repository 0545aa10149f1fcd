"""Rungs, read from recorded trials: who goes on, how well a rung predicts the whole, what it costs, how it is told."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from recorded_trials import record_sweep, record_trial

from snag_dist.api import describe_sweep
from snag_dist.training.run_folder import write_json
from snag_dist.tune.config import Sweep, load_sweep
from snag_dist.tune.ladder import LADDER_FILE, WHOLE, Ladder, Rung, choose_kept, read_ladder, read_rung, sweep_of
from snag_dist.tune.page import write_report
from snag_dist.tune.prediction import Agreement, Prediction, agree, predict
from snag_dist.tune.rung_table import HEADINGS, describe_prediction, rung_rows, table_of_rungs
from snag_dist.tune.space import PROBABILITY, RATIO
from snag_dist.tune.sweep import read_outcome
from snag_dist.tune.table import describe_outcome
from snag_dist.tune.trial import name_setting, read_trials

WORLD = Path(__file__).parents[2] / "jobs" / "recipes" / "world_sweep.toml"
FIELDS = (PROBABILITY, RATIO)
Figures = Mapping[tuple[float, float], Sequence[float]]

# Four settings by (rho, epsilon), two seeds each. The 3-core takes the second of the whole for the best, the 2-core
# has the whole's order.
ON_3_CORE: Figures = {(0.1, 0.2): (0.4, 0.5), (0.1, 0.4): (0.4, 0.4), (0.2, 0.2): (0.3, 0.3), (0.2, 0.4): (0.1, 0.1)}
ON_2_CORE: Figures = {(0.1, 0.2): (0.3, 0.3), (0.1, 0.4): (0.4, 0.4), (0.2, 0.2): (0.2, 0.2), (0.2, 0.4): (0.1, 0.1)}
ON_WHOLE: Figures = {
    (0.1, 0.2): (0.2, 0.22),
    (0.1, 0.4): (0.23, 0.25),
    (0.2, 0.2): (0.1, 0.1),
    (0.2, 0.4): (0.05, 0.05),
}


def rung(name: str, k: int, size: int, epochs: int) -> Rung:
    return Rung(
        name=name,
        k=k,
        store=Path("stores/world/cores") / f"k-{k}",
        num_entities=size,
        num_triples=2 * size,
        epochs=epochs,
        evaluate_every=10,
    )


LADDER = Ladder(
    rungs=(rung("core-3_epochs-14", 3, 100, 14), rung("core-2_epochs-20", 2, 500, 20), rung(WHOLE, 0, 1000, 40))
)


def name_of(strength: tuple[float, float]) -> str:
    return name_setting(dict(zip(FIELDS, strength, strict=True)))


def make_sweep(folder: Path, **fidelity: object) -> Sweep:
    rungs = "rungs=[{k=3,epochs=0.35},{k=2,epochs=0.5}]"
    others = "".join(f",{name}={json.dumps(value)}" for name, value in fidelity.items())
    sweep = load_sweep(WORLD, [f"runs={folder}", f"tune.fidelity={{{rungs}{others}}}"])
    write_json(sweep.path / LADDER_FILE, LADDER.model_dump(mode="json"))
    return sweep


def record(sweep: Sweep, *figures: Figures) -> None:
    for one, found in zip(LADDER.rungs, figures, strict=True):
        record_sweep(sweep_of(sweep, one), found, FIELDS)


@pytest.fixture
def study(tmp_path: Path) -> Sweep:
    """All settings trained on all rungs."""
    sweep = make_sweep(tmp_path, study=True)
    record(sweep, ON_3_CORE, ON_2_CORE, ON_WHOLE)
    return sweep


@pytest.fixture
def halved(tmp_path: Path) -> Sweep:
    """Four settings, then two, then one."""
    sweep = make_sweep(tmp_path)
    second = {strength: ON_2_CORE[strength] for strength in ((0.1, 0.2), (0.1, 0.4))}
    record(sweep, ON_3_CORE, second, {(0.1, 0.4): ON_WHOLE[0.1, 0.4]})
    return sweep


def test_a_rung_is_a_sweep_around_the_same_recipe_on_its_graph_for_its_epochs(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path)
    smaller = sweep_of(sweep, LADDER.rungs[0])
    assert smaller.path == sweep.path / "rungs" / "core-3_epochs-14"
    tree, whole = smaller.recipe.to_tree(), sweep.recipe.to_tree()
    assert tree["store"] == str(Path("stores/world/cores/k-3").absolute())
    assert tree["train"] == {**whole["train"], "epochs": 14, "evaluate_every": 10}
    shared = {"name", "store", "runs", "train"}
    assert {name: tree[name] for name in tree if name not in shared} == {
        name: whole[name] for name in whole if name not in shared
    }
    point = {PROBABILITY: 0.1, RATIO: 0.2}
    assert smaller.trial(point, 1).name == sweep.trial(point, 1).name
    assert smaller.trial(point, 1).recipe().method.noise.probability == 0.1
    assert sweep_of(sweep, LADDER.whole) is sweep
    assert read_ladder(sweep) == LADDER
    assert read_ladder(load_sweep(WORLD, [f"runs={tmp_path}"])) is None


def test_the_best_means_go_on_among_those_that_are_compared(study: Sweep) -> None:
    records = read_rung(study, LADDER.rungs[0])
    everyone = {name_of(strength) for strength in ON_3_CORE}
    assert [it.changes for it in choose_kept(records, everyone, 2)] == [
        {PROBABILITY: 0.1, RATIO: 0.2},
        {PROBABILITY: 0.1, RATIO: 0.4},
    ]
    # A setting that is no longer asked for is passed over, whatever it reached.
    asked = everyone - {name_of((0.1, 0.2))}
    assert [it.changes for it in choose_kept(records, asked, 1)] == [{PROBABILITY: 0.1, RATIO: 0.4}]


def test_a_setting_with_a_seed_that_failed_does_not_go_on_by_the_other_one(study: Sweep) -> None:
    smaller = sweep_of(study, LADDER.rungs[0])
    best = {PROBABILITY: 0.1, RATIO: 0.2}
    record_trial(smaller.trial(best, 0), [0.9], state="failed", begun=1.0)
    kept = choose_kept(read_trials(smaller.trials), {name_of(strength) for strength in ON_3_CORE}, 4)
    assert best not in [setting.changes for setting in kept]
    assert len(kept) == 3


def test_tau_by_hand() -> None:
    one = {"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0}
    same = agree(one, one)
    # Two of the 24 orders are as extreme.
    assert (same.num_settings, same.tau, same.p_value) == (4, pytest.approx(1.0), pytest.approx(2 / 24))
    assert agree(one, {name: -value for name, value in one.items()}).tau == pytest.approx(-1.0)
    # One of six pairs is turned around: (5 - 1) / 6.
    assert agree(one, {"a": 3.0, "b": 4.0, "c": 2.0, "d": 1.0}).tau == pytest.approx(4 / 6)
    # A tie: five pairs agree, none is turned around, one is tied on one side: 5 / sqrt(6 * 5).
    assert agree(one, {"a": 4.0, "b": 4.0, "c": 2.0, "d": 1.0}).tau == pytest.approx(5 / 30**0.5)
    # Settings that one rung lacks do not count, and one setting or equal ones have no ranking.
    assert agree(one, {"a": 1.0, "d": 2.0, "e": 9.0}) == Agreement(num_settings=2, tau=-1.0, p_value=1.0)
    assert agree(one, {"a": 1.0}) == Agreement(num_settings=1, tau=None, p_value=None)
    assert agree(one, {"a": 1.0, "b": 1.0}) == Agreement(num_settings=2, tau=None, p_value=None)


def test_a_study_compares_all_settings_and_says_what_halving_would_have_chosen(study: Sweep) -> None:
    found = predict(study, LADDER)
    first, second, whole = found.rungs
    assert (found.study, found.num_settings) == (True, 4)
    assert first.with_next is not None and first.with_whole is not None and second.with_next is not None
    assert (first.with_next.num_settings, first.with_next.tau) == (4, pytest.approx(4 / 6))
    assert first.with_whole.tau == pytest.approx(4 / 6)
    assert second.with_next == second.with_whole
    assert second.with_next.tau == pytest.approx(1.0)
    assert whole.with_next is None and whole.with_whole is None
    assert list(first.figures) == [name_of(it) for it in ((0.1, 0.2), (0.1, 0.4), (0.2, 0.2), (0.2, 0.4))]
    assert first.kept == (name_of((0.1, 0.2)), name_of((0.1, 0.4)))
    assert second.kept == (name_of((0.1, 0.4)),)
    # Eight trials a rung, recorded to epoch 30 each, on 200, 1000 and 2000 triples; 20 seconds each.
    assert [it.triples_seen for it in found.rungs] == [8 * 30 * 200, 8 * 30 * 1000, 8 * 30 * 2000]
    assert [it.num_trials for it in found.rungs] == [8, 8, 8]
    assert first.seconds == pytest.approx(160.0)
    assert found.grid_triples == 8 * 40 * 2000
    assert found.halving is not None
    assert (found.halving.chosen, found.halving.rank, found.halving.loss) == (name_of((0.1, 0.4)), 1, 0.0)
    assert found.halving.triples_seen == 8 * 30 * 200 + 4 * 30 * 1000 + 2 * 30 * 2000


def test_a_study_whose_first_rung_misleads_says_what_halving_would_have_lost(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, study=True)
    turned = {strength: tuple(-value for value in values) for strength, values in ON_WHOLE.items()}
    record(sweep, turned, ON_2_CORE, ON_WHOLE)
    found = predict(sweep, LADDER)
    assert found.rungs[0].with_whole is not None
    assert found.rungs[0].with_whole.tau == pytest.approx(-1.0)
    assert found.halving is not None
    assert (found.halving.chosen, found.halving.rank) == (name_of((0.2, 0.2)), 3)
    assert found.halving.loss == pytest.approx(0.24 - 0.1)
    assert "number 3 of 4 settings, 0.1400 of dev MRR below the best" in describe_prediction(found)[-1]


def test_halving_compares_those_that_went_on(halved: Sweep) -> None:
    found = predict(halved, LADDER)
    first, second, _ = found.rungs
    assert found.halving is None
    assert first.with_next == Agreement(num_settings=2, tau=-1.0, p_value=1.0)
    assert first.with_whole == Agreement(num_settings=1, tau=None, p_value=None)
    assert second.with_whole == first.with_whole
    assert found.triples_seen == 8 * 30 * 200 + 4 * 30 * 1000 + 2 * 30 * 2000
    lines = describe_prediction(found)
    assert lines[0] == (
        "3-core, 14 of 40 epochs: no ranking to compare with that on the whole, which has 1 of the 4 settings"
    )
    assert lines[-1] == (
        "288,000 training triples seen on all rungs, 45% of the 640,000 of a search on the whole graph alone"
    )


def test_settings_that_are_added_later_may_go_on_beside_those_that_did(halved: Sweep) -> None:
    new = (0.4, 0.7)
    record_sweep(sweep_of(halved, LADDER.rungs[0]), {new: (0.9, 0.9)}, FIELDS)
    everyone = {name_of(strength) for strength in (*ON_3_CORE, new)}
    fidelity = halved.tune.fidelity
    assert fidelity is not None
    kept = choose_kept(read_rung(halved, LADDER.rungs[0]), everyone, fidelity.num_kept(0, len(everyone)))
    assert [setting.name for setting in kept] == [name_of(new), name_of((0.1, 0.2)), name_of((0.1, 0.4))]


def test_what_was_trained_to_compare_with_is_no_setting_of_a_rung(study: Sweep) -> None:
    off = replace(study.trial({"method.noise.kind": "none"}, 0), compared=True)
    record_trial(off, [0.9], state="trained", begun=1.0)
    assert predict(study, LADDER).rungs[-1].num_trials == 8
    assert read_outcome(study).trials[0].compared


def test_the_table_has_a_row_a_rung(study: Sweep) -> None:
    found = predict(study, LADDER)
    rows = [dict(zip(HEADINGS, row, strict=True)) for row in rung_rows(found)]
    assert [row["rung"] for row in rows] == ["3-core", "2-core", "whole graph"]
    assert [row["tau with the whole"] for row in rows] == [".67 (n 4)", "1.00 (n 4)", ""]
    assert (rows[0]["entities"], rows[0]["minutes"], rows[0]["trials"]) == ("100 (10%)", "2.7", "8")
    assert table_of_rungs(found).row_count == 3


def test_the_report_has_json_table_and_plot(study: Sweep, tmp_path: Path) -> None:
    outcome = read_outcome(study)
    assert outcome.winner is not None
    assert outcome.winner.name == name_of((0.1, 0.4))
    assert "3-core, 14 of 40 epochs: tau-b 0.67 with the ranking on the whole, over all 4 settings" in describe_outcome(
        outcome
    )
    written = {path.name: path for path in write_report(outcome, tmp_path / "report")}
    assert written["rungs.png"].read_bytes().startswith(b"\x89PNG")
    assert Prediction.model_validate_json(written["rungs.json"].read_bytes()) == outcome.prediction
    page = written["index.html"].read_text()
    assert "Rungs: rank by dev MRR on a cheap rung" in page
    assert re.search(r"<td>3-core</td>.*<td>\.67 \(n 4\)</td>", page)


def test_a_sweep_without_rungs_has_none_in_its_report(tmp_path: Path) -> None:
    sweep = load_sweep(WORLD, [f"runs={tmp_path}"])
    record_sweep(sweep, ON_WHOLE, FIELDS)
    outcome = read_outcome(sweep)
    assert outcome.prediction is None
    assert not {path.name for path in write_report(outcome, tmp_path / "report")} & {"rungs.json", "rungs.png"}


def test_what_a_sweep_with_rungs_will_do_is_said_before(tmp_path: Path) -> None:
    assert "rung 1: 3-core, 14 epochs, one setting in 2 goes on\nrung 2: 2-core, 20 epochs, one" in describe_sweep(
        make_sweep(tmp_path)
    )
    assert "rung 2: 2-core, 20 epochs, all settings go on" in describe_sweep(make_sweep(tmp_path / "b", study=True))
    share = "tune.fidelity={rungs=[{share=0.25,epochs=0.5,keep=1},{epochs=0.5,keep=3}]}"
    said = describe_sweep(load_sweep(WORLD, [f"runs={tmp_path}", share]))
    assert "rung 1: smallest core with 25% of the entities, 20 epochs, one setting goes on" in said
    assert "rung 2: whole graph, 20 epochs, 3 settings go on" in said
