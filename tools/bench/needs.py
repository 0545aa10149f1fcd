"""What a benchmark is run on, how it is made from the raw data, and what is said where it is not there.

Everything is made by the jobs, in processes of their own, once in a folder of work: a benchmark begins with nothing of
Ray or torch under way.
"""

import shlex
import subprocess
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from snag_dist.api import COVERAGE
from snag_dist.errors import ConfigError

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Places:
    """Where benchmarks find things and put them.

    Attributes:
        data: folder of the raw data, with a folder for each data set; None where it was not told.
        work: folder of stores and runs.
    """

    data: Path | None
    work: Path


class Need(ABC):
    """One kind of thing that benchmarks are run on."""

    @property
    @abstractmethod
    def words(self) -> str:
        """What is needed, in a few words."""

    @abstractmethod
    def make(self, places: Places) -> Path:
        """Return its path, after making it where it is not there yet.

        Raises:
            ConfigError: raw data that it is made of was not told, or is not there.
        """

    def check(self, path: Path) -> Path:
        """Return a path that was given instead.

        Raises:
            ConfigError: it is not what is needed.
        """
        mark = path / self.mark
        if not mark.exists():
            found = f"no {self.mark}" if path.is_dir() else "no such folder"
            raise ConfigError(f"--store {path}: expected {self.words}, found {found}; {self.remedy(path)}")
        return path

    @property
    def mark(self) -> str:
        """What tells that a folder is one; the folder itself, unless another is named."""
        return "."

    def remedy(self, path: Path) -> str:
        """How to get one at a path."""
        del path
        return "name the right folder"


@dataclass(frozen=True)
class Nothing(Need):
    """What is measured is generated."""

    @property
    def words(self) -> str:
        """See `Need.words`."""
        return "nothing"

    def make(self, places: Places) -> Path:
        """See `Need.make`."""
        return places.work

    def check(self, path: Path) -> Path:
        """See `Need.check`; whatever is given is not looked at."""
        return path


@dataclass(frozen=True)
class RawData(Need):
    """A data set as it was published."""

    name: str

    @property
    def words(self) -> str:
        """See `Need.words`."""
        return f"the data set {self.name}"

    def make(self, places: Places) -> Path:
        """See `Need.make`; nothing is made here."""
        if places.data is None:
            raise ConfigError(
                f"--data: expected the folder that has {self.name} in it, got nothing; pass --data PATH, "
                "or set SNAG_DIST_DATA"
            )
        path = places.data / self.name
        if not path.is_dir():
            raise ConfigError(f"{path}: expected {self.words}, found no such folder; pass --data PATH")
        return path


@dataclass(frozen=True)
class StoreOf(Need):
    """The store of a recipe that comes along.

    Attributes:
        recipe: name of its file.
        data: name of the data set it is made of; "" where it is generated.
    """

    recipe: str
    data: str = ""

    @property
    def words(self) -> str:
        """See `Need.words`."""
        return f"a store of {self.recipe}" + (f", from {self.data}" if self.data else "")

    @property
    def mark(self) -> str:
        """See `Need.mark`."""
        return "manifest.json"

    def make(self, places: Places) -> Path:
        """See `Need.make`."""
        path = places.work / "stores" / Path(self.recipe).stem
        # Written last: one whose extraction was stopped goes on.
        if not (path / COVERAGE).is_file():
            data = str(RawData(self.data).make(places)) if self.data else ""
            run_program(self._command(path, data))
        return path

    def remedy(self, path: Path) -> str:
        """See `Need.remedy`."""
        command = shlex.join(["python", *self._command(path, f"PATH/{self.data}" if self.data else "")])
        return f"make one with `{command}`" + (", or pass --data PATH alone, which does that" if self.data else "")

    def _command(self, path: Path, data: str) -> list[str]:
        command = ["jobs/extract.py", "--recipe", f"jobs/recipes/{self.recipe}", "--set", f"store={path}"]
        return command + (["--set", f"data={data}"] if data else [])


@dataclass(frozen=True)
class RunOf(Need):
    """A finished run of a recipe that comes along, without its variants.

    Attributes:
        recipe: name of its file.
        data: name of the data set it is made of; "" where it is generated.
        changes: `a.b.c=value` each, laid over the recipe.
        name: of the run, and of its store.
    """

    recipe: str
    name: str
    data: str = ""
    changes: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """See `Need.words`."""
        changed = f" with {', '.join(self.changes)}" if self.changes else ""
        return f"a finished run of {self.recipe}{changed}" + (f", from {self.data}" if self.data else "")

    @property
    def mark(self) -> str:
        """See `Need.mark`."""
        return "metrics-test.json"

    def make(self, places: Places) -> Path:
        """See `Need.make`."""
        path = places.work / "runs" / self.name
        if not (path / self.mark).is_file():
            data = str(RawData(self.data).make(places)) if self.data else ""
            run_program(self._command(path, data, places.work / "stores" / self.name))
        return path

    def remedy(self, path: Path) -> str:
        """See `Need.remedy`."""
        command = self._command(path, f"PATH/{self.data}" if self.data else "", None)
        return f"train one with `{shlex.join(['python', *command])}`"

    def _command(self, path: Path, data: str, store: Path | None) -> list[str]:
        command = ["jobs/train.py", "--recipe", f"jobs/recipes/{self.recipe}", "--run", str(path)]
        changes = ["variants={}", *self.changes]
        changes += [f"data={data}"] if data else []
        changes += [f"store={store}"] if store else []
        return command + [word for change in changes for word in ("--set", change)]


@dataclass(frozen=True)
class EmojiGraphs(Need):
    """The two graphs of emoji that tools/build_emoji_graph.py makes."""

    @property
    def words(self) -> str:
        """See `Need.words`."""
        return "the two graphs that tools/build_emoji_graph.py makes of Emoji"

    @property
    def mark(self) -> str:
        """See `Need.mark`."""
        return "left"

    def make(self, places: Places) -> Path:
        """See `Need.make`."""
        path = places.work / "emoji_graph"
        if not (path / self.mark).is_dir():
            run_program(self._command(path, str(RawData("Emoji").make(places))))
        return path

    def remedy(self, path: Path) -> str:
        """See `Need.remedy`."""
        return f"make them with `{shlex.join(['python', *self._command(path, 'PATH/Emoji')])}`"

    def _command(self, path: Path, data: str) -> list[str]:
        return ["tools/build_emoji_graph.py", "--data", data, "--out", str(path)]


def run_program(command: list[str]) -> None:
    """Run a program of this repository, and say so.

    Raises:
        ConfigError: it failed; what it said stands above.
    """
    sys.stderr.write(f"making it: {shlex.join(['python', *command])}\n")
    done = subprocess.run([sys.executable, *command], cwd=ROOT, stdout=sys.stderr, check=False)
    if done.returncode:
        raise ConfigError(
            f"{command[0]}: expected it to make what the benchmark needs, it ended with {done.returncode}; "
            "mend what it says above"
        )
