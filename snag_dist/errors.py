"""Every error a person can cause, and nothing else.

A message is one line with four parts: the place (file and row, or dotted path), what was expected, the value found,
and the remedy. Jobs print that line and exit with code 2; a traceback means a bug of ours.
"""

from collections.abc import Iterable


class SnagError(Exception):
    """Base of all errors that are the user's to mend."""


class ConfigError(SnagError):
    """A recipe, an override or a command-line option is wrong."""


class DataError(SnagError):
    """A file of the user, or a store made from it, is wrong."""


class CheckpointError(SnagError):
    """A run folder or a checkpoint is missing, damaged, or belongs to another run."""


class Interrupted(SnagError):
    """A run was asked to stop, and did, with a checkpoint: nothing is wrong, and it can go on."""


class ResourceError(SnagError):
    """The machine or the cluster cannot place what was asked for."""


class NumericError(SnagError):
    """A number that must be finite is not."""


class ShapeError(SnagError):
    """A tensor handed to the paper half has the wrong shape."""


def find_user_error(error: BaseException) -> SnagError | None:
    """Look for a `SnagError` inside the wrappers that a remote worker's failure comes in.

    Args:
        error: what was caught on the driver, e.g. Ray's task error around the worker's own exception.

    Returns:
        The first `SnagError` along causes, contexts and per-worker failures; None if there is none.
    """
    pending: list[BaseException] = [error]
    seen: set[int] = set()
    while pending:
        current = pending.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, SnagError):
            return current
        pending.extend(_inner_errors(current))
    return None


def _inner_errors(error: BaseException) -> Iterable[BaseException]:
    # Ray keeps the exception in `cause` (task errors), `worker_failures` by rank, or `controller_failure` (Ray Train).
    failures: object = getattr(error, "worker_failures", None)
    by_rank: dict[object, object] = failures if isinstance(failures, dict) else {}  # pyright: ignore[reportUnknownVariableType]
    names = ("cause", "_base_exc", "controller_failure")
    wrapped = [getattr(error, name, None) for name in names]
    candidates = [error.__cause__, *wrapped, *by_rank.values(), error.__context__]
    return [inner for inner in candidates if isinstance(inner, BaseException)]
