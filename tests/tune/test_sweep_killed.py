"""A sweep is asked to stop, its driver killed, then a trial's: it goes on, loses no trial and repeats none."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from snag_dist.console import TRY_AGAIN
from snag_dist.training.recipe import load_recipe
from snag_dist.training.run_folder import RunFolder
from snag_dist.tune.trial import TrialRecord, read_trials

pytestmark = [pytest.mark.own_ray, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]


def command(folder: Path) -> list[str]:
    """Two cells of GMNM, one after the other, each long enough to be interrupted in."""
    settings = [
        f"store={folder}/store",
        f"runs={folder}/runs",
        "ingest.source.num_entities=300",
        "train.epochs=6",
        "train.evaluate_every=3",
        "train.batch_size=16",
        "train.log_every=1",
        "train.checkpoint.every_steps=5",
        "method.encoder.width=32",
        "cluster.num_workers=1",
        "tune.seeds=[0]",
        'tune.space={"method.noise.ratio"={kind="grid",values=[0.0,0.7]}}',
    ]
    words = [sys.executable, "jobs/tune.py", "--recipe", "jobs/recipes/world_sweep.toml"]
    return [*words, *(word for setting in settings for word in ("--set", setting))]


def start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(folder),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def steps_of(folder: RunFolder) -> list[int]:
    lines = folder.log.read_text().splitlines() if folder.log.is_file() else []
    return [json.loads(line)["step"] for line in lines if '"loss"' in line and line.endswith("}")]


def wait_for(driver: subprocess.Popen[str], trials: Path, num: int) -> list[TrialRecord]:
    """Wait until so many trials have begun, and the last of them has a checkpoint and twelve steps."""
    end = time.monotonic() + 400
    while True:
        assert time.monotonic() < end and driver.poll() is None
        records = read_trials(trials) if trials.is_dir() else []
        if len(records) == num and all(record.is_complete for record in records[:-1]):
            folder = RunFolder(trials / records[-1].name)
            if len(steps_of(folder)) >= 12 and (folder.checkpoints / "LATEST").is_file():
                return records
        time.sleep(0.02)


def wait_for_processes(driver: subprocess.Popen[str], kind: str) -> list[psutil.Process]:
    end = time.monotonic() + 400
    while True:
        assert time.monotonic() < end and driver.poll() is None
        found = [it for it in psutil.Process(driver.pid).children(recursive=True) if is_of_kind(it, kind)]
        if found:
            return found
        time.sleep(0.2)


def is_of_kind(process: psutil.Process, kind: str) -> bool:
    try:
        return kind in " ".join(process.cmdline())
    except psutil.Error:
        return False


def test_the_same_command_goes_on_where_its_driver_ended(tmp_path: Path) -> None:
    sweep = tmp_path / "runs" / "world-sweep"
    with start(tmp_path) as driver:
        [record] = wait_for(driver, sweep / "trials", 1)
        driver.send_signal(signal.SIGTERM)
        _, complaints = driver.communicate()
    first = RunFolder(sweep / "trials" / record.name)
    asked = steps_of(first)
    assert driver.returncode == TRY_AGAIN, complaints
    assert f"{sweep}: stopped as asked, 1 trials with a checkpoint; the same command goes on from there" in complaints
    [record] = read_trials(sweep / "trials")
    assert record.state == "interrupted"

    with start(tmp_path) as driver:
        records = wait_for(driver, sweep / "trials", 2)
        driver.kill()
    # It was asked, so no step was lost.
    assert steps_of(first) == list(range(1, len(steps_of(first)) + 1)) and len(steps_of(first)) > len(asked)
    second = RunFolder(sweep / "trials" / records[1].name)
    done, begun = first.log.read_bytes(), steps_of(second)

    with start(tmp_path) as driver:
        # A trial's driver goes with its node; Tune starts it anew, and the trial goes on from the last checkpoint.
        [of_trial] = wait_for_processes(driver, "ImplicitFunc")
        wait_for_processes(driver, "RayTrainWorker")
        # Not before: workers of the driver that was killed go on for a while.
        seen, end = len(steps_of(second)), time.monotonic() + 400
        while len(steps_of(second)) < seen + 3:
            assert time.monotonic() < end and driver.poll() is None
            time.sleep(0.02)
        of_trial.kill()
        said, complaints = driver.communicate()
    assert driver.returncode == 0, complaints
    assert [(record.name, record.is_complete) for record in read_trials(sweep / "trials")] == [
        (record.name, True) for record in records
    ]
    assert first.log.read_bytes() == done
    # The second went on from its last checkpoint, which it wrote every five steps.
    assert 5 < steps_of(second)[len(begun)] <= len(begun) + 1
    assert "<html" in (sweep / "report" / "index.html").read_text()
    assert f"train the winner: python jobs/train.py --recipe {sweep}/best.toml" in " ".join(said.split())
    load_recipe(sweep / "best.toml")
