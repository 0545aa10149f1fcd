"""Vectors that were made before: taken over by key, so that only new keys are encoded.

The table may be of the same store (pictures were added) or of another (the graph has grown, and its rows were drawn
anew). Keys it has are not looked at again, whatever became of their items.
"""

# pyarrow.compute makes its functions when it is imported, where a type checker does not see them.
# pyright: reportAttributeAccessIssue=false

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from snag_dist.errors import DataError
from snag_dist.store.gather import FeatureRows
from snag_dist.store.makers import ItemMaker, Made, VectorMaker, VectorMakerSpec
from snag_dist.store.modality import Modality
from snag_dist.store.opened import Store, open_store
from snag_dist.store.schema import FeatureDtype

_LOG = logging.getLogger(__name__)


def reuse_vectors(modality: Modality, store: Store, earlier: Store, name: str, dtype: FeatureDtype) -> Modality:
    """Let a modality take the vectors that another store has of its entities.

    Args:
        modality: as its source gives it.
        store: whose rows it has.
        earlier: the store with the vectors.
        name: of the modality, in both stores.
        dtype: of the numbers that will be stored.

    Returns:
        The modality, whose encoder copies what is there and makes the rest; unchanged if nothing is there.

    Raises:
        DataError: the vectors there were made by another encoder, or stored as another type.
    """
    if name not in earlier.modalities():
        _LOG.info("features/%s: %s has none, all are made", name, earlier.path)
        return modality
    manifest = earlier.feature(name)
    if manifest.encoder != modality.encoder.record or manifest.dtype != dtype:
        raise DataError(
            f"{earlier.feature_folder(name)}: expected vectors by {modality.encoder.record.name} as {dtype}, got "
            f"{manifest.encoder.name} as {manifest.dtype}; encode alike, or extract without --reuse"
        )
    rows = rows_with_vectors(store, earlier, name)[modality.rows]
    _LOG.info("features/%s: %d vectors are taken from %s", name, int((rows >= 0).sum()), earlier.path)
    payload = pa.StructArray.from_arrays([pa.array(rows), modality.payload], ["earlier", "item"])
    spec = ReuseSpec(modality.encoder.spec, earlier.path, name)
    return replace(modality, payload=payload, encoder=replace(modality.encoder, spec=spec))


def rows_with_vectors(store: Store, earlier: Store, name: str) -> NDArray[np.int64]:
    """Return (E,) the row that each entity of a store has in an earlier one, joined by key.

    Args:
        store: whose entities are looked up.
        earlier: the store with the vectors.
        name: of the modality there.

    Returns:
        -1 where the earlier store has no such entity, or no vector of it.
    """
    keys, known = (one.entities()["key"].combine_chunks() for one in (store, earlier))
    rows = pc.index_in(keys, value_set=known).cast(pa.int64()).fill_null(-1).to_numpy().copy()
    present = FeatureRows.open(earlier, name, 0, earlier.num_entities).present
    rows[(rows >= 0) & ~present[np.maximum(rows, 0)]] = -1
    return rows


@dataclass(frozen=True)
class CopySpec:
    """What an actor needs to copy vectors.

    Attributes:
        store: folder of the store with the vectors.
        name: of the modality there.
    """

    store: Path
    name: str

    def load(self) -> ItemMaker:
        """Map the vectors."""
        return CopyMaker(self)


class CopyMaker(ItemMaker):
    """Copies vectors that are there."""

    def __init__(self, spec: CopySpec) -> None:
        store = open_store(spec.store)
        self._features = FeatureRows.open(store, spec.name, 0, store.num_entities)
        self._num_items = _num_items(store, spec.name)
        self.width = self._features.width

    def make(self, payload: pa.Array) -> Made:
        """Return the vectors of n entities, given (n,) rows of the store that has them."""
        rows = payload.to_numpy()
        order = np.argsort(rows, kind="stable")
        vectors = np.empty((len(rows), self.width), dtype=np.float32)
        vectors[order] = self._features.gather(rows[order])[0]
        return Made(vectors, self._num_items[rows].astype(np.int64))


@dataclass(frozen=True)
class ReuseSpec:
    """What an actor needs to copy vectors and to make the others.

    Attributes:
        spec: of the encoder.
        store: folder of the store with the vectors.
        name: of the modality there.
    """

    spec: VectorMakerSpec
    store: Path
    name: str

    def load(self) -> ItemMaker:
        """Load the encoder and map the vectors."""
        return ReuseMaker(self)


class ReuseMaker(ItemMaker):
    """Copies vectors that are there, makes the others."""

    def __init__(self, spec: ReuseSpec) -> None:
        self._copies = CopySpec(spec.store, spec.name).load()
        self._maker: VectorMaker | ItemMaker = spec.spec.load()
        self.width = self._maker.width

    def make(self, payload: pa.Array) -> Made:
        """Return the vectors of n entities, given (n,) pairs of a row of the earlier store (-1: none) and an item."""
        rows = payload.field("earlier").to_numpy()
        copied, new = np.flatnonzero(rows >= 0), np.flatnonzero(rows < 0)
        vectors = np.zeros((len(rows), self.width), dtype=np.float32)
        counts = np.zeros(len(rows), dtype=np.int64)
        there = self._copies.make(pa.array(rows[copied]))
        vectors[copied], counts[copied] = there.vectors, there.counts
        if not len(new):
            return Made(vectors, counts)
        items = payload.field("item").take(pa.array(new))
        maker = self._maker
        made = maker.make(items) if isinstance(maker, ItemMaker) else Made.of_all(maker.vectors(items))
        vectors[new], counts[new] = made.vectors, made.counts
        return Made(
            vectors, counts, tuple(problem._replace(entity=int(new[problem.entity])) for problem in made.problems)
        )


def _num_items(store: Store, name: str) -> NDArray[np.int32]:
    counts = np.zeros(store.num_entities, dtype=np.int32)
    for path in sorted((store.feature_folder(name) / "table").glob("*.parquet")):
        table = pq.read_table(path, columns=["row", "num_items"])
        counts[table["row"].to_numpy()] = table["num_items"].to_numpy()
    return counts
