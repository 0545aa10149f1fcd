"""Who owns which rows.

Rows are in random order since ingest, so contiguous ranges are balanced. Everything stored per entity lies in V virtual
shards, and a worker owns whole shards: a file on disk has one reader and one writer at any number of workers.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from snag_dist.errors import ResourceError

Ids = NDArray[np.int64]


def shard_bounds(num_entities: int, num_shards: int) -> Ids:
    """Return (V+1,) first rows of the virtual shards; shard v holds rows [v*E//V, (v+1)*E//V)."""
    return np.arange(num_shards + 1, dtype=np.int64) * num_entities // num_shards


@dataclass(frozen=True)
class Partition:
    """Rows to workers.

    Attributes:
        num_entities: E.
        num_shards: V.
        num_workers: W, at most V.
    """

    num_entities: int
    num_shards: int
    num_workers: int

    def __post_init__(self) -> None:
        if self.num_workers > self.num_shards:
            raise ResourceError(
                f"cluster.num_workers: expected at most {self.num_shards}, one for every virtual shard of the store, "
                f"got {self.num_workers}; use fewer workers or ingest with more virtual_shards"
            )

    def shards(self, worker: int) -> range:
        """Virtual shards of a worker."""
        return range(worker * self.num_shards // self.num_workers, (worker + 1) * self.num_shards // self.num_workers)

    def shard_rows(self, shard: int) -> tuple[int, int]:
        """First row of a virtual shard, and the row after its last."""
        return (
            shard * self.num_entities // self.num_shards,
            (shard + 1) * self.num_entities // self.num_shards,
        )

    def rows(self, worker: int) -> tuple[int, int]:
        """First row of a worker, and the row after its last."""
        shards = self.shards(worker)
        return self.shard_rows(shards.start)[0], self.shard_rows(shards.stop - 1)[1]

    def bounds(self) -> Ids:
        """Return (W+1,) first rows of the workers."""
        starts = [self.rows(worker)[0] for worker in range(self.num_workers)]
        return np.array([*starts, self.num_entities], dtype=np.int64)

    def split(self, ids: Ids) -> list[int]:
        """Count how many of the ascending `ids` each worker owns."""
        return np.diff(np.searchsorted(ids, self.bounds())).tolist()
