"""Threads of an ingest end with every task done, or, on an error, without those that had not begun."""

import threading

import pytest

from snag_dist.store.pipeline import threads


def test_a_result_may_be_asked_for_after_the_threads_have_ended():
    gate = threading.Event()
    with threads() as pool:
        busy = [pool.later(gate.wait) for _ in range(pool._most)]
        late = pool.later(lambda: 7)
        # Opened only once the block is left, when `late` has certainly not begun.
        threading.Timer(0.2, gate.set).start()
    assert all(task.result() for task in busy)
    assert late.result() == 7


def test_an_error_drops_what_has_not_begun():
    gate = threading.Event()
    with pytest.raises(KeyError), threads() as pool:
        for _ in range(pool._most):
            pool.later(gate.wait)
        late = pool.later(lambda: 7)
        threading.Timer(0.2, gate.set).start()
        raise KeyError
    assert late.cancelled()
