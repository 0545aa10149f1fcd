"""Items ahead of time: in order, one ahead, errors where they belong."""

import threading
from collections.abc import Iterator

import pytest

from snag_dist.training.prefetch import prefetch


def test_items_keep_their_order() -> None:
    assert list(prefetch(iter(range(20)))) == list(range(20))
    assert list(prefetch(iter(()))) == []


def test_the_next_item_is_made_while_the_caller_works() -> None:
    made: list[int] = []
    second = threading.Event()

    def make() -> Iterator[int]:
        for number in range(3):
            made.append(number)
            if number == 1:
                second.set()
            yield number

    items = prefetch(make())
    assert next(items) == 0
    # The caller asks for nothing here, and the second item is made all the same, but not the third.
    assert second.wait(timeout=30)
    assert made == [0, 1]
    assert list(items) == [1, 2]


def test_an_error_comes_where_the_item_was_expected() -> None:
    def make() -> Iterator[int]:
        yield 0
        raise ValueError("the second one")

    items = prefetch(make())
    assert next(items) == 0
    with pytest.raises(ValueError, match="the second one"):
        next(items)


def test_a_caller_that_stops_leaves_no_thread() -> None:
    items = prefetch(iter(range(5)))
    assert next(items) == 0
    items.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert not any(thread.name.startswith("prefetch") for thread in threading.enumerate())
