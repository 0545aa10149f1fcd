import numpy as np
import pyarrow as pa
import pytest
import ray

from snag_dist.store.remap import UNKNOWN, PartNames, to_rows
from snag_dist.store.schema import TRIPLE_SCHEMA

pytestmark = pytest.mark.ray


def test_ids_become_rows_and_what_is_out_of_range_is_marked(local_ray: None):
    rows = ray.put(np.array([2, 0, 1], dtype=np.int64))
    block = pa.table({"head": [0, 1, 3, -1], "relation": [1, 2, 0, 0], "tail": [2, 2, 0, None]})
    mapped = to_rows(block, rows=rows, num_relations=2)
    assert mapped.schema == TRIPLE_SCHEMA
    assert mapped["head"].to_pylist() == [2, 0, UNKNOWN, UNKNOWN]
    assert mapped["relation"].to_pylist() == [1, UNKNOWN, 0, 0]
    assert mapped["tail"].to_pylist() == [1, 1, 2, UNKNOWN]


def test_part_names_sort_in_the_order_of_the_tasks():
    names = [PartNames().get_filename_for_task("x", task) for task in (0, 2, 11, 100_000)]
    assert names == sorted(names)
    assert names[0] == "part-000000-{i}.parquet"
