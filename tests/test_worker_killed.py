"""A worker or the driver is killed in mid-epoch, or told to stop: the run ends as if undisturbed."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

import snag_dist
from snag_dist.errors import Interrupted, NumericError, TakenOver
from snag_dist.training.claim import Claim
from snag_dist.training.cursor import read_cursor
from snag_dist.training.recipe import Recipe, load_recipe
from snag_dist.training.run_folder import RunFolder

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray"), pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "jobs" / "recipes" / "world.toml"


def settings(folder: Path, name: str) -> list[str]:
    """Overrides of the recipe of the world: small, saved often."""
    return [
        f"store={folder}/store",
        f"runs={folder}/runs",
        f"name={name}",
        "ingest.source.num_entities=300",
        "train.epochs=4",
        "train.evaluate_every=4",
        "train.batch_size=16",
        "train.log_every=1",
        "train.checkpoint.every_steps=10",
        "method.encoder.width=32",
        "variants={}",
    ]


def recipe(folder: Path, name: str, *overrides: str) -> Recipe:
    return load_recipe(RECIPE, [*settings(folder, name), *overrides])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the store and the runs are."""
    return tmp_path_factory.mktemp("killed")


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> dict[str, Any]:
    """Metrics of the run that nothing happens to."""
    return snag_dist.train(recipe(folder, "undisturbed"))["undisturbed"]["metrics"]


def wait_until_under_way(run: RunFolder) -> None:
    """Wait until there is a checkpoint in mid-epoch and some steps after it."""
    end = time.monotonic() + 240
    while time.monotonic() < end:
        steps = run.log.read_text().count('"loss"') if run.log.is_file() else 0
        if steps >= 25 and (run.checkpoints / "LATEST").is_file():
            return
        time.sleep(0.01)
    raise AssertionError(f"{run.path}: 25 steps and a checkpoint did not come")


def once_under_way(run: RunFolder, act: Callable[[], None]) -> threading.Thread:
    """Act when the run is under way."""

    def watch() -> None:
        wait_until_under_way(run)
        act()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def kill_a_worker() -> None:
    """SIGKILL to one training worker of this test's own Ray."""
    workers = [child for child in psutil.Process().children(recursive=True) if "RayTrainWorker" in child.name()]
    workers = workers or [
        child
        for child in psutil.Process().children(recursive=True)
        if any("RayTrainWorker" in word for word in child.cmdline())
    ]
    max(workers, key=lambda process: process.pid).send_signal(signal.SIGKILL)


def test_a_killed_worker_is_started_anew(folder: Path, undisturbed: dict[str, Any]) -> None:
    run = RunFolder(folder / "runs" / "killed")
    watcher = once_under_way(run, kill_a_worker)
    report = snag_dist.train(recipe(folder, "killed"))["killed"]
    watcher.join()
    assert report["metrics"] == undisturbed
    status = run.read_status()
    assert (status["state"], status["restarts"]) == ("finished", 1)
    [warning] = status["warnings"]
    assert warning.startswith("restart 1: worker ") and warning.endswith("and go on from the last checkpoint")
    # It went on in mid-epoch, not from the beginning: some steps were taken twice, the first ones were not.
    lines = [json.loads(line) for line in run.log.read_text().splitlines()]
    steps = [line["step"] for line in lines if "loss" in line]
    again = next(number for number, (left, right) in enumerate(itertools.pairwise(steps)) if right <= left)
    assert steps[again + 1] > 10
    assert (steps[again + 1] - 1) % 10 == 0


def test_a_signal_to_the_driver_stops_the_run_and_the_same_command_goes_on(
    folder: Path, undisturbed: dict[str, Any]
) -> None:
    run = RunFolder(folder / "runs" / "stopped")
    watcher = once_under_way(run, lambda: os.kill(os.getpid(), signal.SIGTERM))
    message = r"stopped: stopped as asked after step \d+, with a checkpoint; the same command goes on from there"
    with pytest.raises(Interrupted, match=message):
        snag_dist.train(recipe(folder, "stopped"))
    watcher.join()
    assert run.read_status()["state"] == "interrupted"
    assert not run.stop.exists()
    cursor = read_cursor(run.checkpoints)
    assert cursor is not None and cursor.step == run.read_status()["steps"]
    assert snag_dist.train(recipe(folder, "stopped"))["stopped"]["metrics"] == undisturbed
    assert run.read_status()["state"] == "finished"


def test_the_same_command_goes_on_after_its_driver_was_killed(folder: Path, undisturbed: dict[str, Any]) -> None:
    run = RunFolder(folder / "runs" / "orphaned")
    command = [sys.executable, "jobs/train.py", "--recipe", str(RECIPE)]
    for setting in settings(folder, "orphaned"):
        command += ["--set", setting]
    start = partial(
        subprocess.Popen, command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE
    )
    with start() as driver:
        wait_until_under_way(run)
        driver.kill()
    before = run.log.read_text()
    with start() as driver:
        _, said = driver.communicate()
    assert driver.returncode == 0, said
    assert json.loads(run.metrics("test").read_text())["metrics"] == undisturbed
    # It went on: nothing of what was logged up to the last checkpoint was taken again.
    lines = [json.loads(line) for line in run.log.read_text().removeprefix(before).splitlines() if '"loss"' in line]
    assert lines[0]["step"] > 10


def test_a_second_driver_takes_the_run_over(folder: Path, undisturbed: dict[str, Any]) -> None:
    run = RunFolder(folder / "runs" / "taken")
    watcher = once_under_way(run, lambda: Claim.take(run.path))
    with pytest.raises(TakenOver, match=r"runs/taken: expected to be the only command there, found that process \d+"):
        snag_dist.train(recipe(folder, "taken"))
    watcher.join()
    # Its state is the other driver's to tell.
    assert run.read_status()["state"] == "running" and "restarts" not in run.read_status()
    assert snag_dist.train(recipe(folder, "taken"))["taken"]["metrics"] == undisturbed


def test_an_error_of_the_user_is_not_tried_again(folder: Path) -> None:
    with pytest.raises(NumericError, match=r"epoch \d+ step \d+: expected a finite loss"):
        snag_dist.train(recipe(folder, "burnt", "train.lr=1e25"))
    status = RunFolder(folder / "runs" / "burnt").read_status()
    assert status["state"] == "failed"
    assert "restarts" not in status
