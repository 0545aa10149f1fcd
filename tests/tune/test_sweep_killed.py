"""The driver of a sweep is killed in its second trial: the same command goes on, loses no trial and repeats none."""

import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from snag_dist.training.recipe import load_recipe
from snag_dist.training.run_folder import RunFolder
from snag_dist.tune.trial import read_trials

pytestmark = [pytest.mark.own_ray, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]


def command(folder: Path) -> list[str]:
    """Two cells of GMNM, one after the other; the second takes long enough to be killed in."""
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


def test_the_same_command_goes_on_after_its_driver_was_killed(tmp_path: Path) -> None:
    sweep = tmp_path / "runs" / "world-sweep"
    start = partial(
        subprocess.Popen,
        command(tmp_path),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with start() as driver:
        end = time.monotonic() + 400
        while True:
            assert time.monotonic() < end and driver.poll() is None
            records = read_trials(sweep / "trials") if (sweep / "trials").is_dir() else []
            if len(records) == 2 and records[0].is_complete:
                folder = RunFolder(sweep / "trials" / records[1].name)
                steps = folder.log.read_text().count('"loss"') if folder.log.is_file() else 0
                if steps >= 12 and (folder.checkpoints / "LATEST").is_file():
                    break
            time.sleep(0.02)
        driver.kill()
    first, second = (RunFolder(sweep / "trials" / record.name) for record in records)
    done = first.log.read_bytes()
    begun = second.log.read_text()
    with start() as driver:
        said, complaints = driver.communicate()
    assert driver.returncode == 0, complaints.decode()
    assert [(record.name, record.is_complete) for record in read_trials(sweep / "trials")] == [
        (record.name, True) for record in records
    ]
    assert first.log.read_bytes() == done
    # The second went on from its last checkpoint, which it wrote every five steps.
    steps = [json.loads(line)["step"] for line in second.log.read_text()[len(begun) :].splitlines() if '"loss"' in line]
    assert 5 < steps[0] <= begun.count('"loss"') + 1
    assert "<html" in (sweep / "report" / "index.html").read_text()
    assert f"train the winner: python jobs/train.py --recipe {sweep}/best.toml" in " ".join(said.decode().split())
    load_recipe(sweep / "best.toml")
