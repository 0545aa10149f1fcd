"""The next step's data, ready: drawn by a second thread while the step before computes.

Every draw is a function of its address, never of the time it was made at, so preparing early changes no result.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

T = TypeVar("T")


class _End:
    """Stands for the end of the items."""


_END: Final = _End()


def prefetch(items: Iterator[T]) -> Iterator[T]:
    """Yield items in their order; each is made while the caller works on the one before.

    What goes wrong in making an item is raised where the item was expected.
    """

    def following() -> T | _End:
        return next(items, _END)

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch") as pool:
        coming = pool.submit(following)
        while not isinstance(item := coming.result(), _End):
            coming = pool.submit(following)
            yield item
