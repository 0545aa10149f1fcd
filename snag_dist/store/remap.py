"""From source ids to rows: what Ray Data's tasks do to a block of triples.

Nothing here needs torch, so that a worker of Ray starts fast.
"""

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray
from ray import ObjectRef
from ray.data.datasource import FilenameProvider

from snag_dist.store.schema import TRIPLE_SCHEMA

UNKNOWN = -1
"""Stands where a source names something that is not there; no table of a finished store holds it."""


def to_rows(block: pa.Table, *, rows: ObjectRef, num_relations: int) -> pa.Table:
    """Check the ids of a block and replace entity ids by rows.

    Args:
        block: head, relation, tail as source ids.
        rows: (E,) int64 row of every source id, in the object store.
        num_relations: R.

    Returns:
        A block as the store keeps it; `UNKNOWN` where an id is out of range.
    """
    row_of_id: NDArray[np.int64] = ray.get(rows)
    columns = [
        _look_up(row_of_id, _ids(block, "head")),
        _in_range(_ids(block, "relation"), num_relations).astype(np.int32),
        _look_up(row_of_id, _ids(block, "tail")),
    ]
    return pa.table([pa.array(column) for column in columns], schema=TRIPLE_SCHEMA)


def _ids(block: pa.Table, column: str) -> NDArray[np.int64]:
    ids = block[column].cast(pa.int64())
    return ids.fill_null(UNKNOWN).to_numpy()


def _in_range(ids: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    return np.where((ids >= 0) & (ids < size), ids, UNKNOWN)


def _look_up(row_of_id: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.int64]:
    known = _in_range(ids, len(row_of_id))
    return np.where(known == UNKNOWN, UNKNOWN, row_of_id[known])


class PartNames(FilenameProvider):
    """Names the file of a write task by the place of its block: names sort in the order of the rows."""

    def get_filename_for_task(self, write_uuid: str, task_index: int) -> str:
        """Return the template of a task's file names; Arrow fills in `{i}`, the file's number in the task."""
        return f"part-{task_index:06}-{{i}}.parquet"
