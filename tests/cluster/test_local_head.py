"""The standing head of one machine, started as by a person: it takes jobs with its token alone, and leaves nothing."""

import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
from ray_jobs import RAY, ROOT, environment_with_token, wait_for_jobs

pytestmark = [pytest.mark.own_ray, pytest.mark.timeout(300)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(environment: dict[str, str], command: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)


def those_of(folder: str) -> list[psutil.Process]:
    """Processes of a Ray whose files lie in a folder."""
    found = psutil.process_iter(["cmdline"])
    return [one for one in found if any(folder in argument for argument in one.info["cmdline"] or ())]


@pytest.fixture
def ray_folder() -> Iterator[str]:
    # Short: the names of its sockets may have 107 bytes.
    folder = f"/tmp/snag-local-{os.getpid()}"
    yield folder
    for process in those_of(folder):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    shutil.rmtree(folder, ignore_errors=True)


def test_local_head_takes_jobs_with_its_token_and_ends(tmp_path: Path, ray_folder: str) -> None:
    script = shutil.copy(ROOT / "cluster" / "local.sh", tmp_path)
    port, local = free_port(), tmp_path / "local.env"
    without = {name: value for name, value in environment_with_token().items() if not name.startswith("RAY_AUTH")}
    environment = {**without, "RAY_DASHBOARD_PORT": str(port)}
    command = ["bash", script, "--num-cpus=1", "--port=0", f"--temp-dir={ray_folder}"]
    log = tmp_path / "head.log"
    with log.open("w") as out:
        head = subprocess.Popen(
            command,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # A script that runs tests in the background has them, and what they start, ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        address = f"http://127.0.0.1:{port}"
        exports = partial(given_by, local, without)
        wait_for_jobs(address, lambda tried: run(exports(), tried), head, log)
        assert stat.S_IMODE(local.stat().st_mode) == 0o600
        # As after `source local.env`: the address is in the environment.
        done = run(exports(), [RAY, "job", "submit", "--", "echo", "a", "trivial", "job"])
        assert done.returncode == 0, done.stdout + done.stderr
        assert "a trivial job" in done.stdout
        refused = run(
            {**without, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64, "RAY_API_SERVER_ADDRESS": address},
            [RAY, "job", "submit", "--", "true"],
        )
        assert refused.returncode != 0
        assert "a trivial job" not in refused.stdout
    finally:
        # Ctrl-C reaches all that the terminal runs.
        os.killpg(head.pid, signal.SIGINT)
        head.wait(60)
    assert not local.exists()
    assert not those_of(ray_folder), log.read_text()


def given_by(local: Path, environment: dict[str, str]) -> dict[str, str]:
    """An environment with what `source local.env` adds."""
    lines = local.read_text().splitlines() if local.is_file() else []
    return {**environment, **dict(line.removeprefix("export ").split("=", 1) for line in lines)}
