"""A damaged checkpoint: the file is named, and all workers go on from the version before."""

from pathlib import Path

import pytest
import torch
from checkpoint_parts import Parts
from distributed import run_distributed

from snag_dist.errors import CheckpointError
from snag_dist.shard.group import Group
from snag_dist.training.checkpoint_files import complete_versions, read_pointer
from snag_dist.training.cursor import Cursor

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
    # Steps that no checkpoint was ever of are not lost.
    assert parts.warnings[0].endswith("; the run goes on from step-00000003 instead: it is the latest whole one")


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


def test_ended_between_the_two_renames_of_a_version_that_is_replaced(group: Group, tmp_path: Path) -> None:
    parts = Parts(tmp_path, group, 0)
    parts.save(3)
    (tmp_path / "step-00000003").rename(tmp_path / "step-00000003.replaced")
    (tmp_path / "step-00000003.partial").mkdir()
    assert parts.load("LATEST") == Cursor(epoch=1, step=3)
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
