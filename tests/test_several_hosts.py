"""Training over several hosts under `ray job submit`: some vanish or are taken back, others come, nothing is lost."""

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from hosts import Host, Network, why_not
from ray_jobs import RAY, ROOT, environment_with_token, training, wait_for_jobs

from snag_dist.training.run_folder import RunFolder

pytestmark = [pytest.mark.own_ray, pytest.mark.timeout(1200)]

PORT = 6379


@dataclass
class Cluster:
    """A Ray head on the first host of a network, and workers where a test wants them."""

    hosts: list[Host]
    folder: Path
    environment: dict[str, str] = field(default_factory=environment_with_token)
    workers: list[Host] = field(default_factory=list)

    def __post_init__(self) -> None:
        head = self.hosts[0]
        self.address = f"http://{head.address}:8265"
        options = ["--num-cpus=0", f"--port={PORT}", f"--dashboard-host={head.address}", f"--temp-dir={head.local}"]
        process = self._start(head, ["--head", *options])
        wait_for_jobs(self.address, partial(head.run, environment=self.environment), process, self.log(head))

    def add_worker(self) -> None:
        """Start Ray on a host that had none yet, with room for one training worker."""
        host = next(host for host in self.hosts[1:] if not self.log(host).exists())
        self._start(host, ["--num-cpus=1", f"--address={self.hosts[0].address}:{PORT}"])
        self.workers.append(host)

    def lose_worker(self) -> None:
        """Let the host that came last vanish."""
        self.workers.pop().vanish()

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
    """A head and two workers on hosts of their own, and two more hosts without Ray."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    # Of Ray's own files; a short path, for sockets have short names.
    with tempfile.TemporaryDirectory(prefix="snag-") as local, Network(folder, 5, Path(local)) as hosts:
        made = Cluster(hosts, folder)
        made.add_worker()
        made.add_worker()
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
        # Sums of another number of workers round differently; in double that changes no rank.
        "train.engine.precision=float64",
        "evaluate.precision=float64",
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
    cluster.lose_worker()
    wait_until("a restart", lambda: run.read_status().get("restarts", 0) == 1)
    cluster.add_worker()
    job.wait(600)
    assert job.returncode == 0, cluster.job_log.read_text()
    assert metrics(run) == undisturbed
    status = run.read_status()
    assert (status["state"], status["restarts"], status["num_workers"]) == ("finished", 1, 2)


@contextlib.contextmanager
def slowed(hosts: Sequence[Host], run: RunFolder) -> Iterator[None]:
    """Let training take a few steps in two seconds, however fast the machine: the run must outlast its nodes."""
    over = threading.Event()

    def brake() -> None:
        while not over.is_set():
            seen = run.log.stat().st_size
            # Workers that are starting have logged nothing yet, and are let alone.
            while run.log.stat().st_size == seen and not over.wait(0.01):
                pass
            workers = [worker for host in hosts for worker in host.processes("RayTrainWorker")]
            for act, seconds in ((psutil.Process.suspend, 1.5), (psutil.Process.resume, 0.0)):
                for worker in workers:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        act(worker)
                over.wait(seconds)

    thread = threading.Thread(target=brake)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def give_notice(cluster: Cluster, host: Host, folder: Path) -> None:
    """Let a host hear from its metadata service, as GCP has it, that it goes in 30 seconds."""
    file = folder / "metadata" / "computeMetadata" / "v1" / "instance" / "preempted"
    file.parent.mkdir(parents=True)
    file.write_text("TRUE")
    serve = [sys.executable, "-m", "http.server", "8000", "--bind", "127.0.0.1", "--directory", f"{folder}/metadata"]
    host.start(serve, cluster.environment, folder / "metadata.log")
    watch = [sys.executable, str(ROOT / "cluster" / "drain_on_notice.py"), "gcp", "--service", "http://127.0.0.1:8000/"]
    # A host sees the processes of all others here, so Ray must be told which cluster is its own.
    told = host.run(watch, {**cluster.environment, "RAY_ADDRESS": f"{cluster.hosts[0].address}:{PORT}"})
    assert told.returncode == 0, told.stdout + told.stderr
    assert told.stdout.startswith("notice: this machine goes in 30 s")


def test_a_node_is_taken_back_with_a_notice_and_workers_come_and_go(
    cluster: Cluster, folder: Path, undisturbed: Any
) -> None:
    run, heard = RunFolder(folder / "runs" / "elastic"), "a node of the workers will be taken back"
    job = cluster.start(settings(folder, "name=elastic", "cluster.num_workers=[1,2]", "cluster.resize_seconds=1"))
    wait_until("25 steps and a checkpoint", lambda: has_begun(run, 25))
    assert run.read_status()["num_workers"] == 2
    with slowed(cluster.hosts[1:], run):
        give_notice(cluster, cluster.workers[-1], folder)
        wait_until("a checkpoint on notice", lambda: any(heard in text for text in run.read_warnings()))
        wait_until("one worker", lambda: run.read_status()["num_workers"] == 1)
        cluster.lose_worker()
        cluster.add_worker()
        wait_until("two workers", lambda: run.read_status()["num_workers"] == 2)
    job.wait(600)
    assert job.returncode == 0, cluster.job_log.read_text()
    assert metrics(run) == undisturbed
    status = run.read_status()
    assert (status["state"], status["restarts"]) == ("finished", 1)
    assert [text.split(":")[0] for text in status["warnings"]] == [
        heard,
        "restart 1",
        "the run goes on with 1 worker(s) instead of 2, from the last checkpoint",
        "the run goes on with 2 worker(s) instead of 1, from the last checkpoint",
    ]
