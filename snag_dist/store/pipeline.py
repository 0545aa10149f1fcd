"""How the store's own Ray Data pipelines run: in order, one task a block, and silent about it.

Blocks are cut by us and never by Ray, so what a task sees and the file it writes depend on the data alone,
not on how many tasks ran at a time or which ended first.
"""

from collections.abc import Callable, Sequence

import pyarrow as pa
import ray
import ray.data

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, how much of it is done, how much there is)."""


def no_progress(what: str, done: int, total: int) -> None:
    """Report nothing."""


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
