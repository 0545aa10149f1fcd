"""What a run needs to go on, at any number of workers.

    checkpoints/step-00000123/
        dense.safetensors        weights and optimiser state of the dense parameters, whole
        rows-00000.safetensors   rows and their optimiser state, one file per virtual shard
        task.safetensors         what the task keeps beside them: mined pairs, a second player
        epoch.safetensors        what was measured at the beginning of the epoch under way and holds to its end
        cursor.json              epoch, step, best metric so far
        manifest.json            sha256 and size of every file; written last
    checkpoints/LATEST, BEST     names of checkpoints; BEST-plain that of a stage which is over

A checkpoint is a copy on the host first; a thread writes it while training goes on. Rows that lie on disk, because
memory does not hold them, are written from where they are, while training waits. When every worker's part is written it
is renamed, and `LATEST` is flipped: a reader sees a whole one or none. Nothing in it depends on the number of
workers, and there is no random state: every draw is keyed. Damage is found before anything is read; the run then goes
on from the version before.
"""

import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from pydantic import Field
from safetensors.torch import load_file
from torch import Tensor

from snag_dist.config import Config
from snag_dist.errors import CheckpointError, SnagError
from snag_dist.shard.group import Group
from snag_dist.shard.partition import Partition
from snag_dist.shard.table import EntityTable
from snag_dist.training.background import Background
from snag_dist.training.checkpoint_files import (
    EPOCH,
    FORMAT_VERSION,
    Record,
    complete_versions,
    make_folder,
    name_of_step,
    point,
    read_pointer,
    rows_file,
    write_manifest,
    write_tensors,
    write_tree,
)
from snag_dist.training.checkpoint_versions import Versions
from snag_dist.training.claim import Claim
from snag_dist.training.cursor import Cursor, best_at, cursor_of

logger = logging.getLogger("snag_dist")

_OF_STAGE = "BEST-"


class CheckpointConfig(Config):
    """When a run saves itself, beside every evaluation, and how much it keeps."""

    every_seconds: float | None = Field(default=300.0, gt=0)
    """Seconds after the last checkpoint that the next is due, by the clock of the first worker; none for never."""
    every_steps: int | None = Field(default=None, ge=1)
    """Steps after which one is due; none for never."""
    keep: int = Field(default=2, ge=1)
    """Latest versions that stay; those that were best stay besides. With one, a damaged file ends the run."""


class Keeper(Protocol):
    """What a task keeps beside what is trained, and what a checkpoint holds of the dense parameters."""

    def state(self) -> Mapping[str, Tensor]: ...
    def load_state(self, state: dict[str, Tensor]) -> None: ...


class Learner(Protocol):
    """What is trained: dense parameters and rows."""

    @property
    def engine(self) -> Keeper: ...
    @property
    def table(self) -> EntityTable: ...
    def epoch_state(self) -> Mapping[str, Tensor]: ...
    def load_epoch_state(self, state: Mapping[str, Tensor]) -> None: ...


@dataclass(frozen=True)
class _Writing:
    """A checkpoint on its way to the disk; the same one on every worker."""

    cursor: Cursor
    best: bool
    work: Background[dict[str, Record]]


class Checkpoints:
    """Writes and reads the checkpoints of a run."""

    def __init__(
        self,
        folder: Path,
        partition: Partition,
        group: Group,
        store_fingerprint: str,
        config: CheckpointConfig | None = None,
        *,
        warn: Callable[[str], None] = logger.warning,
        claim: Claim | None = None,
    ):
        """Look after a folder of checkpoints.

        Args:
            folder: on a disk that all workers share.
            partition: rows over the workers.
            group: the workers.
            store_fingerprint: of the store the run is on.
            config: how many are kept.
            warn: told by rank 0 that a damaged version was passed over.
            claim: of the driver; once another one has the run, nothing is published.
        """
        self._folder = folder
        self._claim = claim
        self._partition = partition
        self._group = group
        self._fingerprint = store_fingerprint
        self._versions = Versions(folder, partition, group, store_fingerprint, warn)
        self._keep = (config or CheckpointConfig()).keep
        self._writing: _Writing | None = None

    @property
    def in_flight(self) -> bool:
        """Whether a checkpoint is on its way, not published yet; the same on every worker."""
        return self._writing is not None

    @property
    def is_writing(self) -> bool:
        """Whether this worker's part of it is not on the disk yet."""
        return self._writing is not None and self._writing.work.is_running

    def save(self, cursor: Cursor, learner: Learner, keeper: Keeper, *, best: bool) -> None:
        """Copy the state to the host and begin to write it, after the one before is published. A collective.

        Raises:
            CheckpointError: the one before could not be written.
        """
        self.settle()
        partial = self._partial(cursor)
        dense, kept = learner.engine.state(), keeper.state()
        on_disk = learner.table.reads_ahead
        hold = dict[str, Tensor] if on_disk else _copy
        files = {rows_file(s): hold(learner.table.shard_state(s)) for s in self._partition.shards(self._group.rank)}
        if self._group.rank == 0:
            files |= {"dense.safetensors": _copy(dense), "task.safetensors": _copy(kept)}
            files[EPOCH] = _copy(learner.epoch_state())
        is_first = self._group.rank == 0

        def write() -> dict[str, Record]:
            make_folder(partial)
            written: dict[str, Record] = {}
            for file, tensors in files.items():
                written |= write_tensors(partial / file, tensors)
            if is_first:
                written |= write_tree(partial / "cursor.json", asdict(cursor))
            return written

        self._writing = _Writing(cursor, best, Background(write))
        if on_disk:
            self._writing.work.outcome()

    def settle(self) -> None:
        """Wait for the checkpoint on its way, if there is one, and publish it. A collective.

        Raises:
            CheckpointError: a worker could not write its part; nothing of it stays, and `LATEST` is as it was.
            TakenOver: another driver has begun with the run.
        """
        if self._writing is None:
            return
        writing, self._writing = self._writing, None
        outcomes = self._group.gather_objects(writing.work.outcome())
        failure = next((outcome for outcome in outcomes if isinstance(outcome, SnagError)), None)
        if self._group.rank == 0:
            partial = self._partial(writing.cursor)
            if failure is None:
                files = {file: known for part in outcomes for file, known in part.items()}
                failure = self._publish(partial, writing, files)
            if failure is not None:
                shutil.rmtree(partial, ignore_errors=True)
        failure = self._group.broadcast_object(failure)
        if failure is not None:
            raise failure

    def _partial(self, cursor: Cursor) -> Path:
        # Of this driver: workers of one that was killed may be writing the same version still.
        owner = "" if self._claim is None else f"-{self._claim.token[:8]}"
        return self._folder / f"{name_of_step(cursor.step)}{owner}.partial"

    def _publish(self, partial: Path, writing: _Writing, files: dict[str, Record]) -> SnagError | None:
        manifest = {
            "format_version": FORMAT_VERSION,
            "store_fingerprint": self._fingerprint,
            "num_entities": self._partition.num_entities,
            "virtual_shards": self._partition.num_shards,
            "files": files,
        }
        name = name_of_step(writing.cursor.step)
        final, replaced = self._folder / name, self._folder / f"{name}.replaced"
        try:
            if self._claim is not None:
                self._claim.require()
            write_manifest(partial, manifest)
            if final.exists():
                final.replace(replaced)
            partial.replace(final)
            point(self._folder / "LATEST", name)
            if writing.best:
                point(self._folder / "BEST", name)
        except SnagError as error:
            return error
        except OSError as error:
            return CheckpointError(
                f"{self._folder}: expected to publish {name}, got: {error}; mend the disk or the rights"
            )
        shutil.rmtree(replaced, ignore_errors=True)
        self._drop_old()
        return None

    def _drop_old(self) -> None:
        versions = complete_versions(self._folder)
        recent = versions[-self._keep :]
        pointers = [self._folder / "LATEST", self._folder / "BEST", *self._folder.glob(f"{_OF_STAGE}*")]
        keep = {*recent, *(read_pointer(pointer) for pointer in pointers)}
        # What was best when a version was taken must be there if the run goes on from that version.
        keep |= {best for name in recent if (best := best_at(self._folder / name)) is not None}
        for name in versions:
            if name not in keep:
                shutil.rmtree(self._folder / name, ignore_errors=True)

    def keep_best(self, stage: str) -> None:
        """Point `best_of(stage)` at the best checkpoint so far, at the end of a stage. A collective."""
        self.settle()
        if self._group.rank == 0:
            name = read_pointer(self._folder / "BEST")
            assert name is not None
            point(self._folder / best_of(stage), name)
        self._group.barrier()

    def load(self, pointer: str, learner: Learner, keeper: Keeper) -> Cursor | None:
        """Read the checkpoint that `pointer` (LATEST, BEST or that of a stage) names into what is trained.

        Every file is checked by the worker that reads it. Where `LATEST` is damaged, all workers take the version
        before, and say so; another version than the best one would be another result, and is never taken for it.
        A collective.

        Returns:
            Its cursor, or None if there is no such checkpoint yet.

        Raises:
            CheckpointError: the checkpoint belongs to another store, or a file is missing or damaged and there is no
                other version.
        """
        self.settle()
        name = self._versions.choose() if pointer == "LATEST" else self._versions.named(pointer)
        if name is None:
            return None
        folder = self._folder / name
        learner.engine.load_state(load_file(folder / "dense.safetensors"))
        keeper.load_state(load_file(folder / "task.safetensors"))
        for shard in self._partition.shards(self._group.rank):
            learner.table.load_shard_state(shard, load_file(folder / rows_file(shard)))
        cursor = cursor_of(folder)
        # Ones from before there was this file were all taken between two epochs.
        if cursor.epoch_step:
            learner.load_epoch_state(load_file(folder / EPOCH))
        return cursor


def _copy(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors to the host, so that training may go on changing them."""
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}


def best_of(stage: str) -> str:
    """Name of the pointer to the best checkpoint of a stage that is over."""
    return f"{_OF_STAGE}{stage}"
