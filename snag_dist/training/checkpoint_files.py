"""The files of a checkpoint: written once and recorded, listed in a manifest, checked before they are read.

Damage is returned as a sentence that names the file and what is wrong with it; what follows from it is decided by
`snag_dist.training.checkpoint`.
"""

import errno
import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from snag_dist.errors import CheckpointError
from snag_dist.store.manifest import replacing, sync
from snag_dist.training.run_folder import write_json

FORMAT_VERSION = 2
MANIFEST = "manifest.json"
COMMON = ("dense.safetensors", "task.safetensors", "cursor.json")
"""Files that every worker reads, beside its rows."""
EPOCH = "epoch.safetensors"
"""Read by every worker too; absent from checkpoints of before there was one."""

Record = dict[str, Any]
"""What the manifest knows of a file: sha256 and num_bytes."""

_NAME = re.compile(r"step-\d{8,}")


def rows_file(shard: int) -> str:
    """Name of the file that holds the rows of a virtual shard."""
    return f"rows-{shard:05d}.safetensors"


def name_of_step(step: int) -> str:
    """Name of the checkpoint after `step` steps."""
    return f"step-{step:08d}"


def step_of(name: str) -> int:
    """Steps after which a checkpoint was taken."""
    return int(name.partition("-")[2])


def read_pointer(path: Path) -> str | None:
    """Name of the checkpoint a pointer file names; None if there is no pointer."""
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None


def is_name(text: str) -> bool:
    """Whether a text names a checkpoint; a pointer may hold anything, and must not lead out of the folder."""
    return _NAME.fullmatch(text) is not None


def point(path: Path, name: str) -> None:
    """Make a pointer file name a checkpoint, in one replacement."""
    with replacing(path) as partial:
        partial.write_text(name + "\n", encoding="utf-8")


def complete_versions(folder: Path) -> list[str]:
    """Names of the checkpoints in a folder that were written to their end, the oldest first."""
    return sorted((path.name for path in folder.glob("step-*") if path.is_dir() and is_name(path.name)), key=step_of)


def make_folder(path: Path) -> None:
    """Make a folder, where it is not there yet.

    Raises:
        CheckpointError: the disk is full, or cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, 0, error) from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Record]:
    """Write tensors of the host to a file, and return its record by its name.

    Raises:
        CheckpointError: the disk is full, or cannot be written.
    """
    needed = sum(value.numel() * value.element_size() for value in tensors.values())
    try:
        save_file(dict(tensors), path)
        return record(path)
    except (OSError, SafetensorError) as error:
        raise _unwritable(path, needed, error) from error


def write_tree(path: Path, tree: Any) -> dict[str, Record]:
    """Write JSON to a file, and return its record by its name.

    Raises:
        CheckpointError: the disk is full, or cannot be written.
    """
    try:
        write_json(path, tree)
        return record(path)
    except OSError as error:
        raise _unwritable(path, len(json.dumps(tree)), error) from error


def write_manifest(folder: Path, tree: Mapping[str, Any]) -> None:
    """Write the manifest of a checkpoint, with a digest of itself; it comes last.

    Raises:
        CheckpointError: the disk is full, or cannot be written.
    """
    write_tree(folder / MANIFEST, {**tree, "digest": _digest(tree)})
    sync(folder)


def record(path: Path) -> dict[str, Record]:
    """Wait until a file is on its disk, and return its size and sha256 by its name."""
    sync(path)
    return {path.name: {"sha256": _hash(path), "num_bytes": path.stat().st_size}}


def read_manifest(folder: Path) -> dict[str, Any] | str:
    """Read the manifest of a checkpoint; return what is wrong with it instead, if anything is."""
    path = folder / MANIFEST
    if not path.is_file():
        return f"{path}: expected the manifest of a checkpoint, found none"
    try:
        manifest = json.loads(path.read_bytes())
    except ValueError:
        return f"{path}: expected JSON, found something else, the file is damaged"
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        return f"{path}: expected a tree with `files`, found something else, the file is damaged"
    # Checkpoints of before there was one have no digest.
    digest = manifest.pop("digest", None)
    if digest is not None and digest != _digest(manifest):
        return f"{path}: its digest differs from its content, the file is damaged"
    return manifest


def find_damage(folder: Path, names: Iterable[str], files: Mapping[str, Record]) -> str | None:
    """Check files of a checkpoint against its manifest's `files`; say what is wrong with the first that is."""
    for name in names:
        expected, path = files.get(name), folder / name
        if expected is None or not path.is_file():
            return f"{path}: missing from the checkpoint"
        if path.stat().st_size != expected["num_bytes"]:
            return f"{path}: expected {expected['num_bytes']} bytes, found {path.stat().st_size}, the file is damaged"
        if _hash(path) != expected["sha256"]:
            return f"{path}: sha256 differs from the manifest's, the file is damaged"
    return None


def remove_remains(folder: Path) -> None:
    """Remove what an interruption left half-written or half-removed; put back what was to be replaced and is not."""
    for path in folder.glob("step-*.replaced"):
        if (path / MANIFEST).is_file() and not path.with_suffix("").exists():
            path.rename(path.with_suffix(""))
    for pattern in ("step-*.partial", "step-*.replaced"):
        for path in folder.glob(pattern):
            # A worker that is being ended may still write into it: what stays is overwritten or removed later.
            shutil.rmtree(path, ignore_errors=True)


def _unwritable(path: Path, needed: int, error: Exception) -> CheckpointError:
    # safetensors tells the system's error number only in its text.
    if f"os error {errno.ENOSPC}" in str(error) or getattr(error, "errno", None) == errno.ENOSPC:
        free = shutil.disk_usage(_existing(path)).free
        return CheckpointError(
            f"{path}: the disk is full: expected room for {needed} bytes, found {free}; make room, or lower "
            "train.checkpoint.keep, and start the same command again: it goes on from the last whole checkpoint"
        )
    return CheckpointError(
        f"{path}: expected to write {needed} bytes, got: {str(error).splitlines()[0]}; mend the disk or the rights and "
        "start the same command again: it goes on from the last whole checkpoint"
    )


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)


def _digest(tree: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
