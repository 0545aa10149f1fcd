"""The report of a sweep, read from recorded trials: settings, winner, GMNM off, CSV, pictures, page."""

import base64
import csv
import io
import re
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from recorded_trials import record_sweep, record_test, record_trial

from snag_dist.tune.config import Sweep, load_sweep
from snag_dist.tune.outcome import choose_winner
from snag_dist.tune.page import write_report
from snag_dist.tune.setting import group_trials
from snag_dist.tune.space import PROBABILITY, RATIO
from snag_dist.tune.sweep import list_trials, read_outcome
from snag_dist.tune.table import describe_outcome, settings_to_csv, table_of_settings, trials_to_csv
from snag_dist.tune.trial import TrialRecord, read_trials

WORLD = Path(__file__).parents[2] / "jobs" / "recipes" / "world_sweep.toml"
FIELDS = (PROBABILITY, RATIO)
FIGURES = {(0.2, 0.7): (0.20, 0.22), (0.2, 0.4): (0.19, 0.20), (0.4, 0.7): (0.18, 0.20)}


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """Three settings of two seeds; the winner without noise trained and both scored on test."""
    sweep = load_sweep(WORLD, [f"runs={tmp_path}"])
    trials = record_sweep(sweep, FIGURES, FIELDS)
    off = [replace(sweep.trial({"method.noise.kind": "none"}, seed), compared=True) for seed in (0, 1)]
    for seed, trial in enumerate(off):
        record_trial(trial, [0.1, 0.2, 0.21], state="trained", begun=2000.0 + 60 * seed)
        record_test(trial, 0.20)
    for trial, mrr in zip(trials[0.2, 0.7], (0.23, 0.25), strict=True):
        record_test(trial, mrr)
    return sweep


def test_settings_are_means_over_seeds_and_the_winner_is_the_best_on_dev(sweep: Sweep) -> None:
    outcome = read_outcome(sweep)
    assert outcome.winner is not None
    assert outcome.winner.changes == {PROBABILITY: 0.2, RATIO: 0.7}
    assert outcome.winner.mean == pytest.approx(0.21)
    # Sample deviation of two values .02 apart, over the root of two.
    assert outcome.winner.error == pytest.approx(0.01)
    assert outcome.noise_off is not None
    assert outcome.noise_off.changes == {"method.noise.kind": "none"}
    assert [score.mrr for score in outcome.scores] == [(0.23, 0.25), (0.20, 0.20)]
    assert [round(setting.mean or 0, 3) for setting in outcome.settings] == [0.21, 0.21, 0.195, 0.19]


def test_what_was_trained_to_compare_with_is_never_the_winner(sweep: Sweep) -> None:
    record_trial(
        replace(sweep.trial({"method.noise.kind": "none"}, 0), compared=True), [0.9], state="trained", begun=3000.0
    )
    winner = read_outcome(sweep).winner
    assert winner is not None
    assert winner.changes == {PROBABILITY: 0.2, RATIO: 0.7}


def test_a_setting_of_the_search_without_noise_is_what_the_winner_is_compared_with(tmp_path: Path) -> None:
    sweep = load_sweep(WORLD, [f"runs={tmp_path}"])
    record_sweep(sweep, {(0.2, 0.7): (0.2, 0.2), (0.0, 0.7): (0.1, 0.1)}, FIELDS)
    outcome = read_outcome(sweep)
    assert outcome.noise_off is not None
    assert outcome.noise_off.changes == {PROBABILITY: 0.0, RATIO: 0.7}
    record_sweep(sweep, {(0.0, 0.7): (0.3, 0.3)}, FIELDS)
    outcome = read_outcome(sweep)
    assert outcome.winner == outcome.noise_off
    assert "the winner has no GMNM" in describe_outcome(outcome)


def trial(rho: float, seed: int, state: str, best: float | None) -> TrialRecord:
    curve = () if best is None else ((10, best),)
    return TrialRecord(f"{rho}-{seed}", {PROBABILITY: rho}, seed, state, curve, best)


def test_stopped_early_is_never_chosen_while_a_setting_was_trained_to_its_end() -> None:
    settings = group_trials(
        [
            *(trial(0.1, 0, "trained", 0.9), trial(0.1, 1, "stopped", 0.8)),
            *(trial(0.2, 0, "trained", 0.5), trial(0.2, 1, "finished", 0.5)),
            *(trial(0.3, 0, "stopped", 0.99), trial(0.3, 1, "failed", None)),
        ]
    )
    assert [setting.changes[PROBABILITY] for setting in settings] == [0.3, 0.1, 0.2]
    winner = choose_winner(settings)
    assert winner is not None
    assert winner.changes == {PROBABILITY: 0.2}
    assert settings[0].state == "failed, stopped"
    assert choose_winner(group_trials([trial(0.3, 0, "stopped", 0.9)])) is None


def test_words_tell_whether_gmnm_helps_seed_by_seed(sweep: Sweep) -> None:
    words = describe_outcome(read_outcome(sweep))
    assert "winner on dev: rho 0.2, epsilon 0.7: .2100 ±.0100" in words
    # Differences .03 and .05: mean .04, standard error .01; Student's t of two seeds reaches 12.71 times it.
    assert "test MRR .2400 ±.0100 with GMNM, .2000 ±.0000 without: difference .0400 ±.0100, 95 % interval " in words
    assert "interval -.0871 to .1671 over 2 seeds, so not shown to differ" in words
    record_test(sweep.trial({PROBABILITY: 0.2, RATIO: 0.7}, 1), 0.231)
    words = describe_outcome(read_outcome(sweep))
    assert words.endswith("difference .0305 ±.0005, 95 % interval .0241 to .0369 over 2 seeds")


def test_csv_has_every_setting_and_every_trial(sweep: Sweep) -> None:
    outcome = read_outcome(sweep)
    settings = list(csv.DictReader(io.StringIO(settings_to_csv(outcome))))
    best = settings[0] if settings[0]["winner"] == "yes" else settings[1]
    assert (best[PROBABILITY], best[RATIO], best["num_seeds"], best["winner"]) == ("0.2", "0.7", "2", "yes")
    assert float(best["test_mrr"]) == pytest.approx(0.24)
    assert sum(row["winner"] == "yes" for row in settings) == 1
    trials = list(csv.DictReader(io.StringIO(trials_to_csv(outcome))))
    assert len(trials) == 8
    assert [trials[0][name] for name in ("seed", "state", "epochs", "best_dev_mrr", "seconds")] == [
        *("0", "finished", "30", "0.2", "20.0")
    ]


def test_the_table_names_fields_as_the_paper_does(sweep: Sweep) -> None:
    table = table_of_settings(read_outcome(sweep), most=2)
    headings = [str(column.header) for column in table.columns]
    assert headings == ["rho", "epsilon", "noise", "dev MRR", "seeds", "epochs", "state", "test MRR"]
    assert table.row_count == 2
    assert "and 2 more" in str(table.caption)


def test_the_page_needs_nothing_else_and_the_pictures_lie_beside_it(sweep: Sweep, tmp_path: Path) -> None:
    failed = sweep.trial({PROBABILITY: 0.7, RATIO: 0.4}, 0)
    record_trial(failed, [], state="failed", begun=5000.0, error="epoch 1 step 3: expected a finite <loss>")
    written = write_report(read_outcome(sweep), tmp_path / "report")
    names = {path.name for path in written}
    pictures = {"rho_x_epsilon.png", "curves.png", "best_so_far.png", "parallel_coordinates.png"}
    assert names == {"index.html", "settings.csv", "trials.csv"} | pictures
    page = (tmp_path / "report" / "index.html").read_text()
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    embedded = [base64.b64decode(data) for data in re.findall(r'src="data:image/png;base64,([^"]+)"', page)]
    assert {path.read_bytes() for path in written if path.suffix == ".png"} == set(embedded)
    for png in embedded:
        width, height = struct.unpack(">II", png[16:24])
        assert 500 < width < 2500
        assert 300 < height < 1500
    assert "<b>.2100 ±.0100</b>" in page
    assert "expected a finite &lt;loss&gt;" in page
    assert "Trials that failed (1)" in page


def test_noise_by_modality_has_a_map_each(tmp_path: Path) -> None:
    sweep = load_sweep(WORLD, [f"runs={tmp_path}"])
    tokens = [f"method.noise.modalities.{name}" for name in ("graph", "text")]
    fields = [f"{token}.{number}" for token in tokens for number in ("probability", "ratio")]
    for begun, strengths in enumerate([(0.2, 0.7, 0.0, 0.0), (0.2, 0.4, 0.1, 0.5), (0.4, 0.7, 0.1, 0.5)]):
        trial = sweep.trial(dict(zip(fields, strengths, strict=True)), 0)
        record_trial(trial, [0.1, 0.2 + 0.01 * begun], state="trained", begun=1000.0 + begun)
    names = {path.name for path in write_report(read_outcome(sweep), tmp_path / "report")}
    assert {"rho_x_epsilon_of_graph.png", "rho_x_epsilon_of_text.png"} <= names
    assert "rho_x_epsilon.png" not in names


def test_more_seeds_or_values_add_trials_and_repeat_none(sweep: Sweep) -> None:
    done = {record.name for record in read_trials(sweep.trials)}
    wider = load_sweep(WORLD, [f"runs={sweep.path.parent}", "tune.seeds=[0,1,2]"])
    listed = [one.name for one in list_trials(wider)]
    assert len(listed) == 36
    assert len(done & set(listed)) == 6
