"""Freed memory stays with the process: what a step allocates, the next one allocates again."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Ask the C library to hand freed blocks out again instead of giving them back to the kernel.

    By default glibc maps every block above 32 MiB anew, and the kernel clears its pages whenever they are touched for
    the first time: up to half of a step of alignment on a CPU. The peak of a process hardly changes, but it keeps what
    it has once used. One arena, since blocks of others are bounded by 64 MiB and mapped.

    Returns:
        Whether the C library took all three settings; musl and macOS have none of them.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    settings = ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER))
    return all(mallopt(name, value) == 1 for name, value in settings)
