"""The same program under `ray job submit`, on a Ray head of its own with token authentication."""

import contextlib
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
from ray_jobs import RAY, environment_with_token, training, wait_for_jobs


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def head(tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Address of a Ray head, and the environment that holds its token."""
    port = free_port()
    environment = environment_with_token()
    command = [RAY, "start", "--head", "--block", "--num-cpus=2", "--include-dashboard=true", "--port=0"]
    command += ["--dashboard-host=127.0.0.1", f"--dashboard-port={port}", f"--temp-dir=/tmp/snag-{port}"]
    # The agent that takes jobs listens on a fixed port by default, which another Ray of this machine may hold.
    command += ["--dashboard-agent-listen-port=0"]
    log = (tmp_path / "head.log").open("w")
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=tmp_path)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for_jobs(address, partial(submit, environment), process, tmp_path / "head.log")
        yield address, environment
    finally:
        end_head(process, f"/tmp/snag-{port}")
        log.close()


def submit(environment: dict[str, str], command: list[str]) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end."""
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)


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


@pytest.mark.own_ray
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
    command = training(address, "world", settings)
    done = submit(environment, command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "succeeded" in done.stdout
    assert "MRR" in done.stdout
    assert (tmp_path / "runs" / "world" / "metrics-test.json").is_file()
    stranger = {**environment, "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    refused = submit(stranger, command)
    assert refused.returncode != 0
