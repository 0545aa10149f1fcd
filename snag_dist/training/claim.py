"""One driver at a time in a folder: the one that came last.

Nobody can tell whether the driver before still lives. It may have been killed with its node, and the workers it left
train on for a while; or somebody started the same command twice. So a driver claims the folder when it begins, and
whoever belongs to an older claim ends at its next step, and publishes nothing any more.
"""

import os
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path

from snag_dist.errors import TakenOver
from snag_dist.training.run_folder import read_json, write_json

_FILE = "driver.json"
_TOKEN = uuid.uuid4().hex


@dataclass(frozen=True)
class Claim:
    """A driver's, which its workers share.

    Attributes:
        folder: of a run or of a sweep.
        token: another one for every process that claims.
    """

    folder: Path
    token: str

    @classmethod
    def take(cls, folder: Path, token: str = _TOKEN) -> "Claim":
        """Claim a folder, whoever held it; for this process, where no other token is given."""
        write_json(folder / _FILE, {"token": token, "host": socket.gethostname(), "pid": os.getpid()})
        return cls(folder, token)

    def is_held(self) -> bool:
        """Whether nobody has claimed the folder since."""
        file = self.folder / _FILE
        return not file.is_file() or read_json(file).get("token") == self.token

    def require(self) -> None:
        """Refuse to go on without the claim.

        Raises:
            TakenOver: somebody has claimed the folder since.
        """
        if not self.is_held():
            raise self.loss()

    def loss(self) -> TakenOver:
        """Return the error of who has lost the claim."""
        found = read_json(self.folder / _FILE)
        return TakenOver(
            f"{self.folder}: expected to be the only command there, found that process {found.get('pid')} on "
            f"{found.get('host')} has taken it over since; this one ends, and that one goes on from the last checkpoint"
        )
