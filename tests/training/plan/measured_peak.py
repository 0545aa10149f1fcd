"""What processes hold at their peak that do as workers do: a trial of a recipe, its steps, its evaluation."""

import ctypes
import dataclasses
import gc
import json
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from snag_dist.kg.links import LinkSplit
from snag_dist.kg.truth import TruthIndex
from snag_dist.shard.exchange import Exchange
from snag_dist.shard.group import Group
from snag_dist.shard.ranking import rank_triples
from snag_dist.task.completion import CompletionTask
from snag_dist.training import allocator, checkpoint
from snag_dist.training.alignment_scoring import AlignmentScoring
from snag_dist.training.allocator import StepMemory
from snag_dist.training.background import Background
from snag_dist.training.checkpoint import Checkpoints
from snag_dist.training.completion_scoring import encode_owned
from snag_dist.training.cursor import Cursor
from snag_dist.training.engine import DTYPES
from snag_dist.training.plan.sizes import GraphSizes, ModalitySize
from snag_dist.training.plan.trial import Trial
from snag_dist.training.recipe import Recipe


def read_case(text: str) -> tuple[Recipe, GraphSizes]:
    """A recipe and sizes from JSON."""
    tree = json.loads(text)
    modalities = {name: ModalitySize(width, 2) for name, width in tree["sizes"].pop("modalities").items()}
    return Recipe.model_validate(tree["recipe"]), GraphSizes(modalities=modalities, **tree["sizes"])


def resident(pages: str = "RssAnon") -> int:
    """Bytes of this process's own pages. Pages of files come and go as the kernel likes, and are left out."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{pages}:"))


class Peaks(threading.Thread):
    """Looks at `resident` every millisecond; the kernel keeps a peak only of all pages together."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.by_phase: dict[str, int] = {}
        self._phase = "start"
        self._ended = threading.Event()

    def begin(self, phase: str) -> None:
        """Name what follows."""
        self._phase = phase

    def run(self) -> None:
        while not self._ended.wait(1e-3):
            self.by_phase[self._phase] = max(self.by_phase.get(self._phase, 0), resident())

    def end(self) -> None:
        """Stop looking."""
        self._ended.set()
        self.join()


@contextmanager
def disk_that_waits() -> Iterator[None]:
    """Begin to write checkpoints when this is left: a small copy is else gone before the step has its peak."""
    over = threading.Event()

    class Waiting(Background[Any]):
        def __init__(self, work: Callable[[], Any]):
            def later() -> Any:
                over.wait()
                return work()

            super().__init__(later)

    original, checkpoint.Background = checkpoint.Background, Waiting
    try:
        yield
    finally:
        checkpoint.Background = original
        over.set()


def live(recipe: Recipe, sizes: GraphSizes, group: Group, folder: Path, peaks: Peaks) -> None:
    """What a worker does."""
    peaks.begin("start")
    batch_size = min(recipe.train.batch_size, sizes.num_links or sizes.num_triples)
    trial = Trial.build(recipe, sizes, batch_size=batch_size, scratch=folder, group=group)
    trial.stepper.begin_epoch()
    peaks.begin("step")
    for _ in range(4):
        trial.step()
    peaks.begin("checkpoint")
    checkpoints = Checkpoints(folder / f"checkpoints-{sizes.num_entities}", trial.partition, group, "store")
    keeper: Any = SimpleNamespace(state=dict, load_state=lambda state: None)
    # Rows on a disk are not copied: a step waits until they are written.
    with nullcontext() if recipe.table.placement == "disk" else disk_that_waits():
        checkpoints.save(Cursor(), trial.stepper, keeper, best=False)
        trial.step()
    checkpoints.settle()
    peaks.begin("evaluation")
    trial.stepper.release_memory()
    evaluate(recipe, sizes, trial)


def evaluate(recipe: Recipe, sizes: GraphSizes, trial: Trial) -> None:
    """Rank as a worker does."""
    dtype, group = DTYPES[recipe.train.engine.precision], trial.group
    config = recipe.evaluate
    if isinstance(trial.task, CompletionTask):
        table, features = trial.stepper.table, trial.features
        encoded = encode_owned(trial.task, table, features, trial.partition, group.rank, dtype)
        # A worker has one of its own for dev, beside that of its sampler.
        truth = TruthIndex.build(trial.triples, sizes.num_entities, sizes.num_relations)
        rank_triples(
            trial.triples[: sizes.num_ranked],
            codes=encoded.codes,
            task=trial.task,
            truth=truth,
            partition=trial.partition,
            group=group,
            budget_bytes=config.budget_bytes,
            dtype=DTYPES[config.precision],
            first_pass=None if config.first_pass == "exact" else DTYPES[config.first_pass],
        )
        return
    half = sizes.num_entities // 2
    sides = np.repeat(np.arange(2), [half, sizes.num_entities - half])
    pairs = np.stack([np.arange(sizes.num_ranked), half + np.arange(sizes.num_ranked)], axis=1)
    place: Any = SimpleNamespace(
        recipe=recipe,
        partition=trial.partition,
        group=group,
        features=trial.features,
        dtype=dtype,
        store=SimpleNamespace(sides=lambda: sides),
    )
    assert trial.edges is not None
    exchange = Exchange(group, trial.partition)
    links = LinkSplit(pairs, pairs, pairs)
    AlignmentScoring(place, trial.task, trial.stepper.table, trial.edges, exchange, links).dev_metrics()


def tidy() -> int:
    """Let go of what is held for nothing, and return what is left."""
    gc.collect()
    StepMemory(reuse=True).release()
    return resident()


def measure(group: Group, case: str) -> dict[str, Any]:
    """One worker's trial of a case, in a process of its own that has taken no step before.

    Returns:
        Bytes by phase above what the process held after a small trial, and `everything`, all its pages at their peak.
    """
    _set_allocator()
    recipe, sizes = read_case(case)
    few = min(2000, sizes.num_links or 2000)
    small = dataclasses.replace(
        sizes, num_entities=2000, num_triples=4000, num_ranked=min(10, few), num_links=min(few, sizes.num_links)
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(group.broadcast_object(scratch))
        live(recipe, small, group, folder, Peaks())
        base, peaks = tidy(), Peaks()
        peaks.start()
        live(recipe, sizes, group, folder, peaks)
        peaks.end()
        group.barrier()
    above = {phase: peak - base for phase, peak in peaks.by_phase.items()}
    return {**above, "everything": resident("VmHWM"), "base": base}


def _set_allocator() -> None:
    # As `allocator.ENVIRONMENT` sets it for workers; this process has begun already.
    library = ctypes.CDLL(None)
    for option, name in ((-8, "MALLOC_ARENA_MAX"), (-3, "MALLOC_MMAP_THRESHOLD_")):
        library.mallopt(option, int(allocator.ENVIRONMENT[name]))
