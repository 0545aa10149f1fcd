"""What a consumer's writer is given: the tables of the export in the making, and what stands behind them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from snag_dist.export.hf.tables_snag import EntityTables
from snag_dist.export.source import RunSource

_BLOCK = 8192


@dataclass(frozen=True)
class Handed:
    """An export whose entity tables are written.

    Attributes:
        folder: where the consumer's files go; it is there, and empty.
        source: the run behind the export.
        tables: of the export.
    """

    folder: Path
    source: RunSource
    tables: EntityTables

    @property
    def num_entities(self) -> int:
        """E."""
        return self.source.store.num_entities

    @property
    def width(self) -> int:
        """D."""
        return self.source.encoder.width

    def codes(self, rows: Tensor) -> Tensor:
        """Read codes as they are exported, in float32: (n,) rows to (n, D)."""
        return self.tables.read("codes", rows)

    def row_blocks(self) -> Iterator[Tensor]:
        """Cut all rows, in order, into blocks (n,) that fit in memory."""
        for first in range(0, self.num_entities, _BLOCK):
            yield torch.arange(first, min(first + _BLOCK, self.num_entities))
