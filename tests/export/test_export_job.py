"""jobs/export.py as a person starts it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
JOB = str(ROOT / "jobs" / "export.py")


def start(*arguments: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "COLUMNS": "200", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, JOB, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)


def test_a_run_becomes_a_directory(run: Path, tmp_path: Path) -> None:
    arguments = ("--run", str(run), "--to", "kopa", "--set", "dtype=fp16", "--set", "tokens=false")
    planned = start(*arguments, "--dry-run", folder=tmp_path)
    assert planned.returncode == 0, planned.stderr
    config, end = json.JSONDecoder().raw_decode(planned.stdout)
    assert (config["dtype"], config["tokens"], config["to"]) == ("fp16", False, ["kopa"])
    assert "entities: 300 of" in planned.stdout[end:]
    assert list(tmp_path.iterdir()) == []
    done = start(*arguments, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"exported to {tmp_path / 'exports' / 'world'}"
    assert (tmp_path / "exports" / "world" / "kopa" / "kopa.pth").is_file()


MISTAKES = {
    "no run": ([], "--run: expected the folder of a run"),
    "no such run": (["--run", "runs/none"], "runs/none: expected a run folder"),
    "no such consumer": (["--run", "RUN", "--to", "tape"], "export: to.0: Input should be 'kopa', 'kblam'"),
    "no such field": (["--run", "RUN", "--set", "kind=fp16"], "export: kind: no such field"),
    "no such format": (["--run", "RUN", "--set", "dtype=fp8"], "export: dtype: Input should be 'fp32'"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(case: str, run: Path, tmp_path: Path) -> None:
    arguments, message = MISTAKES[case]
    done = start(*(argument.replace("RUN", str(run)) for argument in arguments), folder=tmp_path)
    assert done.returncode == 2, done.stderr
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("error: ")
    assert message in line
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_it_has_the_four_options_of_every_job(tmp_path: Path) -> None:
    usage = start("--help", folder=tmp_path).stdout
    assert all(option in usage for option in ("--recipe", "--set", "--run", "--dry-run", "--out", "--to"))
