"""Checkpoints: whole or not there, checked when read, the same at another number of workers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from distributed import run_distributed
from torch import nn

from snag_dist.errors import CheckpointError
from snag_dist.shard.group import Group
from snag_dist.shard.partition import Partition
from snag_dist.shard.table import EntityTable, InitialRows, LazyAdamConfig
from snag_dist.training.checkpoint import Checkpoints, Cursor, best_of, read_cursor, read_pointer
from snag_dist.training.engine import Engine, EngineConfig

ROWS = 30


class Parts:
    """An engine and a table, and where their checkpoints go."""

    def __init__(self, folder: Path, group: Group, seed: int, fingerprint: str = "f" * 64):
        torch.manual_seed(seed)
        partition = Partition(ROWS, 4, group.size)
        self.engine = Engine(nn.Linear(3, 2), EngineConfig(), group, 1)
        self.table = EntityTable(
            LazyAdamConfig(), partition, group, width=6, start=InitialRows("uniform", 0.5), seed=seed
        )
        self.checkpoints = Checkpoints(folder, partition, group, fingerprint)
        self.kept = Kept()

    def learn(self, step: int) -> None:
        self.engine.backward(self.engine(torch.ones(1, 3)).square().sum())
        self.engine.step(0.01, 1.0)
        first = self.table.first_row
        self.table.step(torch.tensor([first, first + 2]), torch.ones(2, 6), 0.01, step)

    def save(self, step: int, best: bool = False) -> None:
        self.checkpoints.save(Cursor(epoch=1, step=step), self, self.kept, best=best)

    def load(self, pointer: str) -> Cursor | None:
        return self.checkpoints.load(pointer, self, self.kept)


class Kept:
    """What a task keeps."""

    def __init__(self) -> None:
        self.value = torch.zeros(0)

    def state(self) -> dict[str, torch.Tensor]:
        return {"kept": self.value} if len(self.value) else {}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        self.value = state.get("kept", torch.zeros(0))


def save_and_return(group: Group, folder: Path) -> np.ndarray:
    parts = Parts(folder, group, 0)
    parts.learn(0)
    parts.save(1, best=True)
    return np.concatenate(group.gather_objects(parts.table.rows.numpy()))


def load_and_return(group: Group, folder: Path) -> np.ndarray:
    parts = Parts(folder, group, 5)
    parts.load("BEST")
    return np.concatenate(group.gather_objects(parts.table.rows.numpy()))


def test_what_was_saved_is_loaded(group: Group, tmp_path: Path) -> None:
    parts = Parts(tmp_path, group, 0)
    assert parts.load("LATEST") is None
    parts.learn(0)
    parts.kept.value = torch.arange(3)
    parts.save(7, best=True)
    other = Parts(tmp_path, group, 1)
    cursor = other.load("BEST")
    assert cursor == Cursor(epoch=1, step=7) == read_cursor(tmp_path)
    assert other.kept.value.tolist() == [0, 1, 2]
    for part in (parts, other):
        part.learn(1)
    assert torch.equal(parts.table.rows, other.table.rows)
    for name, value in parts.engine.state().items():
        assert torch.equal(value, other.engine.state()[name]), name


@pytest.mark.distributed
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 4), (4, 2)])
def test_opens_at_another_number_of_workers(before: int, after: int, tmp_path: Path) -> None:
    saved = run_distributed(save_and_return, before, tmp_path)[0]
    loaded = run_distributed(load_and_return, after, tmp_path)[0]
    assert np.array_equal(saved, loaded)


def test_old_ones_go_and_the_best_stays(group: Group, tmp_path: Path) -> None:
    parts = Parts(tmp_path, group, 0)
    for step in (1, 2, 3, 4):
        parts.save(step, best=step == 1)
    kept = sorted(path.name for path in tmp_path.glob("step-*"))
    assert kept == ["step-00000001", "step-00000003", "step-00000004"]
    assert read_pointer(tmp_path / "BEST") == "step-00000001"
    assert read_pointer(tmp_path / "LATEST") == "step-00000004"


def test_the_best_of_a_stage_stays_when_the_next_one_begins(group: Group, tmp_path: Path) -> None:
    parts = Parts(tmp_path, group, 0)
    parts.save(1, best=True)
    parts.checkpoints.keep_best("plain")
    for step in (2, 3, 4):
        parts.save(step, best=True)
    assert read_pointer(tmp_path / best_of("plain")) == "step-00000001"
    assert parts.load(best_of("plain")) == Cursor(epoch=1, step=1)
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-00000001", "step-00000003", "step-00000004"]


def test_a_stage_begins_with_a_selection_of_its_own() -> None:
    end = Cursor(epoch=6, step=60, best_mrr=0.4, best_step=50, evaluations_since_best=2)
    begun = end.next_stage()
    assert (begun.stage, begun.stage_epochs, begun.step) == (1, 0, 60)
    assert (begun.best_mrr, begun.evaluations_since_best) == (-1.0, 0)


@pytest.mark.parametrize("name", ["dense.safetensors", "task.safetensors", "rows-00002.safetensors", "cursor.json"])
@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_a_damaged_file_is_named(name: str, harm: str, group: Group, tmp_path: Path) -> None:
    parts = Parts(tmp_path, group, 0)
    parts.save(3)
    file = tmp_path / "step-00000003" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    if harm == "remove":
        file.unlink()
    else:
        file.write_bytes(content if harm == "flip" else content[:-1])
    with pytest.raises(CheckpointError, match=rf"{name}: .*(damaged|missing).* point LATEST at another"):
        parts.load("LATEST")


def test_of_another_store(group: Group, tmp_path: Path) -> None:
    Parts(tmp_path, group, 0).save(3)
    other = Parts(tmp_path, group, 0, fingerprint="a" * 64)
    with pytest.raises(CheckpointError, match=r"made on store ffffffffffff, this store is aaaaaaaaaaaa"):
        other.load("LATEST")


def test_a_manifest_is_written_last(group: Group, tmp_path: Path) -> None:
    parts = Parts(tmp_path, group, 0)
    parts.save(3)
    folder = tmp_path / "step-00000003"
    listed = json.loads((folder / "manifest.json").read_text())["files"]
    assert set(listed) == {path.name for path in folder.iterdir()} - {"manifest.json"}
    (folder / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match=r"expected the manifest of a checkpoint, found none"):
        parts.load("LATEST")
