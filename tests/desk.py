"""A working folder as a user has it, small, and the jobs run on it in this process and without Ray.

    graph/          an OpenKE folder: 12 entities, 2 relations, 30, 4 and 4 triples
    pair/           two graphs of 120 entities each, linked one to one
    vectors.npy     a vector of 6 numbers for every entity of `graph`
    pictures/       a picture of each of three entities, one of them broken
    texts.tsv       a sentence about every entity
    mine.toml, pair.toml, sweep.toml    recipes of completion, of alignment, and of a sweep around the first
    store/          the store of mine.toml, with the modality `numbers`
    pair-store/     the store of pair.toml
    runs/done/      a finished run of mine.toml
    runs/pair/      a finished run of pair.toml

Ray's part is played by a few lines: blocks are mapped here, and the one worker of a run trains here. What driver and
worker do, and what they say, is the product's own.
"""

import runpy
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pytest
import ray
from PIL import Image
from small_pair import write_pair

from snag_dist.console import run_job
from snag_dist.shard.group import Group
from snag_dist.store.opened import Store
from snag_dist.training.recipe import Recipe
from snag_dist.training.run_folder import RunFolder
from snag_dist.training.worker import Worker, WorkerContext

JOBS = Path(__file__).parents[1] / "jobs"
NUM = 12
NUM_TRIPLES = {"train": 30, "valid": 4, "test": 4}
CPUS = 2.0
"""What the cluster is said to have."""

MINE = """
name = "done"
store = "store"
data = "graph"
modalities = ["numbers"]
[ingest]
virtual_shards = 2
[ingest.source]
kind = "openke"
folder = "{data}"
[features.numbers]
kind = "array"
path = "vectors.npy"
[method.encoder]
width = 8
[method.negatives]
num = 4
[train]
epochs = 1
batch_size = 8
evaluate_every = 1
"""

PAIR = """
name = "pair"
store = "pair-store"
data = "pair"
[ingest]
virtual_shards = 2
[ingest.source]
kind = "alignment"
folder = "{data}"
[features.relation]
kind = "relation_bag"
[features.attribute]
kind = "attribute_bag"
folder = "{data}"
[method]
kind = "snag_alignment"
[method.encoder]
width = 8
[train]
epochs = 1
batch_size = 8
evaluate_every = 1
"""

SWEEP = """
base = "mine.toml"
name = "sweep"
[train]
epochs = 9
[tune.space]
"method.noise.probability" = { kind = "grid", values = [0.2, 0.4] }
"""


class Blocks:
    """Blocks that are mapped in this process, in place of a dataset of Ray Data."""

    def __init__(self, blocks: Iterable[pa.Table]) -> None:
        self._blocks = blocks

    def map_batches(self, function: Any, *, fn_constructor_args: Sequence[Any] = (), **_: Any) -> Self:
        """Apply a function to every block, or an object of a class that is made once."""
        apply = function(*fn_constructor_args) if isinstance(function, type) else function
        return type(self)(map(apply, self._blocks))

    def iter_rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of all blocks."""
        for block in self._blocks:
            yield from block.to_pylist()


def _train_here(recipe: Recipe, store: Store, folder: RunFolder, settings: dict[str, Any]) -> dict[str, Any] | None:
    context = WorkerContext(group=Group(), report=lambda metrics: None, triples=settings.get("triples"))
    worker = Worker(recipe, context)
    return worker.train() if settings["split"] is None else worker.evaluate(settings["split"])


def _refuse(*_: Any, **__: Any) -> None:
    raise AssertionError("Ray must not be started here")


def hold_ray_out(patch: pytest.MonkeyPatch) -> None:
    """Play Ray's part in this process, until the patch is undone."""
    patch.setattr(ray, "init", _refuse)
    patch.setattr(ray, "put", lambda value: value)
    patch.setattr(ray, "get", lambda value: value)
    patch.setattr(ray, "cluster_resources", lambda: {"CPU": CPUS})
    patch.setattr(ray, "nodes", list)
    patch.setattr("snag_dist.api.connect", lambda cluster: None)
    patch.setattr("snag_dist.store.extract.dataset_of_blocks", Blocks)
    patch.setattr("snag_dist.training.launch._fit", _train_here)


class Done(NamedTuple):
    """What a job left behind: exit code, and what it wrote to both streams."""

    code: int | str | None
    out: str
    err: str


def run(job: str, options: Sequence[str], patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> Done:
    """Run a job in the working folder as a program, in this process."""
    function: Callable[..., None] = runpy.run_path(str(JOBS / f"{job}.py"))[job]
    patch.setattr(sys, "argv", [job, *options])
    patch.setenv("COLUMNS", "200")
    capture.readouterr()
    with pytest.raises(SystemExit) as ended:
        run_job(function)
    captured = capture.readouterr()
    return Done(ended.value.code, captured.out, captured.err)


def write_desk(folder: Path) -> None:
    """Write the raw data and the recipes."""
    for name, text in (("mine", MINE), ("pair", PAIR), ("sweep", SWEEP)):
        (folder / f"{name}.toml").write_text(text)
    _write_graph(folder / "graph")
    (folder / "pair").mkdir()
    write_pair(folder / "pair")
    np.save(folder / "vectors.npy", np.random.default_rng(0).normal(size=(NUM, 6)).astype(np.float32))
    (folder / "texts.tsv").write_text("key\ttext\n" + "".join(f"e{i}\tthing {i}\n" for i in range(NUM)))
    (folder / "pictures").mkdir()
    for i in range(3):
        Image.new("L", (4, 4), 50 * i).save(folder / "pictures" / f"e{i}.png")
    broken = folder / "pictures" / "e2.png"
    broken.write_bytes(broken.read_bytes()[:40])


def _write_graph(folder: Path) -> None:
    folder.mkdir()
    for what, num in (("entity", NUM), ("relation", 2)):
        lines = [f"{what[0]}{i}\t{i}" for i in range(num)]
        (folder / f"{what}2id.txt").write_text("\n".join([str(num), *lines]) + "\n")
    triples = [(i, (i + step) % NUM, step % 2) for step in range(1, 5) for i in range(NUM)]
    start = 0
    for split, num in NUM_TRIPLES.items():
        rows = [" ".join(map(str, triple)) for triple in triples[start : start + num]]
        (folder / f"{split}2id.txt").write_text("\n".join([str(num), *rows]) + "\n")
        start += num


def copy_desk(desk: Path, folder: Path) -> None:
    """Copy a working folder to another place; a run knows its places by their full paths."""
    shutil.copytree(desk, folder, dirs_exist_ok=True)
    for config in folder.glob("runs/*/config.json"):
        config.write_text(config.read_text().replace(str(desk), str(folder)))
