"""Forward and backward of many scores: the modulus in all versions, the scorers that multiply matrices, and the loss.

In seconds of the processor, on one thread: other work on the machine is not counted.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from workbench import both_ways, eager_modulus, set_threads, summarise, time_calls

from snag_dist.model.modulus import modulus_distance, pick
from snag_dist.model.scorer import ComplExConfig, RotatEConfig, TransEConfig
from snag_dist.objective.losses import SelfAdversarialConfig
from snag_dist.training.allocator import StepMemory

QUERIES, CANDIDATES, WIDTH, THREADS = 1024, 256, 256, 1
# Share of candidates that a batch excludes.
_EXCLUDED = 0.01
_CALLS = 25
# Versions that store queries x candidates x width several times over, or take as long: fewer calls.
_SLOW_CALLS = {"modulus_eager": 5, "modulus_torch_compile": 5}


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
        "modulus_blocked": partial(modulus_distance, implementation="blocked"),
        "modulus_eager": eager_modulus,
        "frobenius": RotatEConfig(norm="frobenius").build(WIDTH).score,
        "complex": ComplExConfig().build(WIDTH).score,
        "transe_l1": TransEConfig().build(WIDTH).score,
    }
    seconds = {name: _time(name, both_ways(way, queries, candidates, grad)) for name, way in ways.items()}
    compiled, without = _time_torch_compile(both_ways(torch.compile(eager_modulus), queries, candidates, grad))
    seconds |= compiled
    median = {name: sorted(values)[len(values) // 2] for name, values in seconds.items()}
    others = {name: median[name] for name in seconds if name.startswith("modulus_") and name != "modulus_ours"}
    return {
        "queries": QUERIES,
        "candidates": CANDIDATES,
        "width": WIDTH,
        "threads": THREADS,
        "clock": "process_time",
        "implementation": pick(queries),
        "torch_compile": without or "measured",
        "forward_and_backward": {name: summarise(values) for name, values in seconds.items()},
        "ratio_to_eager": round(median["modulus_eager"] / median["modulus_ours"], 1),
        "ratio_to": {name: round(value / median["modulus_ours"], 1) for name, value in others.items()},
        "scores_per_second": {name: round(QUERIES * CANDIDATES / value) for name, value in median.items()},
        "loss": _measure_loss(modulus_distance(queries, candidates), median["modulus_ours"], generator),
    }


def _time(name: str, call: Callable[[], object]) -> list[float]:
    return time_calls(call, warm=2, num=_SLOW_CALLS.get(name, _CALLS), clock=time.process_time)


def _time_torch_compile(call: Callable[[], object]) -> tuple[dict[str, list[float]], str]:
    """The plain formula as torch compiles it, by name; without a compiler nothing, and why."""
    name = "modulus_torch_compile"
    try:
        return {name: _time(name, call)}, ""
    except Exception as error:  # noqa: BLE001 - torch raises of many kinds where no C++ compiler works
        reason = f"not measured: {type(error).__name__}: {error}".splitlines()[0]
        print(f"torch.compile: {reason}")
        return {}, reason


def _measure_loss(distances: Tensor, kernel: float, generator: torch.Generator) -> dict[str, Any]:
    """What the self-adversarial loss costs beside the kernel (seconds), and what a fused one could save at most.

    No version is spared the exponentials and the logarithm of every score: what the loss takes beyond them is the most
    that fusing could save.
    """
    # Around zero, as in training, where the sigmoid is neither 0 nor 1.
    false = (0.1 * (distances.mean() - distances)).detach().requires_grad_()
    true = torch.randn(len(false), generator=generator).requires_grad_()
    excluded = torch.rand(false.shape, generator=generator) < _EXCLUDED
    loss = SelfAdversarialConfig().build()

    def whole() -> None:
        torch.autograd.grad(loss(true, false, excluded).loss, (true, false))

    def floor() -> None:
        scores = false.detach()
        torch.softmax(scores, dim=1)
        functional.logsigmoid(scores)
        torch.sigmoid(scores)

    # As in a step, whose memory is used again.
    with StepMemory():
        seconds = {"whole": _time("loss", whole), "exponentials": _time("loss", floor)}
    taken, least = (sorted(values)[len(values) // 2] for values in seconds.values())
    return {
        "forward_and_backward": {name: summarise(values) for name, values in seconds.items()},
        "share_of_kernel_and_loss": round(taken / (kernel + taken), 3),
        "fusing_saves_at_most": round((taken - least) / (kernel + taken), 3),
    }
