"""A Ray that takes jobs with token authentication, for tests of `ray job submit`."""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
RAY = str(Path(sys.executable).with_name("ray"))


def environment_with_token() -> dict[str, str]:
    """Environment of a Ray of the test's own, and of whoever submits to it."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        # Ray's workers give way to everything else by default, which is other tests here.
        "RAY_worker_niceness": "0",
    }


def training(address: str, recipe: str, settings: Sequence[str]) -> list[str]:
    """Command that submits a training to the job server at an address."""
    job = ["python", "jobs/train.py", "--recipe", f"jobs/recipes/{recipe}.toml"]
    for setting in settings:
        job += ["--set", setting]
    return [RAY, "job", "submit", "--address", address, "--working-dir", str(ROOT), "--", *job]


def wait_for_jobs(
    address: str,
    run: Callable[[list[str]], "subprocess.CompletedProcess[str]"],
    head: "subprocess.Popen[bytes]",
    log: Path,
) -> None:
    """Wait until a head takes jobs, which is some time after its port is open."""
    command = [RAY, "job", "submit", "--address", address, "--no-wait", "--", "true"]
    end = time.monotonic() + 180
    while time.monotonic() < end:
        assert head.poll() is None, log.read_text()
        tried = run(command)
        if tried.returncode == 0:
            return
        time.sleep(2)
    raise AssertionError(f"the head takes no jobs:\n{tried.stdout}{tried.stderr}\n{log.read_text()}")
