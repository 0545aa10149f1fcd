"""What a person should know of a feature table before training on it: norms, dead columns, duplicates, problems."""

from collections import Counter
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from snag_dist.config import Config
from snag_dist.store.schema import PROBLEMS

# A column whose standard deviation is below this share of a column's usual one tells entities apart no more.
_NEARLY_CONSTANT = 1e-3
_NUM_SHOWN = 3


class FeatureReport(Config):
    """What `report.json` of a feature table holds."""

    num_present: int
    """Entities that have the modality."""
    num_entities: int
    """E."""
    width: int
    """F."""
    num_items: int
    """Pictures or texts behind the vectors, altogether."""
    most_items: int
    """Most of them behind one vector."""
    norm_min: float
    """Smallest l2 norm of a vector."""
    norm_median: float
    """Median of the norms."""
    norm_max: float
    """Largest norm."""
    num_zero: int
    """Vectors of zeros."""
    nearly_constant_columns: tuple[int, ...]
    """Columns whose standard deviation is below a thousandth of the median column's."""
    num_duplicates: int
    """Vectors that are identical to one of an entity with a smaller row."""
    largest_group: int
    """Most entities that share one vector."""
    duplicate_rows: tuple[tuple[int, int], ...]
    """The first pairs of rows with identical vectors."""
    problems: dict[str, int]
    """Items that could not be used, by reason, most frequent first."""

    @classmethod
    def of(cls, folder: Path, num_entities: int, std: NDArray[np.float64]) -> Self:
        """Read a table part by part.

        Args:
            folder: of the table; its Parquet files and its problems are there.
            num_entities: E.
            std: (F,) of every column.
        """
        norms, counts, rows, prints = [], [], [], []
        for path in sorted((folder / "table").glob("*.parquet")):
            table = pq.read_table(path)
            vectors = table["vector"].combine_chunks().flatten().to_numpy().reshape(-1, len(std))
            norms.append(np.linalg.norm(vectors.astype(np.float32), axis=1))
            prints.append(_fingerprints(vectors))
            rows.append(table["row"].to_numpy())
            counts.append(table["num_items"].to_numpy())
        norm, count, row = np.concatenate(norms), np.concatenate(counts), np.concatenate(rows)
        _, first, group, sizes = np.unique(
            np.concatenate(prints), return_index=True, return_inverse=True, return_counts=True
        )
        repeats = np.flatnonzero(first[group] != np.arange(len(row)))
        # What stands after a colon is about the one item.
        told = pq.read_table(folder / PROBLEMS, columns=["reason"])["reason"].to_pylist()
        reasons = Counter(reason.split(":")[0] for reason in told)
        return cls(
            num_present=len(norm),
            num_entities=num_entities,
            width=len(std),
            num_items=int(count.sum()),
            most_items=int(count.max(initial=0)),
            norm_min=float(norm.min()) if len(norm) else 0.0,
            norm_median=float(np.median(norm)) if len(norm) else 0.0,
            norm_max=float(norm.max()) if len(norm) else 0.0,
            num_zero=int((norm == 0).sum()),
            nearly_constant_columns=tuple(np.flatnonzero(std <= _NEARLY_CONSTANT * np.median(std)).tolist()),
            num_duplicates=len(repeats),
            largest_group=int(sizes.max(initial=0)),
            duplicate_rows=tuple((int(row[first[group[i]]]), int(row[i])) for i in repeats[:_NUM_SHOWN]),
            problems=dict(reasons.most_common()),
        )

    def lines(self) -> list[str]:
        """Say it in a few lines."""
        share = self.num_present / self.num_entities
        several = "" if self.most_items <= 1 else f", {self.num_items:,} items, at most {self.most_items} an entity"
        told = [
            f"{share:.1%} of {self.num_entities:,} entities ({self.num_present:,}), {self.width}-d{several}",
            f"norms {self.norm_min:.3g} to {self.norm_max:.3g}, median {self.norm_median:.3g}"
            + (f", {self.num_zero:,} of zeros" if self.num_zero else ""),
        ]
        if self.nearly_constant_columns:
            told.append(f"{len(self.nearly_constant_columns)} columns are nearly constant")
        if self.num_duplicates:
            group = f"largest group {self.largest_group:,}"
            told.append(f"{self.num_duplicates:,} vectors are identical to another entity's ({group})")
        told += [f"{number:,} items cannot be used: {reason}" for reason, number in self.problems.items()]
        return told


def _fingerprints(vectors: NDArray[np.floating]) -> NDArray[np.uint64]:
    """Hash each of (n, F) vectors to 64 bits: among 5 million, two different ones agree with chance 1e-6."""
    bits = vectors.view(np.uint16 if vectors.dtype == np.float16 else np.uint32).astype(np.uint64)
    # Odd multipliers, drawn once; sums wrap around.
    factors = np.random.default_rng(0).integers(0, 2**63, size=bits.shape[1], dtype=np.uint64) * np.uint64(
        2
    ) + np.uint64(1)
    hashed = (bits + np.uint64(1)) @ factors
    return hashed ^ (hashed >> np.uint64(29))
