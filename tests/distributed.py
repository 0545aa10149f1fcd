"""Run a function in several processes that talk over gloo on loopback, as the workers of a run do."""

import multiprocessing
import os
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from queue import Empty
from typing import Any

import torch
import torch.distributed as dist

from snag_dist.shard.group import Group

_SECONDS = 240

# Workers are forked from one process that has the libraries already; to import them takes longer than most tests. The
# first optimiser of a process imports the last one.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["snag_dist.training.worker", "torch._dynamo"])


def run_distributed(function: Callable[..., Any], world_size: int, *arguments: Any) -> list[Any]:
    """Call `function(group, *arguments)` in `world_size` processes and return the results by rank.

    The function must be importable by name, and arguments and results picklable. A failure in a worker fails the test
    with the worker's traceback; workers that hang are ended.
    """
    results = _CONTEXT.Queue()
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            _CONTEXT.Process(target=_work, args=(function, rank, world_size, folder, arguments, results), daemon=True)
            for rank in range(world_size)
        ]
        for process in processes:
            process.start()
        try:
            found = _collect(results, processes)
        finally:
            for process in processes:
                process.terminate()
                process.join()
    return [found[rank] for rank in range(world_size)]


def _collect(results: Any, processes: list[Any]) -> dict[int, Any]:
    found: dict[int, Any] = {}
    end = time.monotonic() + _SECONDS
    while len(found) < len(processes):
        # Asked before the queue: what a worker sent before it ended is still in there.
        ended = {rank: process.exitcode for rank, process in enumerate(processes) if process.exitcode}
        try:
            rank, value, failure = results.get(timeout=1.0)
        except Empty:
            missing = sorted(set(range(len(processes))) - set(found))
            assert not ended, f"workers ended without an answer, exit codes by rank: {ended}"
            assert time.monotonic() < end, f"workers {missing} did not answer within {_SECONDS} s"
            continue
        assert failure is None, f"worker {rank}:\n{failure}"
        found[rank] = value
    return found


def _work(
    function: Callable[..., Any], rank: int, world_size: int, folder: str, arguments: tuple[Any, ...], results: Any
) -> None:
    os.environ |= {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
    try:
        rendezvous = Path(folder) / "rendezvous"
        dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world_size)
        value = function(Group(rank, world_size), *arguments)
        # Tensors would travel through shared memory that dies with this process.
        results.put((rank, value, None))
        dist.barrier()
        dist.destroy_process_group()
    except BaseException:
        results.put((rank, None, traceback.format_exc()))
        raise
