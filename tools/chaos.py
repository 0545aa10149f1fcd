"""Kill a training again and again, and see that it ends as if nothing had happened: python tools/chaos.py

A training of some minutes on two workers runs twice: once undisturbed, once with SIGKILL at random instants to a
training worker, to a worker in the middle of writing a checkpoint, to the raylet (the whole local cluster goes with
it), and to the driver. Where the driver ends, the same command is started again, as a user or a job queue would. At the
end the final checkpoints, test metrics and losses must be those of the undisturbed run, bit by bit.

Instants are drawn by seed, as seconds after the run has got further than it was when it was killed before: so it ends.
"""

import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parent / "bench"))

from records import describe_machine, write_record

from snag_dist.console import USER_ERROR
from snag_dist.training.run_folder import RunFolder

ROOT = Path(__file__).parents[1]
VICTIMS = ("worker", "writing", "raylet", "driver")
RECIPE = "jobs/recipes/world.toml"
# Seconds a run may take to get further than it was; a hang is the failure this program is there to find.
_PATIENCE = 600.0
_LATEST_INSTANT = 8.0
# No step of this training takes so long, and no start of workers is over so soon.
_QUICKEST_START = 5.0


class Stuck(Exception):
    """The run did not go on."""


@dataclass(frozen=True)
class Kill:
    """What one kill did.

    Attributes:
        victim: what was killed.
        step: last step in the log before it.
        resumed_after: last step that was kept, maybe by workers that outlived raylet or driver; the next one was the
            first taken again.
        lost_steps: steps before the kill that were taken again.
        lost_seconds: that they took when they were taken first.
        seconds: from the kill to the first new step that was not taken before: work lost, and all that starting takes.
        half_written: a half-written checkpoint lay there right after the kill.
        same_driver: the driver lived on, and Ray Train started the workers anew.
    """

    victim: str
    step: int
    resumed_after: int
    lost_steps: int
    lost_seconds: float
    seconds: float
    half_written: bool
    same_driver: bool


class Training:
    """One command, its run folder, and its processes."""

    def __init__(self, folder: Path, name: str, settings: list[str]):
        self.run = RunFolder(folder / "runs" / name)
        self._log = folder / f"{name}.log"
        self._command = [sys.executable, "jobs/train.py", "--recipe", RECIPE, "--run", name]
        for setting in (f"store={folder}/store", f"runs={folder}/runs", *settings):
            self._command += ["--set", setting]
        self.driver = self.start()

    def start(self) -> psutil.Popen:
        """Start the command."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        with self._log.open("a") as output:
            self.driver = psutil.Popen(
                self._command,
                cwd=ROOT,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self.driver

    def restart_if_ended(self) -> bool:
        """Start the command again where it ended without finishing; say whether it did.

        Raises:
            Stuck: it ended with a mistake that starting it again does not mend.
        """
        code = self.driver.poll()
        if code is None or (code == 0 and self.is_finished):
            return False
        if code == USER_ERROR:
            raise Stuck(f"{self._log}: the command ended with exit code {code}")
        self.start()
        return True

    @property
    def is_finished(self) -> bool:
        """Whether the run says that it is."""
        return self.run.read_status().get("state") == "finished"

    def steps(self) -> list[int]:
        """Steps in the log, in the order they were taken."""
        return [line["step"] for line in self.losses()]

    def losses(self) -> list[dict[str, Any]]:
        """Lines of the log that hold a loss; a line that is being written is left out."""
        if not self.run.log.is_file():
            return []
        text = self.run.log.read_text()
        lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines() if line.startswith("{")]
        return [line for line in lines if "loss" in line]

    def processes(self, kind: str) -> list[psutil.Process]:
        """Living processes below the driver of a kind: part of the name that they have."""
        found: list[psutil.Process] = []
        for process in self.driver.children(recursive=True):
            try:
                if kind in process.name() or any(kind in word for word in process.cmdline()[:1]):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def halves(self) -> list[str]:
        """Names of checkpoints that are being written, or were when their writer died."""
        return [path.name for path in self.run.checkpoints.glob("*.partial")]

    def wait_to_end(self) -> None:
        """Wait until the run is finished; start the command again where it ended before."""
        while not self.is_finished or self.driver.poll() is None:
            self.restart_if_ended()
            time.sleep(0.5)


def wait_for_step(training: Training, step: int) -> int:
    """Wait until a run is beyond a step, and return where it is.

    Raises:
        Stuck: it does not get there.
    """
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        training.restart_if_ended()
        steps = training.steps()
        if steps and steps[-1] > step:
            return steps[-1]
        if training.is_finished:
            return step
        time.sleep(0.05)
    raise Stuck(f"{training.run.path}: not beyond step {step} after {_PATIENCE:g} s")


def strike(training: Training, victim: str, instants: random.Random) -> bool | None:
    """Kill at a random instant; return whether a half-written checkpoint lies there right after; None if it finished.

    Raises:
        Stuck: there was nothing to kill.
    """
    time.sleep(instants.uniform(0.0, _LATEST_INSTANT))
    if training.is_finished:
        return None
    if victim == "driver":
        training.driver.send_signal(signal.SIGKILL)
        training.driver.wait(30)
        return bool(training.halves())
    kind = "raylet" if victim == "raylet" else "RayTrainWorker"
    found = sorted(training.processes(kind), key=lambda process: process.pid)
    if not found:
        raise Stuck(f"no {kind} below the driver")
    target = instants.choice(found)
    end = time.monotonic() + _PATIENCE
    while victim == "writing" and not training.halves():
        if time.monotonic() > end:
            raise Stuck(f"{training.run.checkpoints}: no checkpoint was written in {_PATIENCE:g} s")
    target.send_signal(signal.SIGKILL)
    return bool(training.halves())


def first_after_start(lines: list[dict[str, Any]], since: int) -> int | None:
    """Index of the first line that newly started workers wrote; None if it is not there yet.

    Workers whose raylet or driver died go on for some steps; only then do others begin, where the checkpoint was.
    """
    for number in range(max(1, since), len(lines)):
        left, right = lines[number - 1], lines[number]
        if right["step"] <= left["step"] or right["time"] - left["time"] > _QUICKEST_START:
            return number
    return None


def kill_once(training: Training, victim: str, instants: random.Random) -> Kill | None:
    """Kill something of a running training, and wait until it has got further; None if it finished before.

    Raises:
        Stuck: it does not get further.
    """
    half_written = strike(training, victim, instants)
    if half_written is None:
        return None
    at, driver = time.monotonic(), training.driver
    lines = training.losses()
    since, before = len(lines), lines[-1]["step"]
    while True:
        if time.monotonic() - at > _PATIENCE:
            raise Stuck(f"{training.run.path}: no further than before after {_PATIENCE:g} s")
        training.restart_if_ended()
        lines = training.losses()
        first = first_after_start(lines, since)
        if first is not None and lines[-1]["step"] > max(line["step"] for line in lines[:first]):
            break
        if training.is_finished:
            return None
        time.sleep(0.05)
    resumed_after = lines[first]["step"] - 1
    took = {line["step"]: line["elapsed_seconds"] for line in lines[:since]}
    lost = range(resumed_after + 1, before + 1)
    return Kill(
        victim=victim,
        step=before,
        resumed_after=resumed_after,
        lost_steps=len(lost),
        lost_seconds=round(sum(took[step] for step in lost), 1),
        seconds=round(time.monotonic() - at, 1),
        half_written=half_written,
        same_driver=driver is training.driver,
    )


def compare(left: Training, right: Training) -> dict[str, bool]:
    """Say what is the same, bit by bit, in two finished runs."""
    same: dict[str, bool] = {}
    for pointer in ("LATEST", "BEST"):
        names = [training.run.checkpoints.joinpath(pointer).read_text() for training in (left, right)]
        folders = [training.run.checkpoints / name.strip() for training, name in zip((left, right), names, strict=True)]
        files = [{path.name: path.read_bytes() for path in folder.glob("*.safetensors")} for folder in folders]
        same[f"checkpoint {pointer}"] = bool(files[0]) and names[0] == names[1] and files[0] == files[1]
    metrics = [json.loads(training.run.metrics("test").read_text())["metrics"] for training in (left, right)]
    same["test metrics"] = metrics[0] == metrics[1]
    # Where steps were taken twice, the last one counts; it must have had the same loss before.
    losses = [{line["step"]: line["loss"] for line in training.losses()} for training in (left, right)]
    same["loss of every step"] = losses[0] == losses[1]
    same["losses of steps taken twice"] = all(losses[0].get(line["step"]) == line["loss"] for line in right.losses())
    return same


def summarise(kills: list[Kill]) -> dict[str, float]:
    """Steps and seconds that kills of one kind cost."""
    if not kills:
        return {"kills": 0}
    return {
        "kills": len(kills),
        "median_lost_steps": statistics.median(kill.lost_steps for kill in kills),
        "most_lost_steps": max(kill.lost_steps for kill in kills),
        "median_lost_seconds": round(statistics.median(kill.lost_seconds for kill in kills), 1),
        "most_lost_seconds": max(kill.lost_seconds for kill in kills),
        "median_seconds": round(statistics.median(kill.seconds for kill in kills), 1),
        "most_seconds": max(kill.seconds for kill in kills),
        "half_written": sum(kill.half_written for kill in kills),
    }


def disturb(training: Training, kills: int, seed: int, console: Console) -> list[Kill]:
    """Kill something of a training `kills` times, each victim in turn, or until it is finished."""
    instants, seen = random.Random(seed), list[Kill]()
    wait_for_step(training, 0)
    for number in range(kills):
        kill = kill_once(training, VICTIMS[number % len(VICTIMS)], instants)
        if kill is None:
            console.print("the run was over before the next kill; give it more --epochs")
            break
        seen.append(kill)
        console.print(
            f"{number + 1:3} {kill.victim:8} after step {kill.step}: {kill.lost_steps} steps of "
            f"{kill.lost_seconds} s lost; further than before after {kill.seconds} s"
        )
    training.wait_to_end()
    return seen


def main(
    kills: Annotated[int, typer.Option(min=1, help="How often something is killed.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the instants and the workers chosen.")] = 0,
    entities: Annotated[int, typer.Option(help="Size of the generated world.")] = 3000,
    epochs: Annotated[int, typer.Option(help="Length of the training.")] = 230,
    folder: Annotated[Path | None, typer.Option(help="For store and runs; unset, one that is removed.")] = None,
) -> None:
    """Kill, compare, and write down what was seen."""
    console, machine = Console(stderr=True), describe_machine()
    settings = [
        "variants={}",
        f"ingest.source.num_entities={entities}",
        f"train.epochs={epochs}",
        f"train.evaluate_every={max(1, epochs // 4)}",
        "train.log_every=1",
        "train.checkpoint.every_seconds=5",
        "cluster.num_workers=2",
        f"cluster.max_failures={kills}",
    ]
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="snag-chaos-") as temporary:
        place = (folder or Path(temporary)).absolute()
        place.mkdir(parents=True, exist_ok=True)
        undisturbed = Training(place, "undisturbed", settings)
        undisturbed.wait_to_end()
        alone = time.monotonic() - start
        console.print(f"undisturbed: {len(undisturbed.steps())} steps in {alone:.0f} s")
        disturbed = Training(place, "disturbed", settings)
        seen = disturb(disturbed, kills, seed, console)
        same = compare(undisturbed, disturbed)
        figures = {
            "kills_asked_for": kills,
            "kills_survived": len(seen),
            "same_as_undisturbed": same,
            "steps": len(undisturbed.steps()),
            "seconds_undisturbed": round(alone, 1),
            "seconds_disturbed": round(time.monotonic() - start - alone, 1),
            "by_victim": {victim: summarise([kill for kill in seen if kill.victim == victim]) for victim in VICTIMS},
            "each": [asdict(kill) for kill in seen],
        }
    command = ["python", "tools/chaos.py", "--kills", str(kills), "--seed", str(seed)]
    command += ["--entities", str(entities), "--epochs", str(epochs)]
    write_record("chaos", figures, command=command, machine=machine, seed=seed, seconds=time.monotonic() - start)
    if len(seen) < kills or not all(same.values()):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
