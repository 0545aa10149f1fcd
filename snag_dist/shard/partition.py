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


@dataclass(frozen=True)
class JointPartition(Partition):
    """Entities of which some are new: every virtual shard has its rows of the table, and new ones behind them.

    So a worker owns the known entities that it owns without the new ones too, and no row has to travel.

    Attributes:
        num_entities: E, the new ones included.
        num_new: H of them; they are numbered from 0, as the rows of the table are.
    """

    num_new: int = 0

    @property
    def num_known(self) -> int:
        """Rows of the table."""
        return self.num_entities - self.num_new

    def known_of(self, shard: int) -> tuple[int, int]:
        """First row of the table in a virtual shard, and the row after its last."""
        return self._share(self.num_known, shard), self._share(self.num_known, shard + 1)

    def new_of(self, shard: int) -> tuple[int, int]:
        """First of the new ones in a virtual shard, and the one after its last."""
        return self._share(self.num_new, shard), self._share(self.num_new, shard + 1)

    def shard_rows(self, shard: int) -> tuple[int, int]:
        """See `Partition.shard_rows`."""
        (start, stop), (first, last) = self.known_of(shard), self.new_of(shard)
        return start + first, stop + last

    def ids_of_known(self, rows: Ids) -> Ids:
        """Return the ids (N,) of rows (N,) of the table."""
        bounds = shard_bounds(self.num_known, self.num_shards)
        shards = np.searchsorted(bounds, rows, side="right") - 1
        return rows + shard_bounds(self.num_new, self.num_shards)[shards]

    def ids_of_new(self, numbers: Ids) -> Ids:
        """Return the ids (N,) of new ones by their numbers (N,)."""
        bounds = shard_bounds(self.num_new, self.num_shards)
        shards = np.searchsorted(bounds, numbers, side="right") - 1
        return numbers + shard_bounds(self.num_known, self.num_shards)[shards + 1]

    def _share(self, num: int, shard: int) -> int:
        return shard * num // self.num_shards
