"""Streamed triples with the mapped known-true index: the run of the index in memory, and no training split is held."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from desk import hold_ray_out, write_desk
from distributed import run_distributed

import snag_dist
from snag_dist.errors import DataError
from snag_dist.random import Stream
from snag_dist.shard.group import Group
from snag_dist.store import opened
from snag_dist.store.opened import open_store
from snag_dist.store.stream import StreamPlan, _windows, plan_stream, read_window
from snag_dist.training.graph import open_graph
from snag_dist.training.known_true import index_splits, make_indexes
from snag_dist.training.recipe import Recipe, load_recipe
from snag_dist.training.run_folder import RunFolder
from snag_dist.training.worker import Worker, WorkerContext

STREAM = "train.residency.kind=stream"
INDEXES = ["train", "train+valid", "train+valid+test"]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a store, and Ray held out."""
    write_desk(tmp_path)
    monkeypatch.chdir(tmp_path)
    hold_ray_out(monkeypatch)
    snag_dist.extract(load_recipe(Path("mine.toml")))
    return tmp_path


def recipe(folder: Path, *overrides: str) -> Recipe:
    places = [f"{name}={folder}/{place}" for name, place in (("store", "store"), ("runs", "runs"))]
    return load_recipe(folder / "mine.toml", [*places, "train.epochs=3", "train.log_every=1", *overrides])


def slices(recipe: Recipe, plan: StreamPlan, rank: int) -> Iterator[np.ndarray]:
    """Slices of a worker, as Ray Data hands them out: blocks of a window to workers in turn."""
    store = open_store(recipe.store)
    parts = store.triple_parts("train")
    sizes = np.array([30])
    for epoch in range(recipe.train.epochs):
        for window in _windows(parts, sizes, plan, Stream(recipe.seed, "store/stream", epoch)):
            table = read_window(window, plan=plan, seed=recipe.seed)
            rows = np.stack([table[name].to_numpy() for name in ("head", "relation", "tail")], axis=1)
            blocks = rows.reshape(-1, plan.num_workers, plan.steps_per_block, plan.local_batch, 3)
            yield from blocks[:, rank].reshape(-1, plan.local_batch, 3)


def train_twice(group: Group, folder: Path) -> Any:
    """Train with the index in memory, then with the mapped one."""
    return train(group, folder, "memory"), train(group, folder, "stream")


def train(group: Group, folder: Path, kind: str) -> Any:
    """Train on a stream with the index as a residency has it; return losses, dev metrics and the report."""
    chosen = recipe(folder, f"name={kind}", f"train.residency.kind={kind}")
    if kind == "stream":
        refuse_whole_splits()
    plan = plan_stream(30, chosen.train.batch_size, group.size, 16)
    stream = slices(chosen, plan, group.rank), plan
    report = Worker(chosen, WorkerContext(group, lambda _metrics: None, stream=stream)).train()
    group.barrier()
    lines = [json.loads(line) for line in RunFolder(chosen.run_path).log.read_text().splitlines()]
    assert report is not None
    # Where it lies and how long it took is another matter.
    kept = {name: report[name] for name in ("metrics", "slices") if name in report}
    return [[line.get("loss"), line.get("dev")] for line in lines if "loss" in line or "dev" in line], kept


def refuse_whole_splits() -> None:
    """Let nobody read the training triples at once in this process, which ends after it."""
    read = opened.read_triples

    def read_few(parts: Any) -> Any:
        assert not any("train" in part.parts for part in parts), "training triples were read whole"
        return read(parts)

    opened.read_triples = read_few


def test_two_workers_train_as_with_the_index_in_memory(desk: Path) -> None:
    chosen = recipe(desk, STREAM)
    make_indexes(chosen, open_graph(chosen), None, score_test=True)
    assert sorted(path.name for path in (desk / "store" / "known_true").iterdir()) == INDEXES
    for in_memory, mapped in run_distributed(train_twice, 2, desk):
        # Losses, dev metrics and ranks, bit for bit.
        assert mapped == in_memory
        losses = [loss for loss, _ in mapped[0] if loss is not None]
        assert len(losses) == 9
        assert all(np.isfinite(losses))
        assert mapped[1]["metrics"]["num_queries"] == 8


def test_the_driver_makes_what_workers_will_map_and_no_more(desk: Path) -> None:
    folder = desk / "store" / "known_true"
    store = open_store(desk / "store")

    def made(*overrides: str, split: str | None = None, score_test: bool = True) -> list[str]:
        shutil.rmtree(folder, ignore_errors=True)
        make_indexes(recipe(desk, *overrides), store, split, score_test=score_test)
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    assert made("train.residency.kind=memory") == made() == []
    assert made("train.residency.budget_bytes=100") == INDEXES
    # A trial of a search does not read the test split.
    assert made(STREAM, score_test=False) == INDEXES[:2]
    assert made(STREAM, split="valid", score_test=False) == INDEXES[2:]


def test_a_worker_without_what_the_driver_makes_is_refused(desk: Path, group: Group) -> None:
    chosen = recipe(desk, STREAM)
    with pytest.raises(DataError, match=r"train/manifest\.json: expected a manifest, found none .* start the command"):
        index_splits(chosen, open_graph(chosen), "train")


def test_a_damaged_index_is_made_anew_by_the_next_command(desk: Path, group: Group) -> None:
    snag_dist.train(load_recipe(Path("mine.toml")))
    folder = RunFolder(desk / "runs" / "done")
    expected = json.loads(folder.metrics("test").read_text())["metrics"]
    index = desk / "store" / "known_true" / INDEXES[2]
    tree = folder.read_config()
    tree["train"]["residency"]["kind"] = "stream"
    folder.config.write_text(json.dumps(tree))
    file = index / "by_tail.codes.npy"
    for end in (None, b"", b"\1"):
        shutil.rmtree(folder.ranks("test"))
        if end is not None:
            file.write_bytes(file.read_bytes()[:-1] + end)
        assert snag_dist.evaluate(folder.path)["metrics"] == expected
        open_store(desk / "store").verify()
