"""Features by row: the arrays a worker maps, and the gather that every step makes.

The rows a worker owns lie in whole virtual shards, each a mapped array; a batch of ascending rows is one
fancy index a shard. Nothing is held but the presence of the worker's rows: the operating system keeps the
vectors that are used.
"""

from dataclasses import dataclass
from typing import Self
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from snag_dist.store.missing import MissingConfig, open_overlay
from snag_dist.store.opened import Store
from snag_dist.store.schema import STATISTICS, presence_file, shard_file
from snag_dist.store.shard_files import damaged, map_shard, read_presence
from snag_dist.store.statistics import load_statistics


@dataclass(frozen=True)
class FeatureRows:
    """The vectors of one modality for a range of rows.

    Attributes:
        first_row, last_row: the range [first_row, last_row).
        width: F.
        mean, std: (F,) float64 statistics of every column over all entities that have the modality; ddof 1.
        bounds: (number of shards + 1,) first rows of the mapped shards.
        shards: the mapped arrays, (rows, F) each.
        present: (last_row - first_row,) whether each row has the modality.
        covered: whether entities lost the modality whose vectors the shards still hold.
    """

    first_row: int
    last_row: int
    width: int
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    bounds: NDArray[np.int64]
    shards: tuple[NDArray[np.floating], ...]
    present: NDArray[np.bool_]
    covered: bool = False

    @classmethod
    def open(
        cls, store: Store, modality: str, first_row: int, last_row: int, missing: MissingConfig | None = None
    ) -> Self:
        """Map the shards that a range of rows touches.

        Args:
            store: with the modality.
            modality: its name.
            first_row, last_row: the range [first_row, last_row).
            missing: who has lost the modality; presence and statistics are then those of the overlay, which
                `make_overlays` made.

        Raises:
            ConfigError: see `open_overlay`.
            DataError: the store has no such modality, its table belongs to another store, a file has changed, or the
                overlay is not there.
        """
        manifest = store.feature(modality)
        folder = store.feature_folder(modality)
        over = folder if missing is None else open_overlay(store, modality, missing)[0]
        bounds = store.shard_bounds
        first = max(0, int(np.searchsorted(bounds, first_row, side="right")) - 1)
        stop = int(np.searchsorted(bounds, last_row, side="left"))
        # Seen as plain arrays: numpy's own memmap class costs more than the gather of a small batch.
        shards = tuple(np.asarray(map_shard(folder / shard_file(shard))) for shard in range(first, stop))
        bits = [read_presence(over / presence_file(first + i), len(shard)) for i, shard in enumerate(shards)]
        start = int(bounds[first])
        present = np.concatenate([np.zeros(0, dtype=bool), *bits])[first_row - start : last_row - start]
        try:
            mean, std = load_statistics(over / STATISTICS)
        except (ValueError, OSError, EOFError, KeyError, BadZipFile) as error:
            raise damaged(over / STATISTICS) from error
        return cls(
            first_row,
            last_row,
            manifest.width,
            mean,
            std,
            bounds[first : stop + 1],
            shards,
            present,
            covered=missing is not None,
        )

    def gather(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Read the vectors of some rows.

        Args:
            rows: (n,) global row ids, ascending, in [first_row, last_row).

        Returns:
            (n, F) float32, zeros where the modality is absent, and (n,) whether it is present.
        """
        gathered = np.empty((len(rows), self.width), dtype=np.float32)
        edges = np.searchsorted(rows, self.bounds)
        for shard, array in enumerate(self.shards):
            start, stop = int(edges[shard]), int(edges[shard + 1])
            if start < stop:
                _copy_rows(array, rows[start:stop] - self.bounds[shard], gathered[start:stop])
        present = self.present[rows - self.first_row]
        if self.covered:
            gathered[~present] = 0.0
        return gathered, present


def _copy_rows(array: NDArray[np.floating], rows: NDArray[np.int64], out: NDArray[np.float32]) -> None:
    picked = np.take(array, rows, axis=0)
    # torch widens float16 with vector instructions: measured twenty times faster than numpy.
    torch.from_numpy(out).copy_(torch.from_numpy(picked))
