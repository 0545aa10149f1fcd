"""The command-line face of the jobs: their four options, their exit codes, their log lines."""

import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.logging import RichHandler

from snag_dist.errors import ConfigError, Interrupted, describe_system_error, find_user_error
from snag_dist.redaction import hide_secrets
from snag_dist.training.recipe import Recipe, load_recipe

logger = logging.getLogger("snag_dist")
console = Console()

# Options that cannot be read. Depending on its version typer has the class from click, or from a copy of its own.
_OptionsError: Any = typer.BadParameter.__mro__[1]

USER_ERROR = 2
"""Exit code where the user can mend what is wrong."""
TRY_AGAIN = 75
"""Exit code of a run that was asked to stop: the same command goes on (EX_TEMPFAIL of sysexits.h)."""

RecipeOption = Annotated[Path, typer.Option("--recipe", help="Recipe file (TOML); see jobs/recipes.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override a field: a.b.c=value. May be given often.")
]
RunOption = Annotated[str | None, typer.Option("--run", help="Name of the run, or path of its folder.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print the resolved config and the plan; do nothing.")]


def run_job(job: Callable[..., None]) -> None:
    """Run a job's function as a program: options from its signature, and exit codes.

    What the user can mend is one line and `USER_ERROR`: options, input, a full disk. A run that was asked to stop says
    how it goes on and ends with `TRY_AGAIN`.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[_handler()])
    logging.getLogger("snag_dist").setLevel(logging.INFO)
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(job)
    try:
        # In its own mode typer would tell wrong options in several lines, and end the program.
        sys.exit(app(standalone_mode=False) or 0)
    except _OptionsError as error:
        _end(f"{job.__name__}: {error.format_message().rstrip('.')}; mend the command, --help lists its options")
    except Exception as error:
        cause = find_user_error(error)
        if isinstance(cause, Interrupted):
            sys.stderr.write(f"{cause}\n")
            sys.exit(TRY_AGAIN)
        message = describe_system_error(error) if cause is None else str(cause)
        if message is None:
            raise
        logger.debug("where it was met", exc_info=error)
        _end(message)


def _end(message: str) -> NoReturn:
    # What a library said may have several lines.
    sys.stderr.write(f"error: {' '.join(message.splitlines())}\n")
    sys.exit(USER_ERROR)


def _handler() -> logging.Handler:
    if sys.stderr.isatty():
        return RichHandler(console=Console(stderr=True), show_path=False, show_level=False)
    return logging.StreamHandler(sys.stderr)


def resolve(recipe: Path, overrides: Sequence[str] | None, run: str | None) -> Recipe:
    """Load a recipe with its overrides; `run` names the run, or is the path of its folder."""
    return load_recipe(recipe, [*(overrides or ()), *name_run(run)])


def name_run(run: str | None) -> list[str]:
    """Return the overrides that --run stands for: the name of a run, or the path of its folder."""
    if run is None:
        return []
    path = Path(run)
    runs = [f"runs={json.dumps(str(path.parent))}"] if path.parent != Path() else []
    return [f"name={json.dumps(path.name)}", *runs]


def run_folder(run: str | None) -> Path:
    """Path of a run that must exist already: a folder, or a name below `runs`.

    Raises:
        ConfigError: no run was named.
    """
    if run is None:
        raise ConfigError("--run: expected the folder of a run, got nothing; pass --run runs/NAME")
    path = Path(run)
    return path if path.exists() or path.parent != Path() else Path("runs") / run


def show_tree(tree: Mapping[str, Any]) -> None:
    """Print a plain tree of config as JSON, without secrets of URLs."""
    console.print_json(hide_secrets(json.dumps(tree)))


def say(text: Any) -> None:
    """Print to standard output: text as it is, anything else as rich lays it out."""
    if isinstance(text, str):
        console.print(text, soft_wrap=True, highlight=False, markup=False)
    else:
        console.print(text)
