"""Two workers against one, one thread each, at the same global batch: real runs through Ray Train, in turn.

Beside them the steps of workers without Ray, by phase: alone, together, and two of them at once that know nothing of
each other, which is what the machine allows.
"""

import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from overhead import BATCH, CALLS, WARM, batches_of, whole_step_seconds
from workbench import make_recipe, make_worker, run_in_processes, summarise, time_calls

from snag_dist.shard.group import Group
from snag_dist.training.prefetch import prefetch

ROUNDS = 3

_TRAIN = {"batch_size": BATCH, "engine": {"host_memory": "reuse"}}


def measure(store: Path, seed: int) -> dict[str, Any]:
    """Seconds of a step at both numbers of workers, and where they go."""
    seconds: dict[int, list[float]] = {1: [], 2: []}
    steps: dict[str, list[list[dict[str, Any]]]] = {"one_worker": [], "two_workers": [], "two_apart": []}
    for _ in range(ROUNDS):
        for workers, found in seconds.items():
            found += whole_step_seconds(store, seed, workers=workers, threads=1)
        for name, num in (("one_worker", 1), ("two_workers", 2), ("two_apart", 2)):
            steps[name].append(run_in_processes(num, _steps, store, seed, name == "two_apart"))
    one, two = (statistics.median(found) for found in seconds.values())
    without_ray = {name: _together(rounds) for name, rounds in steps.items()}
    alone, together, apart = (part["median_ms"] for part in without_ray.values())
    return {
        "batch": BATCH,
        "threads_per_worker": 1,
        "workers_1": {**summarise(seconds[1]), "triples_per_second": round(BATCH / one)},
        "workers_2": {**summarise(seconds[2]), "triples_per_second": round(BATCH / two)},
        "speedup": round(one / two, 3),
        "without_ray": without_ray,
        "speedup_without_ray": round(alone / together, 3),
        "speedup_of_two_apart": round(2 * alone / apart, 3),
        "note": "two_apart: each takes whole batches of its own and exchanges nothing; phases are means of a step",
    }


def _steps(group: Group, store: Path, seed: int, apart: bool) -> dict[str, Any]:
    """Steps as the loop takes them, the next one's data drawn and read ahead."""
    own = Group() if apart else group
    with TemporaryDirectory() as runs:
        worker = make_worker(make_recipe(store, Path(runs), seed=seed, train=_TRAIN), own, 1)
        stepper = worker.stepper
        stepper.begin_epoch()
        batches = prefetch(batches_of(worker, seed, own))
        ahead = [next(batches)]

        def step() -> None:
            batch, moment = ahead.pop()
            ahead.append(next(batches))
            stepper.step(batch, moment, 1e-3, following=ahead[0])

        time_calls(step, warm=WARM, num=1)
        group.barrier()
        stepper.stopwatch.read()
        cpu_began = time.process_time()
        seconds = time_calls(step, warm=0, num=CALLS)
        cpu = (time.process_time() - cpu_began) / CALLS
        phases = {name: each / CALLS for name, each in stepper.stopwatch.read().items()}
    return {"seconds": seconds, "cpu": cpu, "phases": phases}


def _together(rounds: list[list[dict[str, Any]]]) -> dict[str, Any]:
    workers = [worker for found in rounds for worker in found]
    milliseconds = lambda values: round(1e3 * statistics.median(values), 2)  # noqa: E731
    return {
        **summarise([each for worker in workers for each in worker["seconds"]]),
        "cpu_ms": milliseconds(worker["cpu"] for worker in workers),
        "phases_ms": {
            name: milliseconds(worker["phases"][name] for worker in workers) for name in workers[0]["phases"]
        },
    }
