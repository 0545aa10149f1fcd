"""Runs side by side: means and deviations by hand, what is averaged and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from run_folders import alignment_report, completion_report, make_weights, write_run

from snag_dist.errors import ConfigError, DataError
from snag_dist.evaluation.comparison import COMPLETION, PUBLISHED, REAL, Cell, Comparison, Way, compare_folders

GMNM_OFF = {"kind": "snag", "noise": {"kind": "none"}}
SCORES = {"snag": (0.30, 0.36, 0.33), "off": (0.20, 0.28, 0.30)}
"""MRR of three seeds: mean .33, std .03; mean .26, std sqrt(.0028) = .052915."""


def write_two_methods(runs: Path) -> None:
    for name, scores in SCORES.items():
        for seed, score in enumerate(scores):
            method: dict[str, Any] = GMNM_OFF if name == "off" else {}
            folder = write_run(runs, f"{name}-{seed}", seed=seed, method=method)
            completion_report(score, seed).write(folder.metrics("test"))


def only(comparison: Comparison) -> Cell:
    (cell,) = comparison.cells
    return cell


def test_mean_and_std_over_three_seeds_by_hand(tmp_path: Path) -> None:
    write_two_methods(tmp_path)
    off, on = compare_folders([tmp_path]).cells
    assert (on.row.label, on.row.gmnm, off.row.label, off.row.gmnm) == ("SNAG", True, "SNAG", False)
    assert on.seeds == off.seeds == (0, 1, 2)
    assert on.column.dataset == "world"
    assert on.figures[COMPLETION]["mrr"].mean == pytest.approx(0.33)
    assert on.figures[COMPLETION]["mrr"].std == pytest.approx(0.03)
    assert off.figures[COMPLETION]["mrr"].mean == pytest.approx(0.26)
    assert off.figures[COMPLETION]["mrr"].std == pytest.approx(0.0028**0.5)
    assert off.figures[COMPLETION]["hits@1"].mean == pytest.approx(0.16)
    assert off.figures[COMPLETION]["mean_rank"].mean == pytest.approx(74.0)


def test_one_seed_has_no_std(tmp_path: Path) -> None:
    completion_report(0.3, 4).write(write_run(tmp_path, "a", seed=4).metrics("test"))
    cell = only(compare_folders([tmp_path / "a"]))
    assert cell.seeds == (4,)
    assert cell.figures[COMPLETION]["mrr"].mean == 0.3
    assert cell.figures[COMPLETION]["mrr"].std is None


def test_settings_are_stated_without_the_value_on_dev(tmp_path: Path) -> None:
    write_two_methods(tmp_path)
    setting = compare_folders([tmp_path]).cells[0].setting
    assert setting.selection == "best dev MRR, evaluated every 10 epochs"
    assert (setting.epochs, setting.batch_size, setting.split) == ("50", 1024, "test")
    assert dict(setting.channels)["vision"] == "pixels, 64-d, 8 of 9"


def test_an_iterative_run_is_two_rows(tmp_path: Path) -> None:
    for seed in range(2):
        folder = write_run(tmp_path, f"a-{seed}", seed=seed, method={"kind": "eva"}, iterative={"epochs": 30})
        alignment_report(0.8 + 0.02 * seed, seed, stage="iterative").write(folder.metrics("test"))
        alignment_report(0.6, seed).write(folder.metrics("test-plain"))
        make_weights(0.2 + 0.2 * seed).write(folder.path / "weights.json")
    # The same plain stage, from a run that stopped there.
    folder = write_run(tmp_path, "plain-2", seed=2, method={"kind": "eva"})
    alignment_report(0.63, 2).write(folder.metrics("test"))
    plain, iterative = compare_folders([tmp_path]).cells
    assert (plain.row.stage, iterative.row.stage) == ("plain", "iterative")
    assert (plain.seeds, iterative.seeds) == ((0, 1, 2), (0, 1))
    assert (plain.setting.epochs, iterative.setting.epochs) == ("50", "50 + 30")
    assert plain.figures[PUBLISHED]["mrr"].mean == pytest.approx(0.61)
    assert iterative.figures[PUBLISHED]["mrr"].mean == pytest.approx(0.81)
    assert iterative.figures[REAL]["mrr"].mean == pytest.approx(0.77)
    assert iterative.figures[Way("all", "cosine", "right_to_left")]["hits@10"].mean == pytest.approx(0.84)
    assert plain.weights is None
    assert iterative.weights is not None
    assert iterative.weights.patterns[0].mean == pytest.approx({"graph": 0.3, "text": 0.45, "vision": 0.25})


def test_missing_modalities_are_columns_and_a_ratio_of_one_is_none(tmp_path: Path) -> None:
    for ratio in (1.0, 0.4, 0.6):
        name, section = f"r{ratio:g}", {"vision": {"ratio": ratio, "among": "linked", "seed": 0}}
        folder = write_run(tmp_path, name, method={"kind": "eva"}, missing=section)
        alignment_report(ratio, 0, missing={"vision": ratio}).write(folder.metrics("test"))
    folder = write_run(tmp_path, "of-the-recipe", method={"kind": "eva"}, missing={"text": {"ratio": 0.25}})
    alignment_report(0.5, 0).write(folder.metrics("test"))
    cells = compare_folders([tmp_path]).cells
    assert [cell.column.name for cell in cells] == ["world", "world, text .25", "world, vision .6", "world, vision .4"]
    assert [cell.figures[PUBLISHED]["mrr"].mean for cell in cells] == [1.0, 0.5, 0.6, 0.4]
    assert len({cell.row for cell in cells}) == 1


def test_runs_that_differ_in_more_than_the_seed_are_rows_of_their_own(tmp_path: Path) -> None:
    for name, epochs, seed in (("a", 50, 0), ("b", 50, 1), ("c", 80, 0)):
        completion_report(0.3, seed).write(
            write_run(tmp_path, name, seed=seed, train={"epochs": epochs}).metrics("test")
        )
    cells = compare_folders([tmp_path]).cells
    assert [(cell.row.label, cell.seeds) for cell in cells] == [
        ("SNAG, train.epochs=50", (0, 1)),
        ("SNAG, train.epochs=80", (0,)),
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"num_candidates": 12},
            "b: num_candidates: expected 9 as in .*a, which has the same dataset 'world', got 12;",
        ),
        ({"store_fingerprint": "other"}, "b: store_fingerprint: expected 'abc' as in .*a, .* got 'other'; one table"),
        ({"filtered_by": ("train",)}, "b: filtered_by: expected "),
    ],
)
def test_other_protocols_on_a_dataset_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    completion_report(0.3, 0).write(write_run(tmp_path, "a").metrics("test"))
    completion_report(0.3, 1, **changes).write(write_run(tmp_path, "b", seed=1).metrics("test"))
    with pytest.raises(DataError, match=message):
        compare_folders([tmp_path])


def test_other_candidates_of_an_alignment_are_refused(tmp_path: Path) -> None:
    report = alignment_report(0.5, 0)
    report.write(write_run(tmp_path, "a", method={"kind": "eva"}).metrics("test"))
    tree = report.model_dump(mode="json")
    tree["results"][0]["num_candidates"] = 11
    write_run(tmp_path, "b", method={"kind": "mclea"}).metrics("test").write_text(json.dumps(tree))
    with pytest.raises(DataError, match=r"b: results: expected .*counterparts \(10\), csls.* got .*\(11\), csls"):
        compare_folders([tmp_path])
    alignment_report(0.5, 0, dev_share=0.2).write(tmp_path / "b" / "metrics-test.json")
    with pytest.raises(DataError, match=r"b: dev_share: expected 0\.1 as in .*a, .* got 0\.2;"):
        compare_folders([tmp_path])


def test_a_seed_twice_counts_once_or_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        completion_report(0.3, 0).write(write_run(tmp_path, name).metrics("test"))
    assert only(compare_folders([tmp_path])).seeds == (0,)
    assert only(compare_folders([tmp_path, tmp_path / "a"])).seeds == (0,)
    completion_report(0.31, 0).write(tmp_path / "b" / "metrics-test.json")
    with pytest.raises(
        DataError, match=r"b: expected the figures of .*a, which has the same recipe and seed 0, got ot"
    ):
        compare_folders([tmp_path])


def test_unfinished_runs_are_listed_and_not_averaged(tmp_path: Path) -> None:
    write_two_methods(tmp_path)
    late = write_run(tmp_path, "late", seed=3, state="running")
    completion_report(0.99, 3).write(late.metrics("test"))
    write_run(tmp_path, "new", seed=4).status.unlink()
    comparison = compare_folders([tmp_path])
    assert [(run.path.name, run.state) for run in comparison.unfinished] == [("late", "running"), ("new", "not begun")]
    assert all(cell.seeds == (0, 1, 2) for cell in comparison.cells)
    with pytest.raises(DataError, match=r"late: expected a finished run, got 2 unfinished ones; finish their training"):
        compare_folders([tmp_path / "late", tmp_path / "new"])


def test_what_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"nowhere: expected a run folder or a folder of runs, found none; mend the path"
    ):
        compare_folders([tmp_path / "nowhere"])
    with pytest.raises(DataError, match=r"expected a run folder or a folder of runs with config\.json, found none"):
        compare_folders([tmp_path])
    folder = write_run(tmp_path, "a")
    with pytest.raises(
        DataError, match=r"metrics-test\.json: expected the report of a finished run, found none; run jobs"
    ):
        compare_folders([tmp_path])
    folder.metrics("test").write_text("{}")
    with pytest.raises(ConfigError, match=r"metrics-test\.json: protocol: required"):
        compare_folders([tmp_path])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"config\.json: expected the resolved recipe of a run in JSON, got: .*; leave the run out"),
        ("[]", r"config\.json: expected the resolved recipe of a run, got list; leave the run out"),
        ("{}", r"config\.json: method: expected dict in a resolved recipe, got None; leave the run out"),
        ('{"method": {"kind": "snag"}, "train": {"epochs": "x"}}', r"config\.json: train\.epochs: expected int .* 'x'"),
    ],
)
def test_an_unreadable_recipe_is_named(tmp_path: Path, text: str, message: str) -> None:
    folder = write_run(tmp_path, "a")
    completion_report(0.3, 0).write(folder.metrics("test"))
    folder.config.write_text(text)
    with pytest.raises(DataError, match=message):
        compare_folders([tmp_path])
