"""Every error a person can cause, and nothing else.

A message is one line with four parts: the place (file and row, or dotted path), what was expected, the value found,
and the remedy. Jobs print that line and exit with code 2; a traceback means a bug of ours.
"""

import errno
import os
from collections.abc import Iterable, Iterator

from snag_dist.redaction import hide_secrets

# What a disk, a path or its rights cause. A file that is missing is not among them: whoever reads one says what it is.
_OF_THE_SYSTEM = frozenset(
    {
        *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO),
        *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP),
    }
)


class SnagError(Exception):
    """Base of all errors that are the user's to mend."""

    def __init__(self, message: str = ""):
        """Keep a message, without passwords and tokens of URLs: many show again what a person wrote."""
        super().__init__(hide_secrets(message))


class ConfigError(SnagError):
    """A recipe, an override or a command-line option is wrong."""


class DataError(SnagError):
    """A file of the user, or a store made from it, is wrong."""


class CheckpointError(SnagError):
    """A run folder or a checkpoint is missing, damaged, or belongs to another run."""


class Interrupted(SnagError):
    """A run was asked to stop, and did, with a checkpoint: nothing is wrong, and it can go on."""


class TakenOver(SnagError):
    """Another command claimed the folder of a run or a sweep; this one ends, and nothing is lost."""


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
    return next((inner for inner in _unwrap(error) if isinstance(inner, SnagError)), None)


def describe_system_error(error: BaseException) -> str | None:
    """Say in one line what the system refused: a full disk, missing rights, a file where a folder should be.

    Args:
        error: what was caught on the driver.

    Returns:
        Place, value and remedy; None if it is no such error.
    """
    for inner in _unwrap(error):
        if isinstance(inner, OSError) and inner.errno in _OF_THE_SYSTEM:
            place = "the disk" if inner.filename is None else os.fsdecode(inner.filename)
            remedy = "make room" if inner.errno in (errno.ENOSPC, errno.EDQUOT) else "mend the path or its rights"
            return (
                f"{place}: expected to read or write there, got: {os.strerror(inner.errno)}; {remedy}, and start the "
                "same command again"
            )
    return None


def _unwrap(error: BaseException) -> Iterator[BaseException]:
    pending: list[BaseException] = [error]
    seen: set[int] = set()
    while pending:
        current = pending.pop(0)
        if id(current) not in seen:
            seen.add(id(current))
            yield current
            pending.extend(_inner_errors(current))


def _inner_errors(error: BaseException) -> Iterable[BaseException]:
    # Ray keeps the exception in `cause` (task errors), `worker_failures` by rank, or `controller_failure` (Ray Train).
    failures: object = getattr(error, "worker_failures", None)
    by_rank: dict[object, object] = failures if isinstance(failures, dict) else {}  # pyright: ignore[reportUnknownVariableType]
    names = ("cause", "_base_exc", "controller_failure")
    wrapped = [getattr(error, name, None) for name in names]
    candidates = [error.__cause__, *wrapped, *by_rank.values(), error.__context__]
    return [inner for inner in candidates if isinstance(inner, BaseException)]
