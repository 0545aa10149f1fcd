"""Parquet for `datasets.load_dataset("parquet", data_files="FOLDER/*.parquet")`: an entity a line, with its code."""

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from snag_dist.export.consumers.handed import Handed
from snag_dist.model.features import GRAPH
from snag_dist.store.schema import ENTITIES

_ROWS_A_BATCH = 10_000
_ROWS_A_FILE = 50 * _ROWS_A_BATCH


def write_parquet(handed: Handed) -> None:
    """Write `part-00000.parquet` and so on: the columns of `entities.parquet`, confidence by token, and the code."""
    people = pq.ParquetFile(handed.folder.parent / ENTITIES).iter_batches(batch_size=_ROWS_A_BATCH)
    first = 0
    for part in range(-(-handed.num_entities // _ROWS_A_FILE)):
        writer: pq.ParquetWriter | None = None
        while first < min(handed.num_entities, (part + 1) * _ROWS_A_FILE):
            table = _with_codes(handed, pa.Table.from_batches([next(people)]), first)
            writer = writer or pq.ParquetWriter(handed.folder / f"part-{part:05}.parquet", table.schema)
            writer.write_table(table)
            first += len(table)
        if writer is not None:
            writer.close()


def _with_codes(handed: Handed, people: pa.Table, first: int) -> pa.Table:
    rows = torch.arange(first, first + len(people))
    confidence = handed.tables.read("confidence", rows)
    for position, name in enumerate((GRAPH, *handed.source.encoder.modalities)):
        people = people.append_column(f"confidence_{name}", pa.array(confidence[:, position].numpy()))
    codes = pa.array(handed.codes(rows).numpy().reshape(-1))
    return people.append_column("code", pa.FixedSizeListArray.from_arrays(codes, handed.width))
