"""Nearest entities of an export by cosine, with faiss and numpy alone; lies beside the index it reads.

index = EntityIndex("FOLDER/faiss")
rows, similarities = index.search(codes, 10)
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

INDEX = "entities.faiss"


class EntityIndex:
    """The codes of all entities, at unit length, in a FAISS index of inner products; position is row."""

    def __init__(self, folder: str | Path):
        """Read the index of `folder`."""
        import faiss

        self.index: Any = faiss.read_index(str(Path(folder) / INDEX))

    def search(self, codes: Any, num: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Find the entities most like some codes.

        Args:
            codes: (Q, D) of any length, an array or a tensor on the CPU.
            num: entities a query.

        Returns:
            (Q, num) rows of `entities.parquet`, best first, and their cosines; -1 where an approximate index found
            fewer.

        Raises:
            ValueError: codes are not of the index's width.
        """
        queries = unit(np.asarray(codes, dtype=np.float32))
        if queries.ndim != 2 or queries.shape[1] != self.index.d:
            raise ValueError(f"codes: expected (Q, {self.index.d}), got {queries.shape}; pass codes of this export")
        similarities, rows = self.index.search(queries, num)
        return rows, similarities


def unit(codes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bring codes (n, D) to unit length; zeros stay zeros."""
    norms = np.linalg.norm(codes, axis=-1, keepdims=True)
    return np.ascontiguousarray(codes / np.where(norms > 0, norms, 1), dtype=np.float32)
