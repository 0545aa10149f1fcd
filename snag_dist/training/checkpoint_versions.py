"""Which version of a run's checkpoints is read: whole, of this store, and the same one on every worker.

Every worker checks the files it reads, so that all files are checked once. One worker's damaged file makes all of them
take the version before; the damaged one is set aside, and a warning says so.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from snag_dist.errors import CheckpointError
from snag_dist.shard.group import Group
from snag_dist.shard.partition import Partition
from snag_dist.training.checkpoint_files import (
    COMMON,
    EPOCH,
    FORMAT_VERSION,
    complete_versions,
    find_damage,
    is_name,
    point,
    read_manifest,
    read_pointer,
    remove_remains,
    rows_file,
    step_of,
)
from snag_dist.training.cursor import best_at


class Versions:
    """The checkpoints of a run, as a reader sees them."""

    def __init__(
        self, folder: Path, partition: Partition, group: Group, store_fingerprint: str, warn: Callable[[str], None]
    ):
        """Look into a folder of checkpoints; `warn` is told by rank 0 that a damaged version was passed over."""
        self._folder = folder
        self._partition = partition
        self._group = group
        self._fingerprint = store_fingerprint
        self._warn = warn

    def named(self, pointer: str) -> str | None:
        """Return the checkpoint that a pointer other than `LATEST` names; None if there is no pointer. A collective.

        Raises:
            CheckpointError: it is damaged, or belongs to another store.
        """
        name = self._group.broadcast_object(read_pointer(self._folder / pointer))
        damage = None if name is None else self._find_damage(name, f"{self._folder / pointer}")
        if damage is not None:
            raise CheckpointError(
                f"{damage}; it belongs to the checkpoint that {pointer} names, and another one would give another "
                "result: restore the file from a copy, or train again under another name (--run NAME)"
            )
        return name

    def choose(self) -> str | None:
        """Return the latest whole checkpoint, passing over damaged ones with a warning. A collective.

        A damaged version is set aside as `step-….damaged`, and `LATEST` names the one that is used.

        Raises:
            CheckpointError: there are checkpoints, and none is whole.
        """
        candidates: list[str] = []
        if self._group.rank == 0:
            remove_remains(self._folder)
            candidates = self._candidates()
        damages: dict[str, str] = {}
        for name in self._group.broadcast_object(candidates):
            damage = self._find_damage(name, f"{self._folder / 'LATEST'}")
            if damage is None:
                if self._group.rank == 0:
                    self._go_on_from(name, damages)
                self._group.barrier()
                return name
            damages[name] = damage
        if damages:
            raise CheckpointError(
                f"{self._folder}: expected a whole checkpoint, found none: {'; '.join(damages.values())}; restore a "
                "file from a copy, or remove the folder to train from the beginning"
            )
        return None

    def _candidates(self) -> list[str]:
        """What `LATEST` names, and what is older; all where it names nothing that could be a checkpoint."""
        latest, versions = read_pointer(self._folder / "LATEST"), complete_versions(self._folder)[::-1]
        if latest is None:
            return versions
        if not is_name(latest):
            return [latest, *versions]
        return [latest, *(name for name in versions if step_of(name) < step_of(latest))]

    def _find_damage(self, name: str, pointer: str) -> str | None:
        """What is wrong with a checkpoint, as the first worker by rank sees it; None if it is whole. A collective."""
        found: str | None = None
        folder = self._folder / name
        manifest = read_manifest(folder) if is_name(name) else f"{pointer}: expected step-NUMBER, found {name!r}"
        if isinstance(manifest, str):
            found = manifest
        else:
            # The same on every worker that comes here; one that does not has found damage, and the run ends anyway.
            self._check_origin(folder, manifest)
            files = manifest["files"]
            rows = [rows_file(shard) for shard in self._partition.shards(self._group.rank)]
            found = find_damage(folder, [*COMMON, *({EPOCH} & set(files)), *rows], files)
        return next((damage for damage in self._group.gather_objects(found) if damage is not None), None)

    def _check_origin(self, folder: Path, manifest: dict[str, Any]) -> None:
        made_on = str(manifest.get("store_fingerprint"))
        if made_on != self._fingerprint:
            raise CheckpointError(
                f"{folder}: made on store {made_on[:12]}, this store is {self._fingerprint[:12]}; use the store of the "
                "run, or start a new run"
            )
        found = manifest.get("format_version")
        if found != FORMAT_VERSION:
            raise CheckpointError(
                f"{folder}: expected a checkpoint of format {FORMAT_VERSION}, found {found}; go on with the version of "
                "snag_dist that began the run, or start a new run"
            )

    def _go_on_from(self, used: str, damages: dict[str, str]) -> None:
        steps: list[int] = []
        for name in damages:
            folder = self._folder / name
            # A pointer to nothing names no step that was taken.
            if is_name(name) and folder.is_dir():
                steps.append(step_of(name))
                aside = folder.with_name(f"{name}.damaged")
                shutil.rmtree(aside, ignore_errors=True)
                folder.replace(aside)
        # Also where nothing is damaged: a run may have been ended between a rename and a flip, or between two flips.
        point(self._folder / "LATEST", used)
        best = best_at(self._folder / used)
        if best is not None and (self._folder / best).is_dir():
            point(self._folder / "BEST", best)
        if not damages:
            return
        lost = f"{max(steps) - step_of(used)} steps are taken again" if steps else "it is the latest whole one"
        self._warn(f"{'; '.join(damages.values())}; the run goes on from {used} instead: {lost}")
