"""The keys of entities and relations: listed, counted, generated, or still to be numbered."""

# pyarrow.compute makes its functions when it is imported, where a type checker does not see them.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from snag_dist.errors import DataError
from snag_dist.kg.world import World
from snag_dist.store.blocks import Ints, Places
from snag_dist.store.numbering import KEYS_PER_CHUNK, NumberedKeys, Order
from snag_dist.store.parquet_files import iter_table, list_files


@dataclass(frozen=True)
class ListedKeys:
    """Keys and names in memory, (n,) large_string each, in the order of the ids."""

    keys: pa.Array
    names: pa.Array

    @property
    def num(self) -> int:
        return len(self.keys)

    def describe(self, ids: Ints) -> pa.Table:
        """Return key and name of some ids."""
        return pa.table({"key": self.keys.take(pa.array(ids)), "name": self.names.take(pa.array(ids))})


@dataclass(frozen=True)
class CountedKeys:
    """Ids that have no other key than their number."""

    num: int

    def describe(self, ids: Ints) -> pa.Table:
        """Return key and name of some ids."""
        keys = pa.array(ids).cast(pa.large_string())
        return pa.table({"key": keys, "name": keys})


@dataclass(frozen=True)
class WorldKeys:
    """Entities of a generated world."""

    world: World

    @property
    def num(self) -> int:
        return self.world.num_entities

    def describe(self, ids: Ints) -> pa.Table:
        """Return key and name of some ids."""
        keys, names = self.world.keys(ids), self.world.names(ids)
        return pa.table({"key": pa.array(keys, pa.large_string()), "name": pa.array(names, pa.large_string())})


@dataclass(frozen=True)
class UnnumberedKeys:
    """Keys that get their ids once all are known.

    Attributes:
        order: see `Numbering`.
        by_key: whether the triples hold the keys; else their ids.
        table: Parquet with a column `key` and perhaps `name`, for the order `table`.
        labels: names of some keys, where there is no table.
    """

    order: Order
    by_key: bool
    table: Path | None = None
    labels: ListedKeys | None = None

    def runs(self) -> Iterator[tuple[pa.Array, pa.Array | None]]:
        """Go through keys, and names, of the table or of the labels."""
        if self.labels is not None:
            yield self.labels.keys, self.labels.names
        if self.table is not None:
            yield from _read_table(self.table)


Keys = ListedKeys | CountedKeys | WorldKeys | UnnumberedKeys


def keys_in_order(keys: ListedKeys | CountedKeys | WorldKeys | NumberedKeys, places: Places) -> Iterator[pa.Table]:
    """Go through key and name of all keys by their places in the store, some at a time."""
    if isinstance(keys, NumberedKeys):
        yield from keys.in_order()
        return
    for begin in range(0, keys.num, KEYS_PER_CHUNK):
        yield keys.describe(places.ids(np.arange(begin, min(begin + KEYS_PER_CHUNK, keys.num), dtype=np.int64)))


def _read_table(path: Path) -> Iterator[tuple[pa.Array, pa.Array | None]]:
    row = 0
    for file in list_files(path):
        schema = pq.read_schema(file)
        if "key" not in schema.names:
            raise DataError(f"{path}: expected a column 'key', found {', '.join(schema.names)}; rename the column")
        columns = ["key", "name"] if "name" in schema.names else ["key"]
        for batch in iter_table(file, columns, KEYS_PER_CHUNK):
            keys = batch["key"].cast(pa.large_string())
            if keys.null_count:
                missing = row + pc.index(keys.is_null(), True).as_py()
                raise DataError(f"{path} row {missing}: expected a key, got none; fill it in")
            names = pc.coalesce(batch["name"].cast(pa.large_string()), keys) if len(columns) > 1 else None
            row += len(keys)
            yield keys, names
