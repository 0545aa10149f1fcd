"""The Parquet files of a store's triples: cut anew to one size, whatever blocks they come in."""

from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from snag_dist.store.pipeline import Threads
from snag_dist.store.schema import TRIPLE_SCHEMA, TRIPLES


class TripleFiles:
    """Writes the splits of a store, each a file of `rows_per_part` triples at a time.

    Args:
        store: folder of the store.
        rows_per_part: triples in a file, but for the last of a split.
        threads: that encode and write.
    """

    def __init__(self, store: Path, rows_per_part: int, threads: Threads) -> None:
        self._folder = store / TRIPLES
        self._rows_per_part = rows_per_part
        self._threads = threads
        self._waiting: dict[str, list[pa.Table]] = {}
        self._num_parts: dict[str, int] = {}
        self.num_triples: dict[str, int] = {}

    def add(self, split: str, table: pa.Table) -> None:
        """Take the next triples of a split, columns as the store has them."""
        self.num_triples[split] = self.num_triples.get(split, 0) + table.num_rows
        waiting = self._waiting.setdefault(split, [])
        waiting.append(table)
        if sum(piece.num_rows for piece in waiting) >= self._rows_per_part:
            together = pa.concat_tables(waiting)
            whole = together.num_rows - together.num_rows % self._rows_per_part
            for begin in range(0, whole, self._rows_per_part):
                self._write(split, together.slice(begin, self._rows_per_part))
            self._waiting[split] = [together.slice(whole)]

    def close(self) -> None:
        """Write what is left, and wait for all files."""
        for split, waiting in self._waiting.items():
            rest = pa.concat_tables(waiting)
            if rest.num_rows or not self._num_parts.get(split):
                self._write(split, rest)
        self._threads.wait()

    def _write(self, split: str, table: pa.Table) -> None:
        number = self._num_parts.get(split, 0)
        self._num_parts[split] = number + 1
        folder = self._folder / split
        folder.mkdir(parents=True, exist_ok=True)
        self._threads.start(partial(_write_part, folder / f"part-{number:06}-0.parquet", table))


def _write_part(path: Path, table: pa.Table) -> None:
    assert table.schema == TRIPLE_SCHEMA
    # Few relations, many entities: a dictionary of these would be dropped half way.
    encoded: Any = ["relation"]
    pq.write_table(table, path, compression="zstd", use_dictionary=encoded)
