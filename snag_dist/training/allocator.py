"""Memory of the host: what a step frees the next step uses again, everything else goes back to the system."""

import ctypes
from typing import Any

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_NEVER, _ANY_NUMBER, _NONE = 2**31 - 1, 65536, 0
LARGE_BYTES = 1 << 20
"""Blocks from here on are mapped, and given back when freed, unless a step reuses them."""

ENVIRONMENT = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": str(LARGE_BYTES)}
"""For the processes of workers, read when they start. One arena, since the others keep no block above 64 MiB."""


class StepMemory:
    """Inside, glibc hands freed blocks out again; outside, it maps large ones anew and gives them back when freed.

    Pages of a block that is mapped anew are cleared by the kernel whenever they are touched for the first time: up to
    half of a step of alignment on a CPU. Rows, copies for a checkpoint and blocks of an evaluation are large and come
    seldom; those are mapped, so that no hole in the heap outlives them. A process grows over its first steps until
    a freed block fits every request. Where the C library has no such settings, nothing changes.

    Args:
        reuse: False leaves a step as everything else: large blocks that it frees go back. Small ones do not, and in a
            loss over all entities, which goes block by block, nearly all are small: `release` gives them back too.
    """

    def __init__(self, *, reuse: bool = True) -> None:
        self._library = _find_library()
        self._reused = self._library if reuse else None
        if self._reused is not None:
            self._reused.mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
            self._reused.mallopt(_M_TRIM_THRESHOLD, _NEVER)

    @property
    def is_effective(self) -> bool:
        """Whether steps reuse memory: glibc has the settings, musl and macOS have none of them."""
        return self._reused is not None

    def __enter__(self) -> "StepMemory":
        if self._reused is not None:
            self._reused.mallopt(_M_MMAP_MAX, _NONE)
        return self

    def __exit__(self, *_error: object) -> None:
        if self._reused is not None:
            self._reused.mallopt(_M_MMAP_MAX, _ANY_NUMBER)

    def release(self) -> None:
        """Give back what steps have left, before something else needs the room."""
        if self._library is not None:
            self._library.malloc_trim(0)


def _find_library() -> Any:
    try:
        library = ctypes.CDLL(None)
        return library if library.mallopt and library.malloc_trim else None
    except (OSError, AttributeError, TypeError):
        return None
