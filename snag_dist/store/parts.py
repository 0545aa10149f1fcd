"""Making a feature table part by part, on Ray Data actors: vectors in, Parquet and mapped arrays out.

A part is a run of virtual shards. The actor that makes the vectors of a part also writes its files, so
vectors never travel; only a line of summary goes back. Its mark is written last, so that an extraction that
was killed goes on with the parts that lack theirs. What a part holds does not depend on which actor made it,
or when. Items that give no vector are listed in a file beside the mark.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from snag_dist.shard.partition import shard_bounds
from snag_dist.store.makers import ItemMaker, Made, VectorMaker, VectorMakerSpec
from snag_dist.store.schema import PROBLEM_SCHEMA, FeatureDtype, feature_schema, table_file
from snag_dist.store.shard_files import ShardWriter, save_mark, steps

# An encoder sorts and batches what it is handed, which is a part at most: smaller ones slow it down. A small table is
# cut nevertheless, so that a few actors can share it; below the second number a part costs more to schedule than to
# make.
_ENTITIES_PER_PART, _LEAST_ENTITIES, _FEW_PARTS = 512, 128, 4
MARKS = "parts"


@dataclass(frozen=True)
class PartPlan:
    """Where the parts of one table go, and how entities fall into them.

    Attributes:
        folder: of the table in the making, absolute.
        dtype: of the stored numbers.
        num_entities: E.
        virtual_shards: V.
    """

    folder: Path
    dtype: FeatureDtype
    num_entities: int
    virtual_shards: int

    @property
    def num_parts(self) -> int:
        """Return P, at most V."""
        few = min(_FEW_PARTS, self.num_entities // _LEAST_ENTITIES)
        return min(self.virtual_shards, max(1, few, self.num_entities // _ENTITIES_PER_PART))

    def shards(self, part: int) -> range:
        """Return the virtual shards of a part."""
        count = self.num_parts
        return range(part * self.virtual_shards // count, (part + 1) * self.virtual_shards // count)

    def shard_bounds(self) -> NDArray[np.int64]:
        """Return (V+1,) first rows of the virtual shards."""
        return shard_bounds(self.num_entities, self.virtual_shards)

    def bounds(self) -> NDArray[np.int64]:
        """Return (P+1,) first rows of the parts."""
        edges = [self.shards(part).start for part in range(self.num_parts)]
        return self.shard_bounds()[[*edges, self.virtual_shards]]

    def mark(self, part: int) -> Path:
        """Return the file that says a part is finished."""
        return self.folder / MARKS / f"part-{part:05}.npz"

    def problems(self, part: int) -> Path:
        """Return the file that lists the items of a part that gave no vector; written before the mark."""
        return self.folder / MARKS / f"part-{part:05}.problems.parquet"

    def blocks(self, rows: NDArray[np.int64], payload: pa.Array) -> list[pa.Table]:
        """Cut the entities that have the modality into one block a part, parts that are finished left out.

        Args:
            rows: (n,) ascending rows.
            payload: (n,) what the maker makes their vectors from.
        """
        edges = np.searchsorted(rows, self.bounds())
        return [
            pa.table(
                {
                    "part": pa.array([part], pa.int32()),
                    "rows": _one_list(pa.array(rows[start:stop], pa.int64())),
                    "payload": _one_list(payload.slice(start, stop - start)),
                }
            )
            for part, (start, stop) in enumerate(itertools.pairwise(edges))
            if not self.mark(part).is_file()
        ]


def _one_list(values: pa.Array) -> pa.Array:
    # One row a block, holding lists: Ray drops blocks without rows, and a part may lack any entity with the
    # modality.
    return pa.LargeListArray.from_arrays(pa.array([0, len(values)], pa.int64()), values)


class PartMaker:
    """The Ray Data actor: loads the maker once, then makes a part a call."""

    def __init__(self, plan: PartPlan, spec: VectorMakerSpec) -> None:
        self._plan = plan
        self._maker: VectorMaker | ItemMaker = spec.load()

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Make the parts of a batch.

        Returns:
            A row a part: part, how many of its entities were looked at, how many items gave no vector, and the first
                number that cannot be stored (bad_row is -1 if all can).
        """
        summaries = [
            self._make(batch["part"][i].as_py(), batch["rows"][i].values, batch["payload"][i].values)
            for i in range(batch.num_rows)
        ]
        return pa.Table.from_pylist(summaries, schema=SUMMARY_SCHEMA)

    def _make(self, part: int, rows: pa.Array, payload: pa.Array) -> dict[str, object]:
        plan = self._plan
        row_numbers = rows.to_numpy(zero_copy_only=False)
        bounds = plan.shard_bounds().tolist()
        ranges = [range(bounds[shard], bounds[shard + 1]) for shard in plan.shards(part)]
        width = self._maker.width
        writers = [
            ShardWriter(plan.folder, shard, inside, width, plan.dtype)
            for shard, inside in zip(plan.shards(part), ranges, strict=True)
        ]
        path = plan.folder / table_file(part)
        path.parent.mkdir(parents=True, exist_ok=True)
        problems: list[dict[str, object]] = []
        with pq.ParquetWriter(path, feature_schema(width, plan.dtype), compression="zstd") as table:
            # The maker is handed as much at a time as fits, whatever the shards: it sorts and batches better so.
            for begin, end in steps(0, len(row_numbers)):
                here = row_numbers[begin:end]
                made = self._of_maker(payload.slice(begin, end - begin))
                problems += [
                    {"row": int(here[index]), "item": item, "reason": why} for index, item, why in made.problems
                ]
                bad = _store(writers, table, here, made)
                if bad is not None:
                    return _summary(part, bad=bad)
        summaries = [writer.close() for writer in writers]
        plan.problems(part).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(problems, schema=PROBLEM_SCHEMA), plan.problems(part))
        save_mark(plan.mark(part), summaries)
        return _summary(part, len(row_numbers), len(problems))

    def _of_maker(self, payload: pa.Array) -> Made:
        if isinstance(self._maker, ItemMaker):
            return self._maker.make(payload)
        return Made.of_all(self._maker.vectors(payload))


SUMMARY_SCHEMA = pa.schema(
    [
        ("part", pa.int32()),
        ("num_seen", pa.int64()),
        ("num_problems", pa.int64()),
        ("bad_row", pa.int64()),
        ("bad_column", pa.int64()),
        ("bad_value", pa.float64()),
    ]
)


def _summary(
    part: int, num_seen: int = 0, num_problems: int = 0, *, bad: tuple[int, int, float] = (-1, 0, 0.0)
) -> dict[str, object]:
    return dict(zip(SUMMARY_SCHEMA.names, (part, num_seen, num_problems, *bad), strict=True))


def _store(
    writers: Sequence[ShardWriter], table: pq.ParquetWriter, rows: NDArray[np.int64], made: Made
) -> tuple[int, int, float] | None:
    """Write the vectors there are; or return row, column and value of the first number that cannot be stored."""
    usable = made.counts > 0
    kept, values = rows[usable], made.vectors[usable]
    with np.errstate(over="ignore"):
        vectors = values.astype(writers[0].dtype)
    finite = np.isfinite(vectors)
    if not finite.all():
        index, column = np.argwhere(~finite)[0]
        return int(kept[index]), int(column), float(values[index, column])
    for writer in writers:
        start, stop = np.searchsorted(kept, [writer.rows.start, writer.rows.stop])
        if start < stop:
            writer.add(kept[start:stop], vectors[start:stop])
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    counts = pa.array(made.counts[usable], pa.int32())
    table.write_batch(pa.record_batch([pa.array(kept), counts, lists], schema=table.schema))
    return None
