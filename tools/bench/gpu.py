"""What one GPU does: the modulus against eager, whole steps in bfloat16, a table of 20 M rows, exact ranks.

Needs no store and no network: random triples and vectors. `tools/bench/gpu.sh` runs it. The share of the roofline is of
the card's float32 units outside its matrix units, which the modulus cannot use: multiprocessors x 128 lanes x 2
operations x clock. Operations are counted by the formula, what the backward pass computes again included. Times are
medians with the quartiles around them; what one part takes in all stands in `seconds_by_part`.
"""

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from workbench import both_ways, eager_modulus, summarise, time_calls

from snag_dist.kg.truth import TruthIndex
from snag_dist.method.facts import GraphFacts
from snag_dist.method.snag import SnagConfig
from snag_dist.model.encoder import EncoderConfig, ModalityFacts
from snag_dist.model.features import ColumnStatistics
from snag_dist.model.fusion import GraphFusionConfig
from snag_dist.model.modulus import modulus_distance, pick
from snag_dist.random import Moment
from snag_dist.sampling.negatives import SharedConfig
from snag_dist.shard.exchange import Exchange
from snag_dist.shard.group import Group
from snag_dist.shard.initial_rows import InitialRows
from snag_dist.shard.partition import Partition
from snag_dist.shard.ranking import rank_triples
from snag_dist.shard.row_optimizers import RowwiseAdagradConfig
from snag_dist.shard.table import EntityTable
from snag_dist.task.completion import CompletionBatch, assemble
from snag_dist.training.batches import MemoryTriples
from snag_dist.training.completion import DistributedCompletion
from snag_dist.training.engine import EngineConfig
from snag_dist.training.step import Stepper, Stopwatch

CHANNELS = ("text", "vision")
SHARDS, RELATIONS = 64, 100
# Of a pair and a complex coordinate: two differences, two squares added, a root, a sum.
OPERATIONS_FORWARD = 6
# The differences and the root again, once for each side, a quotient, and both parts of the gradient added up.
OPERATIONS_BACKWARD = 2 * 10
LANES = 128


@dataclass(frozen=True)
class Sizes:
    """How much is measured; the defaults are for a card of 80 GB or more, in less than ten minutes."""

    width: int = 256
    queries: int = 4096
    candidates: int = 1024
    batches: tuple[int, ...] = (4096, 16384, 65536)
    pool: int = 1024
    entities: int = 500_000
    channel_width: int = 384
    table_rows: tuple[int, ...] = (15_000, 20_000_000)
    ranked_entities: int = 1_000_000
    ranked_triples: int = 2000
    warm: int = 5
    calls: int = 20
    rankings: int = 5


def measure(_store: Path, seed: int) -> dict[str, Any]:
    """Measure everything on the first GPU; the store is not used.

    Raises:
        SystemExit: there is no GPU.
    """
    if not torch.cuda.is_available():
        raise SystemExit("gpu: expected a CUDA device, found none; run it where there is one")
    return measure_on(torch.device("cuda", 0), Sizes(), seed)


def measure_on(device: torch.device, sizes: Sizes, seed: int) -> dict[str, Any]:
    """Measure everything on a device; on a CPU it only shows that the program works."""
    os.environ["DS_ACCELERATOR"] = device.type
    alone = nullcontext(None) if dist.is_initialized() else TemporaryDirectory()
    with alone as folder:
        if folder is not None:
            backend = "nccl" if device.type == "cuda" else "gloo"
            dist.init_process_group(backend, init_method=f"file://{folder}/rendezvous", rank=0, world_size=1)
        group = Group(0, 1, device)
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "kernels": lambda: _kernels(device, sizes, seed),
            "steps": lambda: {f"B={batch}": _steps(group, sizes, batch, seed) for batch in sizes.batches},
            "table": lambda: {f"{rows} rows": _table(group, sizes, rows, seed) for rows in sizes.table_rows},
            "ranking": lambda: _ranking(group, sizes, seed),
        }
        figures: dict[str, Any] = {"device": _describe(device)}
        seconds: dict[str, float] = {}
        for name, part in parts.items():
            start = time.perf_counter()
            figures[name] = part()
            seconds[name] = round(time.perf_counter() - start, 1)
            # At once: a part that a limit of time cuts off is seen by what came before it.
            sys.stderr.write(f"gpu: {name} took {seconds[name]} s\n")
        if folder is not None:
            dist.destroy_process_group()
    return {**figures, "seconds_by_part": seconds, "seconds_of_all_parts": round(sum(seconds.values()), 1)}


def _describe(device: torch.device) -> dict[str, Any]:
    if device.type != "cuda":
        return {"kind": device.type}
    card = torch.cuda.get_device_properties(device)
    return {
        "kind": card.name,
        "gigabytes": round(card.total_memory / 1e9, 1),
        "multiprocessors": card.multi_processor_count,
        "cuda": torch.version.cuda,
        "float32_tera_operations": round(_peak(device) / 1e12, 1) or "not known: see share_of_roofline",
    }


def _peak(device: torch.device) -> float:
    """Float32 operations a second outside the matrix units; 0 where they are not known."""
    if device.type != "cuda":
        return 0.0
    return torch.cuda.get_device_properties(device).multi_processor_count * LANES * 2 * _clock(device)


def _clock(device: torch.device) -> float:
    """Highest clock of the multiprocessors in Hz, as torch tells it or else the driver; 0 where neither does."""
    card = torch.cuda.get_device_properties(device)
    # Not every torch has it.
    told = getattr(card, "clock_rate", 0) * 1e3
    program = shutil.which("nvidia-smi")
    if told or program is None:
        return told
    # By its own name: torch counts only the cards it may use.
    asked = [program, f"--id=GPU-{card.uuid}", "--query-gpu=clocks.max.sm", "--format=csv,noheader,nounits"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    words = done.stdout.strip()
    return 1e6 * float(words) if done.returncode == 0 and words.isdigit() else 0.0


def _share_of_roofline(operations_a_second: float, device: torch.device) -> float | str:
    """Part of what the card could do, or why that is not known."""
    peak = _peak(device)
    if peak:
        return round(operations_a_second / peak, 3)
    if device.type != "cuda":
        return "not known: no GPU"
    return f"not known: neither torch {torch.__version__} nor nvidia-smi tells the clock of the card"


def _time(call: Callable[[], object], device: torch.device, sizes: Sizes) -> list[float]:
    """Seconds of calls, the device waited for."""
    wait = torch.cuda.synchronize if device.type == "cuda" else (lambda: None)
    seconds: list[float] = []
    for number in range(sizes.warm + sizes.calls):
        wait()
        start = time.perf_counter()
        call()
        wait()
        if number >= sizes.warm:
            seconds.append(time.perf_counter() - start)
    return seconds


def _kernels(device: torch.device, sizes: Sizes, seed: int) -> dict[str, Any]:
    """Forward and backward of all pairs, ours against eager, by format."""
    found: dict[str, Any] = {}
    generator = torch.Generator().manual_seed(seed)
    shapes = ((sizes.queries, sizes.width), (sizes.candidates, sizes.width), (sizes.queries, sizes.candidates))
    drawn = [torch.randn(shape, generator=generator) for shape in shapes]
    operations = sizes.queries * sizes.candidates * sizes.width / 2 * (OPERATIONS_FORWARD + OPERATIONS_BACKWARD)
    for dtype in (torch.float32, torch.bfloat16):
        queries, candidates, grad = (one.to(device, dtype) for one in drawn)
        seconds = {
            name: _time(both_ways(way, queries, candidates, grad), device, sizes)
            for name, way in (("ours", modulus_distance), ("eager", eager_modulus))
        }
        ours, eager = (statistics.median(found) for found in seconds.values())
        found[str(dtype).removeprefix("torch.")] = {
            "implementation": pick(queries),
            **{name: summarise(found, digits=3) for name, found in seconds.items()},
            "ratio_to_eager": round(eager / ours, 1),
            "pairs_a_second": round(sizes.queries * sizes.candidates / ours),
            "share_of_roofline": _share_of_roofline(operations / ours, device),
        }
    return found


class RandomVectors:
    """Vectors of one channel, drawn once and used for all entities in turn."""

    def __init__(self, width: int, seed: int):
        self._block = np.random.default_rng(seed).standard_normal((4096, width), dtype=np.float32)

    def gather(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return vectors (N, F) and that all are there, as `FeatureRows.gather` does."""
        return self._block[rows % len(self._block)], np.ones(len(rows), dtype=np.bool_)


def _make(
    group: Group, sizes: Sizes, *, entities: int, batch: int, whole: bool, seed: int
) -> tuple[Stepper, list[tuple[CompletionBatch, Moment]]]:
    """A worker of one on random triples: the whole encoder in bfloat16, or structure alone."""
    count = sizes.warm + sizes.calls
    draw = np.random.default_rng(seed)
    triples = np.stack([draw.integers(0, limit, batch * count) for limit in (entities, RELATIONS, entities)], axis=1)
    channels = CHANNELS if whole else ()
    statistics_of = ColumnStatistics(torch.zeros(sizes.channel_width), torch.ones(sizes.channel_width))
    facts = {name: ModalityFacts(sizes.channel_width, statistics_of) for name in channels}
    encoder = (
        EncoderConfig(width=sizes.width) if whole else EncoderConfig(width=sizes.width, fusion=GraphFusionConfig())
    )
    config = SnagConfig(encoder=encoder, negatives=SharedConfig(num=sizes.pool))
    task = config.build_completion(GraphFacts(entities, RELATIONS, facts), seed)
    partition = Partition(entities, SHARDS, 1)
    start = InitialRows("uniform", task.scorer.entity_bound)
    table = EntityTable(RowwiseAdagradConfig(), partition, group, width=sizes.width, start=start, seed=seed)
    module = DistributedCompletion(task, Exchange(group, partition), Stopwatch(group.device))
    on_gpu = group.device.type == "cuda"
    engine = EngineConfig(precision="bfloat16", zero_stage=1) if on_gpu else EngineConfig()
    features: Any = {name: RandomVectors(sizes.channel_width, seed) for name in channels}
    stepper = Stepper(module, table, features, group, engine, clip_norm=0.0, micro_batch=batch)
    sampler = config.build_sampler(TruthIndex.build(triples, entities, RELATIONS))
    batches: list[tuple[CompletionBatch, Moment]] = []
    for number, part in enumerate(MemoryTriples(triples, batch, group, seed).epoch(0, 0)):
        moment = Moment(seed, 0, number)
        batches.append((assemble(sampler.draw(part.positives, part.first, moment), batch), moment))
    stepper.begin_epoch()
    return stepper, batches


def _steps(group: Group, sizes: Sizes, batch: int, seed: int) -> dict[str, Any]:
    """Whole steps of three channels; drawing of batches, which goes on beside steps, is left out."""
    stepper, batches = _make(group, sizes, entities=sizes.entities, batch=batch, whole=True, seed=seed)
    _forget_peak(group.device)
    numbers = iter(range(len(batches)))
    seconds = _time(lambda: stepper.step(*batches[next(numbers)], 1e-3), group.device, sizes)
    phases = stepper.stopwatch.read()
    total = sum(phases.values()) or 1.0
    middle = statistics.median(seconds)
    return {
        "step": summarise(seconds, digits=3),
        "triples_a_second": round(batch / middle),
        "candidates_a_second": round(batch * sizes.pool / middle),
        "share_by_phase": {name: round(value / total, 3) for name, value in phases.items()},
        "peak_gb": _peak_gb(group.device),
    }


def _table(group: Group, sizes: Sizes, rows: int, seed: int) -> dict[str, Any]:
    """Steps of structure alone over a table on the device."""
    _forget_peak(group.device)
    stepper, batches = _make(group, sizes, entities=rows, batch=sizes.batches[0], whole=False, seed=seed)
    numbers = iter(range(len(batches)))
    seconds = _time(lambda: stepper.step(*batches[next(numbers)], 1e-3), group.device, sizes)
    return {
        "batch": sizes.batches[0],
        "step": summarise(seconds, digits=3),
        "triples_a_second": round(sizes.batches[0] / statistics.median(seconds)),
        "peak_gb": _peak_gb(group.device),
    }


def _ranking(group: Group, sizes: Sizes, seed: int) -> dict[str, Any]:
    """Exact filtered ranks among random codes."""
    num = sizes.ranked_entities
    draw = np.random.default_rng(seed)
    triples = np.stack([draw.integers(0, limit, sizes.ranked_triples) for limit in (num, RELATIONS, num)], axis=1)
    config = SnagConfig(encoder=EncoderConfig(width=sizes.width, fusion=GraphFusionConfig()))
    task = config.build_completion(GraphFacts(num, RELATIONS, {}), seed).to(group.device)
    codes = torch.randn(num, sizes.width, generator=torch.Generator().manual_seed(seed)).to(group.device)
    truth, partition = TruthIndex.build(triples, num, RELATIONS), Partition(num, SHARDS, 1)

    def rank() -> None:
        # It returns ranks in the memory of the host: the device has been waited for.
        rank_triples(
            triples, codes=codes, task=task, truth=truth, partition=partition, group=group, budget_bytes=4 << 30
        )

    seconds = time_calls(rank, warm=1, num=sizes.rankings)
    return {
        "entities": num,
        "queries": 2 * len(triples),
        "ranking": summarise(seconds),
        "scores_a_second": round(2 * len(triples) * num / statistics.median(seconds)),
    }


def _forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def _peak_gb(device: torch.device) -> float | None:
    return round(torch.cuda.max_memory_allocated(device) / 1e9, 2) if device.type == "cuda" else None
