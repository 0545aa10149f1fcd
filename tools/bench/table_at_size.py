"""Does a step cost more in a large table, and how much memory do two workers need for it? 15 thousand and 5 M rows.

Needs no store: random triples, structure only. Wall time says what a person waits; seconds of the processor, which
other work on the machine disturbs less, say what a step costs.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from workbench import memory_gb, run_in_processes, summarise

from snag_dist.kg.truth import TruthIndex
from snag_dist.method.facts import GraphFacts
from snag_dist.method.snag import SnagConfig
from snag_dist.model.encoder import EncoderConfig
from snag_dist.model.fusion import GraphFusionConfig
from snag_dist.random import Moment
from snag_dist.shard.exchange import Exchange
from snag_dist.shard.group import Group
from snag_dist.shard.initial_rows import InitialRows
from snag_dist.shard.partition import Partition
from snag_dist.shard.row_optimizers import LazyAdamConfig, RowwiseAdagradConfig
from snag_dist.shard.table import EntityTable
from snag_dist.task.completion import assemble
from snag_dist.training.batches import MemoryTriples
from snag_dist.training.completion import DistributedCompletion
from snag_dist.training.engine import EngineConfig
from snag_dist.training.step import Stepper, Stopwatch

SMALL, LARGE, WIDTH = 15_000, 5_000_000, 256
BATCH, POOL, SHARDS, RELATIONS, TRIPLES = 1024, 256, 64, 100, 200_000
TOUCHED = 2 * BATCH + POOL
WARM, STEPS, WORKERS = 10, 60, 2
KINDS: dict[str, Any] = {"rowwise_adagrad": RowwiseAdagradConfig, "lazy_adam": LazyAdamConfig}


def measure(store: Path, seed: int) -> dict[str, Any]:
    """Time steps of the table alone and of two whole workers, small and large; memory of the workers."""
    del store
    one_worker = run_in_processes(1, _alternate, seed)[0]
    whole = {
        (placement, size): run_in_processes(WORKERS, _train, placement, size, seed)
        for placement, sizes in (("device", (SMALL, LARGE)), ("disk", (LARGE,)))
        for size in sizes
    }
    alone = {
        name: {size: run_in_processes(1, _table_alone, name, size, seed)[0] for size in (SMALL, LARGE)}
        for name in KINDS
    }
    return {
        "width": WIDTH,
        "threads": 1,
        "table_alone": {
            name: {
                "touched_rows": TOUCHED,
                **{f"{size}_rows": sizes[size] for size in sizes},
                "processor_large_over_small": round(_processor_ms(sizes[LARGE]) / _processor_ms(sizes[SMALL]), 3),
            }
            for name, sizes in alone.items()
        },
        "whole_step_of_one_worker_in_turn": one_worker,
        "two_workers_rowwise_adagrad": {
            "batch": BATCH,
            "negatives": f"{POOL} shared",
            **{f"{placement}_{size}_rows": _summed(workers) for (placement, size), workers in whole.items()},
            "processor_large_over_small": round(
                statistics.mean(map(_processor_ms, whole["device", LARGE]))
                / statistics.mean(map(_processor_ms, whole["device", SMALL])),
                3,
            ),
        },
    }


def _processor_ms(figures: dict[str, Any]) -> float:
    return figures["processor"]["median_ms"]


def _summed(workers: list[dict[str, Any]]) -> dict[str, Any]:
    """Memory of all workers; the times of each, since they wait for one another."""
    gigabytes = {
        name: round(sum(worker[name] for worker in workers), 2) for name in ("peak_gb", "proportional_gb", "before_gb")
    }
    return {"workers": [{name: worker[name] for name in ("wall", "processor")} for worker in workers], **gigabytes}


def _table_alone(group: Group, kind: str, num_rows: int, seed: int) -> dict[str, Any]:
    """Look up and update the rows of a batch."""
    partition = Partition(num_rows, SHARDS, 1)
    table = EntityTable(KINDS[kind](), partition, group, width=WIDTH, start=InitialRows("uniform", 0.1), seed=seed)
    draw = np.random.default_rng(seed)
    touched = [torch.from_numpy(np.unique(draw.integers(0, num_rows, TOUCHED))) for _ in range(WARM + STEPS)]
    grad = torch.randn(TOUCHED, WIDTH)

    def step(number: int) -> None:
        ids = touched[number]
        table.lookup(ids)
        table.step(ids, grad[: len(ids)], 1e-3, number)

    return _time(step)


def _alternate(group: Group, seed: int) -> dict[str, Any]:
    """Whole steps of one worker, small and large table in turn, so that both see the same machine."""
    with tempfile.TemporaryDirectory() as scratch:
        steps = {size: _make_step(group, "device", size, seed, Path(scratch)) for size in (SMALL, LARGE)}
        seconds: dict[int, list[float]] = {size: [] for size in steps}
        for number in range(WARM + STEPS):
            for size, step in steps.items():
                start = time.process_time()
                step(number)
                seconds[size].append(time.process_time() - start)
    small, large = (statistics.median(seconds[size][WARM:]) for size in (SMALL, LARGE))
    return {
        **{f"processor_{size}_rows": summarise(seconds[size][WARM:]) for size in seconds},
        "large_over_small": round(large / small, 3),
    }


def _train(group: Group, placement: str, num_entities: int, seed: int) -> dict[str, Any]:
    """Whole steps of one of the workers."""
    before = memory_gb()
    with tempfile.TemporaryDirectory() as scratch:
        step = _make_step(group, placement, num_entities, seed, Path(scratch))
        times = _time(step)
        end = memory_gb()
    return {
        **times,
        "peak_gb": end["VmHWM"],
        "proportional_gb": end["Pss"],
        "before_gb": before["VmRSS"],
    }


def _make_step(group: Group, placement: str, num_entities: int, seed: int, scratch: Path) -> Callable[[int], None]:
    """Build a worker; its steps are called by number."""
    draw = np.random.default_rng(seed)
    columns = [draw.integers(0, limit, TRIPLES) for limit in (num_entities, RELATIONS, num_entities)]
    triples = np.stack(columns, axis=1)
    config = SnagConfig(encoder=EncoderConfig(width=WIDTH, fusion=GraphFusionConfig()))
    task = config.build_completion(GraphFacts(num_entities, RELATIONS, {}), seed)
    partition = Partition(num_entities, SHARDS, group.size)
    table = EntityTable(
        RowwiseAdagradConfig.model_validate({"placement": placement}),
        partition,
        group,
        width=WIDTH,
        start=InitialRows("uniform", task.scorer.entity_bound),
        seed=seed,
        scratch=scratch,
    )
    module = DistributedCompletion(task, Exchange(group, partition), Stopwatch(group.device))
    stepper = Stepper(module, table, {}, group, EngineConfig(), clip_norm=0.0, micro_batch=BATCH // group.size)
    sampler = config.build_sampler(TruthIndex.build(triples, num_entities, RELATIONS))
    parts = MemoryTriples(triples, BATCH, group, seed).epoch(0, 0)
    moments = [Moment(seed, 0, number) for number in range(WARM + STEPS)]
    drawn = [sampler.draw(part.positives, part.first, at) for part, at in zip(parts, moments, strict=False)]
    batches = [(assemble(one, BATCH), at) for one, at in zip(drawn, moments, strict=True)]
    stepper.begin_epoch()

    def step(number: int) -> None:
        following = batches[number + 1] if number + 1 < len(batches) else None
        stepper.step(*batches[number], 1e-3, following=following)

    return step


def _time(step: Callable[[int], None]) -> dict[str, Any]:
    wall: list[float] = []
    processor: list[float] = []
    for number in range(WARM + STEPS):
        start = time.perf_counter(), time.process_time()
        step(number)
        wall.append(time.perf_counter() - start[0])
        processor.append(time.process_time() - start[1])
    return {"wall": summarise(wall[WARM:], digits=3), "processor": summarise(processor[WARM:], digits=3)}
