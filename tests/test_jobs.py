"""The programs as a person starts them: one line and exit code 2 for what they can mend, a plan with --dry-run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*arguments: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "COLUMNS": "200", "RAY_AUTH_MODE": "disabled"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)


WORLD = str(ROOT / "jobs" / "recipes" / "world.toml")
JOBS = {name: str(ROOT / "jobs" / f"{name}.py") for name in ("ingest", "extract", "plan", "train", "evaluate", "tune")}

SIZES = [
    part
    for change in ("num_entities=9", "num_triples=9", "widths.text=4", "widths.vision=4")
    for part in ("--set", f"plan.{change}")
]
MISTAKES = {
    "no recipe": ([JOBS["train"], "--recipe", "nowhere.toml"], "nowhere.toml: expected a recipe file"),
    "unknown field": ([JOBS["train"], "--recipe", WORLD, "--set", "train.x=1"], "train.x: no such field, got 1"),
    "no counts": ([JOBS["plan"], "--recipe", WORLD], "plan.widths.text: expected the columns of modality 'text'"),
    "too small": (
        [JOBS["plan"], "--recipe", WORLD, *SIZES, "--set", "plan.host_bytes=1000000", "--dry-run"],
        "cluster.num_workers: expected at most 1 MB of host memory",
    ),
    "no run": ([JOBS["evaluate"], "--run", "runs/none"], "runs/none: expected a run folder"),
    "run not named": ([JOBS["evaluate"]], "--run: expected the folder of a run"),
    "no data": (
        [JOBS["ingest"], "--recipe", str(ROOT / "jobs/recipes/db15k.toml"), "--set", "data=nowhere"],
        "nowhere",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(case: str, tmp_path: Path) -> None:
    arguments, message = MISTAKES[case]
    done = run(*arguments, folder=tmp_path)
    assert done.returncode == 2, done.stderr
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("error: ")
    assert message in line
    assert "Traceback" not in done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("job", ["train", "tune"])
def test_a_dry_run_hides_passwords_of_urls(job: str, tmp_path: Path) -> None:
    recipe = str(ROOT / "jobs" / "recipes" / "world_sweep.toml")
    secret = "ingest.licence='https://me:hunter2@host/x?token=hunter2'"
    done = run(JOBS[job], "--recipe", recipe, "--set", secret, "--dry-run", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    assert "...@host" in done.stdout


def test_a_dry_run_of_an_evaluation_hides_them_too(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "done"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"telemetry": {"url": "https://me:hunter2@host/x"}}))
    done = run(JOBS["evaluate"], "--run", str(folder), "--dry-run", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "hunter2" not in done.stdout and "...@host" in done.stdout


def test_a_dry_run_prints_config_and_plan_and_makes_nothing(tmp_path: Path) -> None:
    done = run(JOBS["train"], "--recipe", WORLD, "--run", "trial", "--dry-run", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    config, end = json.JSONDecoder().raw_decode(done.stdout)
    assert config["name"] == "trial"
    assert config["method"]["noise"]["probability"] == 0.2
    assert "runs: trial, trial-graph-only, trial-gmnm-off" in done.stdout[end:]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("job", JOBS)
def test_every_job_has_the_four_options(job: str, tmp_path: Path) -> None:
    usage = run(JOBS[job], "--help", folder=tmp_path).stdout
    assert all(option in usage for option in ("--recipe", "--set", "--run", "--dry-run"))


def test_importing_the_paper_half_brings_no_plant_library() -> None:
    code = (
        "import sys, snag_dist, snag_dist.method.snag, snag_dist.ranking.metrics, snag_dist.kg.audit\n"
        "print([name for name in ('ray', 'deepspeed', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr
