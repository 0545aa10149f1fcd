"""python jobs/evaluate.py --table, as a person types it; in this process, since starting one takes ten seconds."""

import csv
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from run_folders import completion_report, write_run

JOB = Path(__file__).parents[2] / "jobs" / "evaluate.py"


class Done(NamedTuple):
    """What a program left behind."""

    returncode: int | str | None
    stdout: str
    stderr: str


Evaluate = Callable[..., Done]


@pytest.fixture
def evaluate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Evaluate:
    """Run the program in the folder of the test."""

    def run(*arguments: str | Path) -> Done:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setattr(sys, "argv", [str(JOB), *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(JOB), run_name="__main__")
        return Done(ended.value.code, *capsys.readouterr())

    return run


def test_two_methods_over_three_seeds(evaluate: Evaluate, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for noise, scores in {"gaussian": (0.30, 0.36, 0.33), "none": (0.20, 0.28, 0.30)}.items():
        for seed, score in enumerate(scores):
            folder = write_run(runs, f"{noise}-{seed}", seed=seed, method={"noise": {"kind": noise}})
            completion_report(score, seed).write(folder.metrics("test"))
    apart = ["--table", runs / "none-0", "--table", runs / "none-2"]
    assert ".250 ±.071" in evaluate(*apart).stdout
    done = evaluate("--table", "runs", "--out", "tables")
    assert done.returncode == 0, done.stderr
    assert ".330 ±.030" in done.stdout
    assert ".260 ±.053" in done.stdout
    assert "wrote tables/table.csv\nwrote tables/table.html" in done.stdout
    with (tmp_path / "tables" / "table.csv").open() as file:
        means = {(line["gmnm"], line["metric"]): float(line["mean"]) for line in csv.DictReader(file)}
    assert means["on", "mrr"] == pytest.approx(0.33)
    assert means["off", "hits@10"] == pytest.approx(0.36)
    assert (tmp_path / "tables" / "table.html").read_text().startswith("<!DOCTYPE html>")


def test_a_dry_run_lists_the_runs_and_writes_nothing(evaluate: Evaluate, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_run(tmp_path / "runs", name)
    done = evaluate("--table", "runs", "--out", "tables", "--dry-run")
    assert done.stdout.split() == [str(tmp_path / "runs" / name) for name in ("a", "b")], done.stderr
    assert not (tmp_path / "tables").exists()


MISTAKES = {
    "no run": (["--table", "empty"], "empty: expected a run folder or a folder of runs with config.json, found none"),
    "no metrics": (["--table", "runs"], "metrics-test.json: expected the report of a finished run, found none"),
    "no config": (["--table", "broken"], "config.json: expected the resolved recipe of a run in JSON, got"),
    "a run beside": (["--table", "runs", "--run", "a"], "--table: expected no --recipe, --run or --set beside it"),
    "out alone": (["--run", "runs/a", "--out", "x"], "--out x: expected --table beside it"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(case: str, evaluate: Evaluate, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write_run(tmp_path / "runs", "a")
    write_run(tmp_path / "broken", "a").config.write_text("{")
    arguments, message = MISTAKES[case]
    done = evaluate(*arguments)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert message in line
