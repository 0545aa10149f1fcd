"""The same program under `ray job submit`, on a Ray head of its own with token authentication."""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[1]
RAY = Path(sys.executable).with_name("ray")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def head(tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Address of a Ray head, and the environment that holds its token."""
    port = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    command = [RAY, "start", "--head", "--block", "--num-cpus=2", "--include-dashboard=true", "--port=0"]
    command += ["--dashboard-host=127.0.0.1", f"--dashboard-port={port}", f"--temp-dir=/tmp/snag-{port}"]
    # The agent that takes jobs listens on a fixed port by default, which another Ray of this machine may hold.
    command += ["--dashboard-agent-listen-port=0"]
    log = (tmp_path / "head.log").open("w")
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=tmp_path)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(address, environment, process, tmp_path / "head.log")
        yield address, environment
    finally:
        end_head(process, f"/tmp/snag-{port}")
        log.close()


def end_head(process: "subprocess.Popen[bytes]", folder: str) -> None:
    """End this head and what it started, known by its folder; `ray stop` would end every Ray of the user."""
    process.terminate()
    for child in psutil.process_iter(["cmdline"]):
        if any(folder in argument for argument in child.info["cmdline"] or ()):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    process.kill()
    process.wait(30)
    shutil.rmtree(folder, ignore_errors=True)


def wait_for(address: str, environment: dict[str, str], process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until the head takes jobs, which is some time after its port is open."""
    command = [RAY, "job", "submit", "--address", address, "--no-wait", "--", "true"]
    end = time.monotonic() + 180
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        tried = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        if tried.returncode == 0:
            return
        time.sleep(2)
    raise AssertionError(f"the head takes no jobs:\n{tried.stdout}{tried.stderr}\n{log.read_text()}")


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_train_under_ray_job_submit(head: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    address, environment = head
    settings = [
        f"store={tmp_path}/store",
        f"runs={tmp_path}/runs",
        "ingest.source.num_entities=300",
        "train.epochs=1",
        "method.encoder.width=32",
        "variants={}",
    ]
    job = ["python", "jobs/train.py", "--recipe", "jobs/recipes/world.toml"]
    for setting in settings:
        job += ["--set", setting]
    command = [RAY, "job", "submit", "--address", address, "--working-dir", ROOT, "--", *job]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "succeeded" in done.stdout
    assert "MRR" in done.stdout
    assert (tmp_path / "runs" / "world" / "metrics-test.json").is_file()
    stranger = {**environment, "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    refused = subprocess.run(command, env=stranger, capture_output=True, text=True, timeout=120)
    assert refused.returncode != 0
