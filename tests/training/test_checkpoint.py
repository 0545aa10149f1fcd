"""Checkpoints: whole or not there, written behind the training, the same at another number of workers."""

import errno
import json
import os
import resource
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_parts import Parts
from distributed import run_distributed
from numpy.typing import NDArray
from small_run import SmallRun

from snag_dist.errors import CheckpointError
from snag_dist.shard.group import Group
from snag_dist.training import checkpoint
from snag_dist.training.background import Background
from snag_dist.training.checkpoint import best_of
from snag_dist.training.checkpoint_files import complete_versions, point, read_pointer, write_manifest
from snag_dist.training.cursor import Cursor, read_cursor

SIZES = (1, 2, 4)
ZERO_STAGES = (0, 1, 2)

State = dict[str, NDArray[Any]]


def state_of(parts: Parts, group: Group) -> State:
    """All that a checkpoint holds: rows and their optimiser, the dense engine, what the task keeps."""
    shards = [parts.table.shard_state(shard) for shard in parts.partition.shards(group.rank)]
    own = {f"rows/{name}": torch.cat([shard[name] for shard in shards]).numpy().copy() for name in shards[0]}
    everyone = group.gather_objects(own)
    rows = {name: np.concatenate([part[name] for part in everyone]) for name in own}
    dense = {f"dense/{name}": value.numpy().copy() for name, value in parts.engine.state().items()}
    return {**rows, **dense, **{f"task/{name}": value.numpy().copy() for name, value in parts.kept.state().items()}}


def save_and_return(group: Group, folder: Path) -> dict[int, State]:
    saved: dict[int, State] = {}
    for stage in ZERO_STAGES:
        parts = Parts(folder / f"zero-{stage}", group, 0, zero_stage=stage)
        for step in range(3):
            parts.learn(step)
        parts.kept.value = torch.arange(group.size, group.size + 3)
        parts.save(1, best=True)
        saved[stage] = state_of(parts, group)
    return saved


def load_and_return(group: Group, folders: Mapping[int, Path]) -> dict[tuple[int, int], tuple[State, State]]:
    """By number of workers before and ZeRO stage: the state as loaded, and after a step more."""
    loaded: dict[tuple[int, int], tuple[State, State]] = {}
    for before, folder in folders.items():
        for stage in ZERO_STAGES:
            parts = Parts(folder / f"zero-{stage}", group, 5, zero_stage=stage)
            assert parts.load("BEST") == Cursor(epoch=1, step=1)
            at_once = state_of(parts, group)
            parts.learn(3)
            loaded[before, stage] = at_once, state_of(parts, group)
    return loaded


@pytest.fixture(scope="module")
def saved_at(tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[Path, dict[int, State]]]:
    """Folder of checkpoints and their states by ZeRO stage, by the number of workers that saved them."""
    folders = {size: tmp_path_factory.mktemp(f"saved-at-{size}") for size in SIZES}
    return {size: (folder, run_distributed(save_and_return, size, folder)[0]) for size, folder in folders.items()}


@pytest.mark.distributed
@pytest.mark.parametrize("after", SIZES)
def test_opens_at_any_number_of_workers(after: int, saved_at: dict[int, tuple[Path, dict[int, State]]]) -> None:
    folders = {before: folder for before, (folder, _) in saved_at.items()}
    for loaded in run_distributed(load_and_return, after, folders):
        assert set(loaded) == {(before, stage) for before in SIZES for stage in ZERO_STAGES}
        for (before, stage), (state, following) in loaded.items():
            saved = saved_at[before][1][stage]
            assert state.keys() == saved.keys()
            kinds = {name.partition("/")[0] for name in state}
            assert kinds == {"rows", "dense", "task"}
            assert {"dense/weight/weight", "dense/exp_avg/bias", "dense/exp_avg_sq/weight", "dense/step"} <= set(state)
            for name, value in saved.items():
                assert np.array_equal(state[name], value), (before, stage, name)
            # And goes on: every worker has the same loss here, whose gradient is the same at any number of them.
            assert following["dense/step"] == saved["dense/step"] + 1
            alone = loaded[before, 0][1]
            for name in (name for name in following if name.startswith("dense/")):
                np.testing.assert_allclose(following[name], alone[name], rtol=1e-6, err_msg=f"{before} {stage} {name}")


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


def test_what_is_written_is_the_moment_of_saving(group: Group, tmp_path: Path) -> None:
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


def test_training_goes_on_while_a_copy_is_written(
    group: Group, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_write = threading.Event()

    def write_when_it_may(path: Path, tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        assert may_write.wait(120)
        return write_tensors(path, tensors)

    write_tensors = checkpoint.write_tensors
    monkeypatch.setattr(checkpoint, "write_tensors", write_when_it_may)
    run = SmallRun(tmp_path, group, checkpoint={"every_seconds": None, "every_steps": 2, "keep": 20})
    seen: dict[str, Any] = {}

    def steps_taken() -> int:
        return len(run.losses()) if run.folder.log.is_file() else 0

    def watch() -> None:
        end = time.monotonic() + 120
        while steps_taken() < 4 and time.monotonic() < end:
            time.sleep(0.01)
        # The second checkpoint is due now: time for it to begin, if it did not wait for the first.
        time.sleep(0.5)
        seen["steps"] = steps_taken()
        seen["writing"] = run.checkpoints.is_writing
        seen["folder"] = sorted(path.name for path in run.folder.checkpoints.iterdir())
        may_write.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    run.train()
    watcher.join()
    # Saved after step 2, whose writing did not begin: steps 3 and 4 were taken, and the save after step 4 waits.
    assert seen == {"steps": 4, "writing": False, "folder": ["step-00000002.partial"]}
    assert complete_versions(run.folder.checkpoints)[:2] == ["step-00000002", "step-00000004"]
    assert read_pointer(run.folder.checkpoints / "LATEST") == "step-00000015"


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


def test_a_manifest_is_written_last(group: Group, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = Parts(tmp_path, group, 0)
    parts.save(3)
    there: list[set[str]] = []

    def look_and_write(folder: Path, tree: Mapping[str, Any]) -> None:
        there.append({path.name for path in folder.iterdir()})
        assert (folder.name, read_pointer(tmp_path / "LATEST")) == ("step-00000008.partial", "step-00000003")
        write_manifest(folder, tree)
        there.append({path.name for path in folder.iterdir()})

    monkeypatch.setattr(checkpoint, "write_manifest", look_and_write)
    parts.save(8)
    folder = tmp_path / "step-00000008"
    listed = set(json.loads((folder / "manifest.json").read_text())["files"])
    assert there == [listed, listed | {"manifest.json"}]
    assert {path.name for path in folder.iterdir()} == there[-1]


def test_without_a_manifest_there_is_no_version(group: Group, tmp_path: Path) -> None:
    parts = Parts(tmp_path, group, 0)
    parts.learn(0)
    parts.save(3, best=True)
    rows = parts.table.rows.clone()
    parts.learn(3)
    # A folder in its place: all other files are written, the manifest is not.
    (tmp_path / "step-00000008.partial" / "manifest.json").mkdir(parents=True)
    message = (
        r"step-00000008\.partial/manifest\.json: expected to write \d+ bytes, got: .*Is a directory.*; mend the disk"
    )
    with pytest.raises(CheckpointError, match=message):
        parts.save(8, best=True)
    assert not parts.checkpoints.in_flight
    assert sorted(path.name for path in tmp_path.iterdir()) == ["BEST", "LATEST", "step-00000003"]
    assert {read_pointer(tmp_path / name) for name in ("BEST", "LATEST")} == {"step-00000003"}
    other = Parts(tmp_path, group, 1)
    assert other.load("LATEST") == Cursor(epoch=1, step=3)
    assert torch.equal(other.table.rows, rows) and not other.warnings
    parts.save(8)
    assert read_pointer(tmp_path / "LATEST") == "step-00000008"
