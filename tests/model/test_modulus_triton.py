"""That the fused kernels are code a GPU can run; their numbers are in test_modulus.py."""

import json
import os
import subprocess
import sys
from importlib import util
from pathlib import Path

import pytest


@pytest.mark.skipif(util.find_spec("triton") is None, reason="triton is not installed")
def test_kernels_compile_and_keep_everything_in_registers() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    program = Path(__file__).with_name("compile_fused.py")
    run = subprocess.run([sys.executable, str(program)], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert len(found) == 8
    for kernel, facts in found.items():
        # One root for each number that a thread of 128 holds: 8 pairs forward, 16 coordinates backward.
        roots = 8 if kernel.startswith("_forward") else 16
        assert facts == {"roots": roots, "spills": False, "shared": 0}, kernel
