"""Forward and backward of many scores, compiled against eager: the modulus, and the scorers that multiply matrices."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from workbench import both_ways, eager_modulus, set_threads, summarise, time_calls

from snag_dist.model.modulus import modulus_distance, pick
from snag_dist.model.scorer import ComplExConfig, RotatEConfig, TransEConfig

QUERIES, CANDIDATES, WIDTH, THREADS = 1024, 256, 256, 1


def measure(_store: Path, seed: int) -> dict[str, Any]:
    """Time each way on the same numbers, in one process; the store is not used."""
    set_threads(THREADS)
    generator = torch.Generator().manual_seed(seed)
    queries, candidates, grad = (
        torch.randn(shape, generator=generator)
        for shape in ((QUERIES, WIDTH), (CANDIDATES, WIDTH), (QUERIES, CANDIDATES))
    )
    ways: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "modulus_ours": modulus_distance,
        "modulus_eager": eager_modulus,
        "frobenius": RotatEConfig(norm="frobenius").build(WIDTH).score,
        "complex": ComplExConfig().build(WIDTH).score,
        "transe_l1": TransEConfig().build(WIDTH).score,
    }
    # Eager stores queries x candidates x width several times over: fewer calls, they are slow.
    seconds = {
        name: time_calls(both_ways(way, queries, candidates, grad), warm=2, num=5 if "eager" in name else 25)
        for name, way in ways.items()
    }
    median = {name: sorted(values)[len(values) // 2] for name, values in seconds.items()}
    return {
        "queries": QUERIES,
        "candidates": CANDIDATES,
        "width": WIDTH,
        "threads": THREADS,
        "implementation": pick(queries),
        "forward_and_backward": {name: summarise(values) for name, values in seconds.items()},
        "ratio_to_eager": round(median["modulus_eager"] / median["modulus_ours"], 1),
        "scores_per_second": {name: round(QUERIES * CANDIDATES / value) for name, value in median.items()},
    }
