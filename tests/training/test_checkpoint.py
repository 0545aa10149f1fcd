"""Checkpoints: whole or not there, checked when read, the same at another number of workers."""

import errno
import json
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distributed import run_distributed
from torch import nn

from snag_dist.errors import CheckpointError
from snag_dist.shard.group import Group
from snag_dist.shard.partition import Partition
from snag_dist.shard.table import EntityTable, InitialRows, LazyAdamConfig
from snag_dist.training.background import Background
from snag_dist.training.checkpoint import CheckpointConfig, Checkpoints, best_of
from snag_dist.training.checkpoint_files import complete_versions, read_pointer, write_manifest
from snag_dist.training.cursor import Cursor, read_cursor
from snag_dist.training.engine import Engine, EngineConfig

ROWS = 30


class Parts:
    """An engine and a table, and where their checkpoints go."""

    def __init__(self, folder: Path, group: Group, seed: int, fingerprint: str = "f" * 64, keep: int = 2):
        torch.manual_seed(seed)
        partition = Partition(ROWS, 4, group.size)
        self.engine = Engine(nn.Linear(3, 2), EngineConfig(), group, 1)
        self.table = EntityTable(
            LazyAdamConfig(), partition, group, width=6, start=InitialRows("uniform", 0.5), seed=seed
        )
        self.warnings: list[str] = []
        config = CheckpointConfig(keep=keep)
        self.checkpoints = Checkpoints(folder, partition, group, fingerprint, config, warn=self.warnings.append)
        self.kept = Kept()
        self.of_epoch: dict[str, torch.Tensor] = {}

    def learn(self, step: int) -> None:
        self.engine.backward(self.engine(torch.ones(1, 3)).square().sum())
        self.engine.step(0.01, 1.0)
        first = self.table.first_row
        self.table.step(torch.tensor([first, first + 2]), torch.ones(2, 6), 0.01, step)

    def epoch_state(self) -> dict[str, torch.Tensor]:
        return self.of_epoch

    def load_epoch_state(self, state: dict[str, torch.Tensor]) -> None:
        self.of_epoch = state

    def save(self, step: int, best: bool = False, **cursor: Any) -> None:
        self.checkpoints.save(Cursor(epoch=1, step=step, **cursor), self, self.kept, best=best)
        self.checkpoints.settle()

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


FILES = ("dense.safetensors", "task.safetensors", "epoch.safetensors", "rows-00002.safetensors", "cursor.json")


def harm(file: Path, how: str) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    if how == "remove":
        file.unlink()
    else:
        file.write_bytes(content if how == "flip" else content[:-1])


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
@pytest.mark.parametrize("how", ["flip", "cut", "remove"])
def test_a_damaged_file_is_named_and_the_version_before_is_used(
    name: str, how: str, group: Group, tmp_path: Path
) -> None:
    parts = Parts(tmp_path, group, 0)
    parts.learn(0)
    parts.save(3)
    rows = parts.table.rows.clone()
    parts.learn(3)
    parts.save(8)
    harm(tmp_path / "step-00000008" / name, how)
    other = Parts(tmp_path, group, 1)
    assert other.load("LATEST") == Cursor(epoch=1, step=3)
    assert torch.equal(other.table.rows, rows)
    [warning] = other.warnings
    assert warning.startswith(f"{tmp_path / 'step-00000008' / name}: ")
    assert "damaged" in warning or "missing" in warning or "found none" in warning
    assert warning.endswith("; the run goes on from step-00000003 instead: 5 steps are taken again")
    assert read_pointer(tmp_path / "LATEST") == "step-00000003"
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-00000003", "step-00000008.damaged"]
    # Once: the next time it is as if the damaged version had never been.
    again = Parts(tmp_path, group, 2)
    assert again.load("LATEST") == Cursor(epoch=1, step=3)
    assert not again.warnings


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_no_version_is_whole(name: str, group: Group, tmp_path: Path) -> None:
    parts = Parts(tmp_path, group, 0)
    for step in (3, 8):
        parts.save(step)
        harm(tmp_path / f"step-{step:08d}" / name, "cut")
    message = (
        rf"expected a whole checkpoint, found none: .*08/{name}: .*damaged; .*03/{name}: .*damaged; restore a file"
    )
    with pytest.raises(CheckpointError, match=message):
        parts.load("LATEST")
    assert complete_versions(tmp_path) == ["step-00000003", "step-00000008"]


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_damaged_best_one_has_no_substitute(name: str, group: Group, tmp_path: Path) -> None:
    parts = Parts(tmp_path, group, 0)
    parts.save(3)
    parts.save(8, best=True)
    harm(tmp_path / "step-00000008" / name, "cut")
    message = rf"08/{name}: .*damaged; it belongs to .* BEST names, .* another result: restore the file .*--run NAME"
    with pytest.raises(CheckpointError, match=message):
        parts.load("BEST")
    assert not parts.warnings


def test_what_was_best_comes_back_with_the_version_before(group: Group, tmp_path: Path) -> None:
    parts = Parts(tmp_path, group, 0)
    parts.save(3, best=True, best_mrr=0.2, best_step=3)
    parts.save(5, best_mrr=0.2, best_step=3)
    parts.save(8, best=True, best_mrr=0.4, best_step=8)
    # Not among the last two, nor the best; but what was best when step 5 was saved.
    assert complete_versions(tmp_path) == ["step-00000003", "step-00000005", "step-00000008"]
    harm(tmp_path / "step-00000008" / "cursor.json", "flip")
    assert parts.load("LATEST") == Cursor(epoch=1, step=5, best_mrr=0.2, best_step=3)
    assert read_pointer(tmp_path / "BEST") == "step-00000003"


@pytest.mark.parametrize("text", ["", "../elsewhere", "step-00000009"])
def test_a_pointer_that_leads_nowhere(text: str, group: Group, tmp_path: Path) -> None:
    parts = Parts(tmp_path, group, 0)
    parts.save(3)
    (tmp_path / "LATEST").write_text(text)
    assert parts.load("LATEST") == Cursor(epoch=1, step=3)
    expected = "found none; the run" if text.startswith("step") else f"LATEST: expected step-NUMBER, found {text!r}; "
    assert expected in parts.warnings[0]


def test_ended_between_rename_and_flip(group: Group, tmp_path: Path) -> None:
    parts = Parts(tmp_path, group, 0)
    parts.save(3)
    (tmp_path / "LATEST").unlink()
    for remains in ("step-00000005.partial", "step-00000004.replaced"):
        (tmp_path / remains).mkdir()
    assert parts.load("LATEST") == Cursor(epoch=1, step=3)
    assert read_pointer(tmp_path / "LATEST") == "step-00000003"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["LATEST", "step-00000003"]
    assert not parts.warnings


def test_ended_between_two_flips(group: Group, tmp_path: Path) -> None:
    parts = Parts(tmp_path, group, 0)
    parts.save(3, best=True, best_mrr=0.2, best_step=3)
    parts.save(8, best=True, best_mrr=0.4, best_step=8)
    (tmp_path / "BEST").write_text("step-00000003\n")
    parts.load("LATEST")
    assert read_pointer(tmp_path / "BEST") == "step-00000008"


def test_the_same_step_again_replaces_it(group: Group, tmp_path: Path) -> None:
    parts = Parts(tmp_path, group, 0)
    parts.save(3)
    parts.save(3, best=True, best_mrr=0.5, best_step=3)
    assert parts.load("BEST") == Cursor(epoch=1, step=3, best_mrr=0.5, best_step=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["BEST", "LATEST", "step-00000003"]


def load_with_one_damaged(group: Group, folder: Path) -> tuple[Cursor | None, list[str]]:
    parts = Parts(folder, group, 0)
    parts.save(3)
    parts.save(8)
    # Rows of the second worker alone, of four shards.
    if group.rank == 1:
        harm(folder / "step-00000008" / "rows-00003.safetensors", "flip")
    group.barrier()
    return parts.load("LATEST"), parts.warnings


@pytest.mark.distributed
def test_one_workers_damage_makes_all_fall_back(tmp_path: Path) -> None:
    (first, told), (second, silent) = run_distributed(load_with_one_damaged, 2, tmp_path)
    assert first == second == Cursor(epoch=1, step=3)
    assert len(told) == 1 and "rows-00003.safetensors: sha256 differs" in told[0]
    assert not silent


def test_training_goes_on_while_a_copy_is_written(group: Group, tmp_path: Path) -> None:
    parts = Parts(tmp_path, group, 0)
    parts.learn(0)
    rows = parts.table.rows.clone()
    dense = parts.engine.state()
    parts.checkpoints.save(Cursor(step=1), parts, parts.kept, best=False)
    assert parts.checkpoints.in_flight
    parts.learn(1)
    assert not torch.equal(parts.table.rows, rows)
    # A second one waits for the first, which is then there.
    parts.checkpoints.save(Cursor(step=2), parts, parts.kept, best=False)
    assert read_pointer(tmp_path / "LATEST") == "step-00000001"
    other = Parts(tmp_path, group, 1)
    other.load("LATEST")
    assert torch.equal(other.table.rows, rows)
    assert all(torch.equal(value, dense[name]) for name, value in other.engine.state().items())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(small_disk: Path, group: Group) -> None:
    parts = Parts(small_disk, group, 0)
    parts.save(3)
    parts.kept.value = torch.zeros(20000)
    message = r"task\.safetensors: the disk is full: expected room for 80000 bytes, found \d+; make room, or lower"
    with pytest.raises(CheckpointError, match=message):
        parts.save(8)
    assert not parts.checkpoints.in_flight
    assert sorted(path.name for path in small_disk.iterdir()) == ["LATEST", "step-00000003"]
    assert parts.load("LATEST") == Cursor(epoch=1, step=3)


def save_what_one_cannot_write(group: Group, folder: Path) -> str:
    parts = Parts(folder, group, 0)
    parts.save(3)
    if group.rank == 1:
        # No file of this worker may be larger than 64 bytes: a real error of a real write.
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))
    try:
        parts.save(8)
    except CheckpointError as error:
        return str(error)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return "no error"


@pytest.mark.distributed
def test_one_worker_cannot_write(tmp_path: Path) -> None:
    first, second = run_distributed(save_what_one_cannot_write, 2, tmp_path)
    assert first == second
    assert "rows-00002.safetensors: expected to write " in first and "; mend the disk or the rights and" in first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["LATEST", "step-00000003"]
    assert read_pointer(tmp_path / "LATEST") == "step-00000003"


def test_a_folder_that_cannot_be_made(group: Group, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        CheckpointError, match=r"step-00000003\.partial: expected to write 0 bytes, got: .*; mend the disk"
    ):
        Parts(tmp_path / "file", group, 0).save(3)


def test_a_bug_in_the_background_is_not_lost() -> None:
    def work() -> int:
        raise OSError(errno.EIO, "not a user's error")

    with pytest.raises(OSError, match="not a user's error"):
        Background(work).outcome()


def test_of_another_format(group: Group, tmp_path: Path) -> None:
    parts = Parts(tmp_path, group, 0)
    parts.save(3)
    folder = tmp_path / "step-00000003"
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["digest"]
    write_manifest(folder, {**manifest, "format_version": 1})
    with pytest.raises(CheckpointError, match=r"expected a checkpoint of format 2, found 1; go on with the version of"):
        parts.load("LATEST")


def test_one_from_before_there_were_digests_and_files_of_the_epoch(group: Group, tmp_path: Path) -> None:
    parts = Parts(tmp_path, group, 0)
    parts.save(3)
    folder = tmp_path / "step-00000003"
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["digest"], manifest["files"]["epoch.safetensors"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "epoch.safetensors").unlink()
    assert parts.load("LATEST") == Cursor(epoch=1, step=3)


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
