"""Checkpoints: whole or not there, written behind the training, the same at another number of workers."""

import errno
import json
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoint_parts import Parts
from distributed import run_distributed

from snag_dist.errors import CheckpointError
from snag_dist.shard.group import Group
from snag_dist.training.background import Background
from snag_dist.training.checkpoint import best_of
from snag_dist.training.checkpoint_files import point, read_pointer, write_manifest
from snag_dist.training.cursor import Cursor, read_cursor


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
    parts.checkpoints.settle()
    assert read_pointer(tmp_path / "LATEST") == "step-00000002"
    point(tmp_path / "LATEST", "step-00000001")
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
