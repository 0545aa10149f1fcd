"""Per-query ranks on disk: one Parquet file a finished block, so that an interrupted evaluation goes on.

    part-<first question>-<question after the last>.parquet

A part is written beside its place and renamed, so a file that is there is whole. Each carries the identity of
its evaluation: ranks of another checkpoint or split are never mixed in.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from snag_dist.errors import DataError
from snag_dist.ranking.ranks import RankTable
from snag_dist.store.manifest import replacing

RANK_SCHEMA = pa.schema(
    [
        ("head", pa.int64()),
        ("relation", pa.int32()),
        ("tail", pa.int64()),
        ("direction", pa.string()),
        ("better", pa.int64()),
        ("equal", pa.int64()),
        ("rank_optimistic", pa.int64()),
        ("rank_realistic", pa.float64()),
        ("rank_pessimistic", pa.int64()),
    ]
)
"""Entities as rows of the store; `direction` is the side that was asked for, "tail" or "head"."""

_IDENTITY = b"identity"
_NAME = re.compile(r"part-(\d+)-(\d+)\.parquet")
_REMEDY = "remove the folder and evaluate again"


@dataclass(frozen=True)
class RankFolder:
    """The ranks of one evaluation.

    Attributes:
        path: the folder; made when the first block is written.
        identity: what the ranks depend on: checkpoint, split, filter, number format. Any text.
        guard: called before something is changed; raises where the folder is not for the caller to change.
    """

    path: Path
    identity: str
    guard: Callable[[], None] = lambda: None

    def append(self, start: int, stop: int, table: RankTable) -> None:
        """Write the ranks of questions [start, stop). One worker calls this."""
        self.guard()
        self.path.mkdir(parents=True, exist_ok=True)
        name = f"part-{start:012}-{stop:012}.parquet"
        with replacing(self.path / name) as partial:
            pq.write_table(_to_arrow(table).replace_schema_metadata({_IDENTITY: self.identity}), partial)

    def next_question(self) -> int:
        """Return the first question that has no ranks yet; 0 where there is nothing.

        Raises:
            DataError: a part is damaged, is missing between two others, or belongs to another evaluation.
        """
        expected = 0
        for (start, stop), part in self._parts().items():
            if start != expected:
                raise DataError(
                    f"{part}: expected the ranks of question {expected} next, found those from {start}; {_REMEDY}"
                )
            self._check(part)
            expected = stop
        return expected

    def read(self) -> RankTable:
        """Read all ranks, question after question.

        Raises:
            DataError: there are none, or see `next_question`.
        """
        self.next_question()
        parts = self._parts()
        if not parts:
            raise DataError(f"{self.path}: expected files of ranks, found none; run jobs/evaluate.py")
        return RankTable.concatenate([_from_arrow(pq.read_table(part)) for part in parts.values()])

    def discard(self) -> None:
        """Remove every part, of whatever evaluation, finished or not; other files of the folder stay."""
        self.guard()
        for part in self.path.glob("part-*.parquet*"):
            part.unlink()

    def _parts(self) -> Mapping[tuple[int, int], Path]:
        matches = ((_NAME.fullmatch(path.name), path) for path in self.path.glob("part-*.parquet"))
        return dict(sorted(((int(match[1]), int(match[2])), path) for match, path in matches if match))

    def _check(self, part: Path) -> None:
        try:
            schema = pq.read_schema(part)
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{part}: expected Parquet, got: {str(error).splitlines()[0]}; {_REMEDY}") from error
        found = (schema.metadata or {}).get(_IDENTITY, b"").decode()
        if found != self.identity or not schema.equals(RANK_SCHEMA):
            raise DataError(f"{part}: expected ranks of evaluation {self.identity!r}, got {found!r}; {_REMEDY}")


def _to_arrow(table: RankTable) -> pa.Table:
    columns = (
        table.head,
        table.relation,
        table.tail,
        np.where(table.find_tail, "tail", "head").tolist(),
        table.better,
        table.equal,
        table.optimistic,
        table.realistic,
        table.pessimistic,
    )
    arrays = [pa.array(column, field.type) for column, field in zip(columns, RANK_SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=RANK_SCHEMA)


def _from_arrow(table: pa.Table) -> RankTable:
    def column(name: str) -> NDArray[np.int64]:
        return table[name].to_numpy().astype(np.int64)

    find_tail = np.asarray(table["direction"].to_numpy() == "tail", dtype=np.bool_)
    return RankTable(column("head"), column("relation"), column("tail"), find_tail, column("better"), column("equal"))
