"""What a process has once used it uses again, without the kernel's clearing it anew."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from snag_dist.training.allocator import keep_freed_memory
taken = keep_freed_memory() if {keep} else True
def use():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(taken, [use() for _ in range(12)][-1])
"""


def faults(*, keep: bool) -> int:
    """Page faults of using 64 MiB for the twelfth time."""
    program = PROGRAM.format(keep=keep)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    taken, number = done.stdout.split()
    if taken == "False":
        pytest.skip("this C library has no such settings")
    return int(number)


def test_a_large_block_is_not_cleared_again() -> None:
    assert faults(keep=True) < 100
    # Without it every page of the block is new: 16,384 of 4 KiB, or 32 of 2 MiB where those are given unasked.
    assert faults(keep=False) > faults(keep=True)
