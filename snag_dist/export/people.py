"""`entities.parquet` and `relations.parquet`: which row is whom."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from snag_dist.export.source import Block
from snag_dist.store.opened import Store
from snag_dist.store.schema import ENTITIES, RELATIONS


def entity_schema(modalities: tuple[str, ...]) -> pa.Schema:
    """Return the columns: row, key, name, one `has_<modality>` each, and the training triples the entity is in."""
    fields: list[tuple[str, pa.DataType]] = [
        ("row", pa.int64()),
        ("key", pa.large_string()),
        ("name", pa.large_string()),
        *((f"has_{name}", pa.bool_()) for name in modalities),
        ("num_train_triples", pa.int32()),
    ]
    return pa.schema(fields)


class EntityWriter:
    """Writes `entities.parquet` block by block."""

    def __init__(self, folder: Path, store: Store, modalities: tuple[str, ...]):
        self._schema = entity_schema(modalities)
        self._writer = pq.ParquetWriter(folder / ENTITIES, self._schema)
        self._degrees = train_degrees(store)
        self._modalities = modalities
        source = pq.ParquetFile(store.path / ENTITIES)
        self._batches = source.iter_batches(columns=["row", "key", "name"])
        self._pending = pa.Table.from_batches(
            [], pa.schema([source.schema_arrow.field(c) for c in ("row", "key", "name")])
        )

    @property
    def num_untrained(self) -> int:
        """Entities in no training triple."""
        return int(np.count_nonzero(self._degrees == 0))

    def add(self, block: Block) -> None:
        """Write the next block; blocks follow one another without gaps."""
        num = len(block.rows)
        while len(self._pending) < num:
            self._pending = pa.concat_tables([self._pending, pa.Table.from_batches([next(self._batches)])])
        columns = {name: self._pending[name][:num] for name in ("row", "key", "name")}
        for position, name in enumerate(self._modalities):
            columns[f"has_{name}"] = pa.array(block.has[:, position].numpy())
        columns["num_train_triples"] = pa.array(self._degrees[block.first_row : block.first_row + num])
        self._writer.write_table(pa.table(columns, schema=self._schema))
        self._pending = self._pending.slice(num)

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()


def train_degrees(store: Store) -> NDArray[np.int32]:
    """Count, part by part, the training triples each entity is in: (E,); one with itself counts twice."""
    degrees = np.zeros(store.num_entities, dtype=np.int32)
    for part in store.triple_parts("train"):
        for batch in pq.ParquetFile(part).iter_batches(columns=["head", "tail"]):
            for column in ("head", "tail"):
                np.add.at(degrees, batch[column].to_numpy(), 1)
    return degrees


def write_relations(folder: Path, store: Store) -> None:
    """Write `relations.parquet`: id, key, name; id i is row i of the relation table."""
    pq.write_table(store.relations(), folder / RELATIONS)
