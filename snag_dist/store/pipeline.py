"""How the store's pipelines run: in order, one task a block.

Blocks are cut by us, so what a task sees and the file it writes depend on the data alone, not on how many tasks ran
at a time or which ended first. The triples of an ingest go through threads of one process: Arrow, numpy and numba let
go of the interpreter, and a block costs less than to hand it to another process. Features and streams of training run
on Ray Data, silent about it.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import pyarrow as pa
import ray
import ray.data

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, how much of it is done, how much there is)."""

T = TypeVar("T")


def no_progress(what: str, done: int, total: int) -> None:
    """Report nothing."""


class Threads:
    """Runs tasks in threads, one a core; at most two a core are under way, so that memory is bounded by as many blocks.

    Made by `threads`.
    """

    def __init__(self, pool: ThreadPoolExecutor, num: int) -> None:
        self._pool = pool
        self._most = 2 * num
        self._left: deque[Future[None]] = deque()

    def in_order(self, tasks: Iterable[Callable[[], T]]) -> Iterator[T]:
        """Yield what the tasks return, in their order; a task is asked for when one before it is done."""
        under_way: deque[Future[T]] = deque()
        for task in tasks:
            under_way.append(self._pool.submit(task))
            if len(under_way) >= self._most:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()

    def start(self, task: Callable[[], None]) -> None:
        """Run a task whose end `wait` awaits; waits for an earlier one where many are under way."""
        self._left.append(self._pool.submit(task))
        while len(self._left) >= self._most:
            self._left.popleft().result()

    def later(self, task: Callable[[], T]) -> "Future[T]":
        """Run a task beside what follows; whoever asks for its result waits for it."""
        return self._pool.submit(task)

    def wait(self) -> None:
        """Wait for the tasks of `start`, and raise what they raised."""
        while self._left:
            self._left.popleft().result()


@contextmanager
def threads() -> Iterator[Threads]:
    """Lend threads, as many as this process may use cores, and wait for every task.

    On an error tasks that have not begun are dropped.
    """
    num = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    pool = ThreadPoolExecutor(num)
    try:
        yield Threads(pool, num)
    except BaseException:
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()


def dataset_of_blocks(blocks: Sequence[pa.Table]) -> ray.data.Dataset:
    """Return a dataset of exactly these blocks, whose order every later step keeps."""
    dataset = ray.data.from_arrow(list(blocks))
    # Set on the dataset, not on the process: the caller's own pipelines keep their settings.
    dataset.context.execution_options.preserve_order = True
    dataset.context.enable_progress_bars = False
    return dataset


def num_cluster_cpus() -> int:
    """Return the CPUs Ray has altogether, at least 1."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))
