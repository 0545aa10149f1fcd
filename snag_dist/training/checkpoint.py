"""What a run needs to go on, at any number of workers.

    checkpoints/step-00000123/
        dense.safetensors        weights and optimiser state of the dense parameters, whole
        rows-00000.safetensors   rows and their optimiser state, one file per virtual shard
        task.safetensors         what the task keeps beside them: mined pairs, a second player
        cursor.json              epoch, step, best metric so far
        manifest.json            sha256 and size of every file; written last
    checkpoints/LATEST, BEST     names of checkpoints; BEST-plain that of a stage which is over

A checkpoint is written beside its place and renamed when complete, then `LATEST` is flipped: a reader sees a whole one
or none. Nothing in it depends on the number of workers, and there is no random state: every draw is keyed.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from snag_dist.errors import CheckpointError
from snag_dist.shard.group import Group
from snag_dist.shard.partition import Partition
from snag_dist.shard.table import EntityTable
from snag_dist.training.run_folder import write_json

FORMAT_VERSION = 2
_KEPT = 2
_OF_STAGE = "BEST-"


@dataclass(frozen=True)
class Cursor:
    """How far a run is.

    Attributes:
        epoch: complete epochs.
        step: steps taken over the whole run.
        epoch_step: steps taken in the epoch under way.
        best_mrr: of the dev split so far; -1 before the first evaluation.
        best_step: where that was.
        evaluations_since_best: for early stopping.
        stage: number of the stage under way.
        stage_start: complete epochs when it began.
    """

    epoch: int = 0
    step: int = 0
    epoch_step: int = 0
    best_mrr: float = -1.0
    best_step: int = 0
    evaluations_since_best: int = 0
    stage: int = 0
    stage_start: int = 0

    @property
    def stage_epochs(self) -> int:
        """Complete epochs of the stage under way."""
        return self.epoch - self.stage_start

    def next_stage(self) -> "Cursor":
        """Return the beginning of the next stage, which selects a best checkpoint of its own."""
        return replace(
            self, stage=self.stage + 1, stage_start=self.epoch, best_mrr=-1.0, best_step=0, evaluations_since_best=0
        )


class Engine(Protocol):
    """What a checkpoint holds of the dense parameters."""

    def state(self) -> dict[str, Tensor]: ...
    def load_state(self, state: dict[str, Tensor]) -> None: ...


class Learner(Protocol):
    """What is trained: dense parameters and rows."""

    @property
    def engine(self) -> Engine: ...
    @property
    def table(self) -> EntityTable: ...


class Keeper(Protocol):
    """What a task keeps beside them."""

    def state(self) -> Mapping[str, Tensor]: ...
    def load_state(self, state: Mapping[str, Tensor]) -> None: ...


class Checkpoints:
    """Writes and reads the checkpoints of a run."""

    def __init__(self, folder: Path, partition: Partition, group: Group, store_fingerprint: str):
        self._folder = folder
        self._partition = partition
        self._group = group
        self._fingerprint = store_fingerprint

    def save(self, cursor: Cursor, learner: Learner, keeper: Keeper, *, best: bool) -> None:
        """Write a checkpoint, flip `LATEST` (and `BEST`), and drop old ones. A collective."""
        name = f"step-{cursor.step:08d}"
        partial = self._folder / f"{name}.partial"
        if self._group.rank == 0:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        self._group.barrier()
        dense, kept = learner.engine.state(), keeper.state()
        written: dict[str, dict[str, Any]] = {}
        for shard in self._partition.shards(self._group.rank):
            state = {key: value.detach().cpu().contiguous() for key, value in learner.table.shard_state(shard).items()}
            written.update(_write(partial / rows_file(shard), lambda path, state=state: save_file(state, path)))
        if self._group.rank == 0:
            for file, tensors in (("dense.safetensors", dense), ("task.safetensors", kept)):
                host = {key: value.cpu().contiguous() for key, value in tensors.items()}
                written.update(_write(partial / file, lambda path, host=host: save_file(host, path)))
            written.update(_write(partial / "cursor.json", lambda path: write_json(path, asdict(cursor))))
        parts = self._group.gather_objects(written)
        if self._group.rank == 0:
            files = {file: record for part in parts for file, record in part.items()}
            self._publish(partial, name, files, best)
        self._group.barrier()

    def _publish(self, partial: Path, name: str, files: dict[str, Any], best: bool) -> None:
        manifest = {
            "format_version": FORMAT_VERSION,
            "store_fingerprint": self._fingerprint,
            "num_entities": self._partition.num_entities,
            "virtual_shards": self._partition.num_shards,
            "files": files,
        }
        write_json(partial / "manifest.json", manifest)
        final = self._folder / name
        shutil.rmtree(final, ignore_errors=True)
        partial.replace(final)
        _point(self._folder / "LATEST", name)
        if best:
            _point(self._folder / "BEST", name)
        pointers = [self._folder / "LATEST", self._folder / "BEST", *self._folder.glob(f"{_OF_STAGE}*")]
        keep = {read_pointer(pointer) for pointer in pointers}
        complete = sorted(path for path in self._folder.glob("step-*") if path.is_dir() and path.suffix == "")
        for old in complete[:-_KEPT]:
            if old.name not in keep:
                shutil.rmtree(old)

    def keep_best(self, stage: str) -> None:
        """Point `best_of(stage)` at the best checkpoint so far, at the end of a stage. A collective."""
        if self._group.rank == 0:
            name = read_pointer(self._folder / "BEST")
            assert name is not None
            _point(self._folder / best_of(stage), name)
        self._group.barrier()

    def load(self, pointer: str, learner: Learner, keeper: Keeper) -> Cursor | None:
        """Read the checkpoint that `pointer` (LATEST, BEST or that of a stage) names into what is trained.

        Returns:
            Its cursor, or None if there is no such pointer yet.

        Raises:
            CheckpointError: the checkpoint belongs to another store, or a file is missing or damaged.
        """
        name = read_pointer(self._folder / pointer)
        if name is None:
            return None
        folder = self._folder / name
        files = self._read_manifest(folder)
        learner.engine.load_state(_load(folder, "dense.safetensors", files))
        keeper.load_state(_load(folder, "task.safetensors", files))
        for shard in self._partition.shards(self._group.rank):
            learner.table.load_shard_state(shard, _load(folder, rows_file(shard), files))
        _verify(folder, "cursor.json", files)
        return Cursor(**json.loads((folder / "cursor.json").read_text(encoding="utf-8")))

    def _read_manifest(self, folder: Path) -> dict[str, Any]:
        path = folder / "manifest.json"
        if not path.is_file():
            raise CheckpointError(
                f"{path}: expected the manifest of a checkpoint, found none; remove {folder.name} and point LATEST at "
                "an older one"
            )
        manifest = json.loads(path.read_text(encoding="utf-8"))
        found = manifest.get("store_fingerprint")
        if found != self._fingerprint:
            raise CheckpointError(
                f"{path}: made on store {str(found)[:12]}, this store is {self._fingerprint[:12]}; "
                "use the store of the run, or start a new run"
            )
        return manifest["files"]


def best_of(stage: str) -> str:
    """Name of the pointer to the best checkpoint of a stage that is over."""
    return f"{_OF_STAGE}{stage}"


def rows_file(shard: int) -> str:
    """Name of the file that holds the rows of a virtual shard."""
    return f"rows-{shard:05d}.safetensors"


def read_pointer(path: Path) -> str | None:
    """Name of the checkpoint a pointer file names; None if there is no pointer."""
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None


def read_cursor(folder: Path) -> Cursor | None:
    """Cursor of the latest checkpoint in a folder of checkpoints; None before the first."""
    name = read_pointer(folder / "LATEST")
    if name is None:
        return None
    return Cursor(**json.loads((folder / name / "cursor.json").read_text(encoding="utf-8")))


def _point(path: Path, name: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(name + "\n", encoding="utf-8")
    partial.replace(path)


def _write(path: Path, write: Callable[[Path], None]) -> dict[str, dict[str, Any]]:
    write(path)
    return {path.name: {"sha256": _hash(path), "num_bytes": path.stat().st_size}}


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _verify(folder: Path, name: str, files: dict[str, Any]) -> None:
    record, path = files.get(name), folder / name
    if record is None or not path.is_file():
        raise CheckpointError(f"{path}: missing from the checkpoint; point LATEST at another one and go on from there")
    if path.stat().st_size != record["num_bytes"] or _hash(path) != record["sha256"]:
        raise CheckpointError(
            f"{path}: sha256 differs from the manifest's, the file is damaged; point LATEST at another checkpoint and "
            "go on from there"
        )


def _load(folder: Path, name: str, files: dict[str, Any]) -> dict[str, torch.Tensor]:
    _verify(folder, name, files)
    return load_file(folder / name)
