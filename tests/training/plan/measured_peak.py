"""Body of a process whose memory is measured: a trial of a recipe, its steps, its evaluation.

Prints two peaks in bytes: above what the process held when everything was imported and used once, and of all its pages.
"""

import dataclasses
import json
import sys
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from snag_dist.kg.links import LinkSplit
from snag_dist.shard.exchange import Exchange
from snag_dist.shard.group import Group
from snag_dist.shard.ranking import rank_triples
from snag_dist.task.completion import CompletionTask
from snag_dist.training.alignment_scoring import AlignmentScoring
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


def live(recipe: Recipe, sizes: GraphSizes, folder: Path) -> None:
    """What a worker does."""
    trial = Trial.build(recipe, sizes, batch_size=recipe.train.batch_size, scratch=folder)
    trial.stepper.begin_epoch()
    for _ in range(3):
        trial.step()
    checkpoints = Checkpoints(folder / f"checkpoints-{sizes.num_entities}", trial.partition, Group(), "store")
    keeper: Any = SimpleNamespace(state=dict, load_state=lambda state: None)
    checkpoints.save(Cursor(), trial.stepper, keeper, best=False)
    trial.step()
    checkpoints.settle()
    if isinstance(trial.task, CompletionTask):
        dtype = DTYPES[recipe.train.engine.precision]
        encoded = encode_owned(trial.task, trial.stepper.table, trial.features, trial.partition, 0, dtype)
        assert trial.truth is not None
        rank_triples(
            trial.triples[: sizes.num_ranked],
            codes=encoded.codes,
            task=trial.task,
            truth=trial.truth,
            partition=trial.partition,
            group=Group(),
            budget_bytes=recipe.evaluate.budget_bytes,
        )
        return
    half = sizes.num_entities // 2
    sides = np.repeat(np.arange(2), [half, sizes.num_entities - half])
    pairs = np.stack([np.arange(sizes.num_ranked), half + np.arange(sizes.num_ranked)], axis=1)
    place: Any = SimpleNamespace(
        recipe=recipe,
        partition=trial.partition,
        group=Group(),
        features=trial.features,
        dtype=DTYPES[recipe.train.engine.precision],
        store=SimpleNamespace(sides=lambda: sides),
    )
    assert trial.edges is not None
    exchange = Exchange(Group(), trial.partition)
    links = LinkSplit(pairs, pairs, pairs)
    AlignmentScoring(place, trial.task, trial.stepper.table, trial.edges, exchange, links).dev_metrics()


def resident(pages: str = "RssAnon") -> int:
    """Bytes of this process's own pages. Pages of files come and go as the kernel likes, and are left out."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{pages}:"))


class Peak(threading.Thread):
    """Looks at `resident` every millisecond; the kernel keeps a peak only of all pages together."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.bytes = 0
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(1e-3):
            self.bytes = max(self.bytes, resident())

    def end(self) -> int:
        """Return the most that was seen."""
        self._ended.set()
        self.join()
        return self.bytes


if __name__ == "__main__":
    torch.set_num_threads(1)
    recipe, sizes = read_case(sys.argv[1])
    few = min(2000, sizes.num_links or 2000)
    small = dataclasses.replace(sizes, num_entities=2000, num_triples=4000, num_ranked=min(10, few))
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=0, world_size=1)
        live(recipe, small, Path(folder))
        before, peak = resident(), Peak()
        peak.start()
        live(recipe, sizes, Path(folder))
    sys.stdout.write(f"{peak.end() - before} {resident('VmHWM')}\n")
    sys.stdout.flush()
