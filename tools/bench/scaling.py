"""Two workers against one, one thread each, at the same global batch: real runs through Ray Train, in turn."""

import statistics
from pathlib import Path
from typing import Any

from overhead import BATCH, whole_step_seconds
from workbench import summarise

ROUNDS = 3


def measure(store: Path, seed: int) -> dict[str, Any]:
    """Seconds of a step at both numbers of workers."""
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(ROUNDS):
        for workers, found in seconds.items():
            found += whole_step_seconds(store, seed, workers=workers, threads=1)
    one, two = (statistics.median(found) for found in seconds.values())
    return {
        "batch": BATCH,
        "threads_per_worker": 1,
        "workers_1": {**summarise(seconds[1]), "triples_per_second": round(BATCH / one)},
        "workers_2": {**summarise(seconds[2]), "triples_per_second": round(BATCH / two)},
        "speedup": round(one / two, 3),
    }
