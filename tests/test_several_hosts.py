"""Training over several hosts under `ray job submit`: one vanishes in mid-epoch, another comes, nothing is lost."""

import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hosts import Host, Network, why_not
from ray_jobs import RAY, environment_with_token, training, wait_for_jobs

from snag_dist.training.run_folder import RunFolder

pytestmark = [pytest.mark.ray, pytest.mark.timeout(1200)]

PORT = 6379


@dataclass
class Cluster:
    """A Ray head on the first host of a network, and workers where a test wants them."""

    hosts: list[Host]
    folder: Path
    environment: dict[str, str] = field(default_factory=environment_with_token)

    def __post_init__(self) -> None:
        head = self.hosts[0]
        self.address = f"http://{head.address}:8265"
        options = ["--num-cpus=0", f"--port={PORT}", f"--dashboard-host={head.address}", f"--temp-dir={head.local}"]
        process = self._start(head, ["--head", *options])
        wait_for_jobs(self.address, partial(head.run, environment=self.environment), process, self.log(head))

    def add_worker(self, host: Host) -> None:
        """Start Ray on a host, with room for one training worker."""
        self._start(host, ["--num-cpus=1", f"--address={self.hosts[0].address}:{PORT}"])

    def submit(self, settings: list[str]) -> "subprocess.CompletedProcess[str]":
        """Submit a training from the head, and wait for its end."""
        return self.hosts[0].run(training(self.address, "world", settings), self.environment)

    def start(self, settings: list[str]) -> "subprocess.Popen[bytes]":
        """Submit a training from the head; the process ends with it."""
        return self.hosts[0].start(training(self.address, "world", settings), self.environment, self.job_log)

    @property
    def job_log(self) -> Path:
        """What the last started job said."""
        return self.folder / "job.log"

    def _start(self, host: Host, options: list[str]) -> "subprocess.Popen[bytes]":
        command = [RAY, "start", "--block", f"--node-ip-address={host.address}", *options]
        return host.start([*command, "--object-store-memory=200000000"], self.environment, self.log(host))

    def log(self, host: Host) -> Path:
        """What Ray said when it started on a host."""
        return self.folder / f"{host.name}.log"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where store and runs are, which all hosts see, and what the hosts have for themselves."""
    return tmp_path_factory.mktemp("several")


@pytest.fixture(scope="module")
def cluster(folder: Path) -> Iterator[Cluster]:
    """A head and two workers on hosts of their own, and a fourth host without Ray."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    # Of Ray's own files; a short path, for sockets have short names.
    with tempfile.TemporaryDirectory(prefix="snag-") as local, Network(folder, 4, Path(local)) as hosts:
        made = Cluster(hosts, folder)
        for host in hosts[1:3]:
            made.add_worker(host)
        yield made


def settings(folder: Path, *more: str) -> list[str]:
    """Overrides of the recipe of the world: small, saved often, one training worker a host."""
    return [
        f"store={folder}/store",
        f"runs={folder}/runs",
        "ingest.source.num_entities=300",
        "train.epochs=8",
        "train.evaluate_every=8",
        "train.batch_size=32",
        "train.log_every=1",
        "train.checkpoint.every_steps=10",
        "method.encoder.width=32",
        "variants={}",
        # A whole processor each, which is all that a host has.
        "cluster.cpus_per_worker=1",
        *more,
    ]


@pytest.fixture(scope="module")
def undisturbed(cluster: Cluster, folder: Path) -> Any:
    """Test metrics of the run that nothing happens to."""
    done = cluster.submit(settings(folder, "name=undisturbed", "cluster.num_workers=2"))
    assert done.returncode == 0, done.stdout + done.stderr
    return metrics(RunFolder(folder / "runs" / "undisturbed"))


def wait_until(what: str, is_so: Callable[[], bool], seconds: float = 500) -> None:
    """Wait for something that must come."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, f"{seconds} s without {what}"
        time.sleep(0.05)


def metrics(run: RunFolder) -> Any:
    """Return the test metrics of a finished run."""
    return json.loads(run.metrics("test").read_text())["metrics"]


def has_begun(run: RunFolder, num_steps: int) -> bool:
    """Whether a run took some steps since its workers began the last time, and has a checkpoint."""
    if not run.log.is_file() or not (run.checkpoints / "LATEST").is_file():
        return False
    return run.log.read_text().count('"loss"') >= num_steps


def test_a_host_vanishes_and_another_takes_its_place(cluster: Cluster, folder: Path, undisturbed: Any) -> None:
    run = RunFolder(folder / "runs" / "disturbed")
    job = cluster.start(settings(folder, "name=disturbed", "cluster.num_workers=2"))
    wait_until("25 steps and a checkpoint", lambda: has_begun(run, 25))
    cluster.hosts[2].vanish()
    wait_until("a restart", lambda: run.read_status().get("restarts", 0) == 1)
    cluster.add_worker(cluster.hosts[3])
    job.wait(600)
    assert job.returncode == 0, cluster.job_log.read_text()
    assert metrics(run) == undisturbed
    status = run.read_status()
    assert (status["state"], status["restarts"], status["num_workers"]) == ("finished", 1, 2)
