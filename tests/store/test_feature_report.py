from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from snag_dist.store.feature_report import FeatureReport
from snag_dist.store.schema import PROBLEM_SCHEMA, PROBLEMS, feature_schema


def write(folder: Path, parts: list[list[tuple[int, int, list[float]]]], reasons: list[str]) -> None:
    (folder / "table").mkdir(parents=True)
    for number, lines in enumerate(parts):
        table = pa.table(
            {
                "row": [row for row, _, _ in lines],
                "num_items": pa.array([items for _, items, _ in lines], pa.int32()),
                "vector": pa.array([vector for _, _, vector in lines], pa.list_(pa.float32(), 2)),
            }
        ).cast(feature_schema(2, "float32"))
        pq.write_table(table, folder / "table" / f"part-{number:05}.parquet")
    problems = [{"row": 0, "item": "x", "reason": reason} for reason in reasons]
    pq.write_table(pa.Table.from_pylist(problems, schema=PROBLEM_SCHEMA), folder / PROBLEMS)


def test_a_table_by_hand(tmp_path: Path):
    write(
        tmp_path,
        [[(0, 1, [3, 4]), (2, 2, [0, 0])], [(5, 1, [3, 4]), (6, 3, [6, 8]), (7, 1, [3, 4])]],
        ["broken: at byte 3", "empty", "broken: at byte 9"],
    )
    report = FeatureReport.of(tmp_path, 10, np.array([2.0, 0.001]))
    assert (report.num_present, report.num_entities, report.width) == (5, 10, 2)
    assert (report.num_items, report.most_items) == (8, 3)
    assert (report.norm_min, report.norm_median, report.norm_max) == (0.0, 5.0, 10.0)
    assert report.num_zero == 1
    # The median deviation is about 1, and a thousandth of it is just above the second column's.
    assert report.nearly_constant_columns == (1,)
    assert (report.num_duplicates, report.largest_group) == (2, 3)
    assert report.duplicate_rows == ((0, 5), (0, 7))
    assert report.problems == {"broken": 2, "empty": 1}
    assert report.lines() == [
        "50.0% of 10 entities (5), 2-d, 8 items, at most 3 an entity",
        "norms 0 to 10, median 5, 1 of zeros",
        "1 columns are nearly constant",
        "2 vectors are identical to another entity's (largest group 3)",
        "2 items cannot be used: broken",
        "1 items cannot be used: empty",
    ]


def test_an_empty_table_and_vectors_that_differ_little(tmp_path: Path):
    write(tmp_path / "empty", [[]], [])
    assert FeatureReport.of(tmp_path / "empty", 4, np.array([1.0, 1.0])).num_duplicates == 0
    write(
        tmp_path / "near",
        [[(0, 1, [1.0, 2.0]), (1, 1, [2.0, 1.0]), (2, 1, [1.0, np.nextafter(2, 3, dtype=np.float32)])]],
        [],
    )
    assert FeatureReport.of(tmp_path / "near", 4, np.array([1.0, 1.0])).num_duplicates == 0
