"""One driver at a time in a folder: the one that came last.

Nobody can tell whether the driver before still lives. It may have been killed with its node, and the workers it left
train on for a while; or somebody started the same command twice. So a driver claims the folder when it begins, and
whoever belongs to an older claim ends at its next step, and writes down nothing any more.
"""

import os
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snag_dist.errors import CheckpointError, TakenOver
from snag_dist.training.run_folder import read_json, write_json

_FILE = "driver.json"


@dataclass(frozen=True)
class Claim:
    """A driver's, which its workers share.

    Attributes:
        folder: of a run or of a sweep.
        token: another one for every claim.
        parent: of the sweep that the run is a trial of; lost with it is the run.
    """

    folder: Path
    token: str
    parent: "Claim | None" = None

    @classmethod
    def take(cls, folder: Path, parent: "Claim | None" = None) -> "Claim":
        """Claim a folder for this process, whoever held it.

        Raises:
            TakenOver: the parent is another command's.
        """
        if parent is not None:
            parent.require()
        claim = cls(folder, uuid.uuid4().hex, parent)
        write_json(folder / _FILE, {"token": claim.token, "host": socket.gethostname(), "pid": os.getpid()})
        return claim

    def is_held(self) -> bool:
        """Whether nobody has claimed the folder since; a file that cannot be read says nothing."""
        return self._is_own() and (self.parent is None or self.parent.is_held())

    def require(self) -> None:
        """Refuse to go on without the claim.

        Raises:
            TakenOver: somebody has claimed the folder since.
        """
        if not self.is_held():
            raise self.loss()

    def loss(self) -> TakenOver:
        """Return the error of who has lost the claim."""
        if self.parent is not None and not self.parent.is_held():
            return self.parent.loss()
        found = self._read()
        return TakenOver(
            f"{self.folder}: expected to be the only command there, found that process {found.get('pid')} on "
            f"{found.get('host')} has taken it over since; this one ends, and that one goes on from the last checkpoint"
        )

    def _is_own(self) -> bool:
        return self._read().get("token", self.token) == self.token

    def _read(self) -> dict[str, Any]:
        try:
            return read_json(self.folder / _FILE)
        except (CheckpointError, OSError):
            return {}
