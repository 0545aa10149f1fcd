"""Bags of relations and of attributes, two modalities of alignment, to feature tables.

An entity's counts travel to the actors as the columns that are not zero, and become dense there, a part at a time.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from snag_dist.config import Config
from snag_dist.errors import DataError
from snag_dist.kg.alignment_formats import read_alignment
from snag_dist.kg.bags import Bag, attribute_bag, relation_bag
from snag_dist.store.alignment_source import attribute_files
from snag_dist.store.encoders import ResolvedEncoder
from snag_dist.store.makers import VectorMaker
from snag_dist.store.manifest import EncoderRecord, hash_source, hash_tree
from snag_dist.store.modality import Modality, match_keys
from snag_dist.store.opened import Store
from snag_dist.store.schema import FeatureDtype

# From here on not every integer is a float16.
_LARGEST_EXACT = 2048


class RelationBagConfig(Config):
    """How often each frequent relation touches an entity: counts from the training triples of the store."""

    kind: Literal["relation_bag"] = "relation_bag"
    """Tells this kind of features from the others."""
    num_columns: int = Field(default=1000, ge=1)
    """Relations that are counted at most, by number of triples. Source: SNAG, section 4."""
    dtype: FeatureDtype = "float16"
    """Type of the stored numbers; float16 holds counts up to 2048."""

    def hashes(self) -> list[str]:
        """Return the hashes of sources and models: there are none beside the store."""
        return []

    def open(self, store: Store, scratch: Path) -> Modality:
        """Count the relations around every entity.

        Raises:
            DataError: a count is beyond what `dtype` holds exactly.
        """
        bag = relation_bag(store.triples("train"), store.num_entities, num_columns=self.num_columns)
        _check_counts(bag, self.dtype, store)
        rows = np.flatnonzero(bag.present)
        relations = store.relations()["key"].to_pylist()
        names = [relations[relation] for relation in bag.columns]
        return Modality(
            rows=rows,
            payload=_nonzero(bag, rows),
            # Counts belong to one graph: those of a smaller one are not taken over by a larger one.
            encoder=_encoder("relation bag", bag, [store.fingerprint]),
            place=lambda index: f"{store.path}: triples of row {rows[index]}",
            source=f"relations of {store.manifest.source}",
            show=lambda index: _in_words(bag, int(rows[index]), names),
        )


class AttributeBagConfig(Config):
    """Which frequent attributes an entity has, from the files of an alignment source."""

    kind: Literal["attribute_bag"] = "attribute_bag"
    """Tells this kind of features from the others."""
    folder: Path
    """Folder of the source, with `training_attrs_1` and `training_attrs_2`."""
    num_columns: int = Field(default=1000, ge=1)
    """Attributes that are kept at most, by number of entities that have them. Source: SNAG, section 4."""
    dtype: FeatureDtype = "float16"
    """Type of the stored numbers, which are 0 and 1."""

    def hashes(self) -> list[str]:
        """Return the hashes of the files with attributes.

        Raises:
            DataError: there is none.
        """
        return [hash_source(path) for path in attribute_files(self.folder)]

    def open(self, store: Store, scratch: Path) -> Modality:
        """Read the attributes and join them to the rows of a store.

        Raises:
            DataError: see `read_alignment`.
        """
        pair = read_alignment(self.folder)
        bag = attribute_bag(pair.attributes, num_columns=self.num_columns)
        having = np.flatnonzero(bag.present)
        keys = pa.array([pair.keys[entity] for entity in having], pa.large_string())

        def place(position: int) -> str:
            return f"attributes of {keys[position].as_py()!r} in {self.folder}"

        matches = match_keys(store, keys, are_ids=False, place=place)
        entities = having[matches.positions]
        names = [pair.attribute_names[column] for column in bag.columns]
        return Modality(
            rows=matches.rows,
            payload=_nonzero(bag, entities),
            encoder=_encoder("attribute bag", bag, self.hashes()),
            place=lambda index: place(int(matches.positions[index])),
            source=f"attributes of {self.folder}",
            unknown_keys=matches.unknown,
            show=lambda index: _in_words(bag, int(entities[index]), names),
        )


def _check_counts(bag: Bag, dtype: FeatureDtype, store: Store) -> None:
    largest = int(bag.counts.max(initial=0))
    if dtype == "float16" and largest > _LARGEST_EXACT:
        entity = int(bag.entries.queries()[bag.counts.argmax()])
        raise DataError(
            f"{store.path}: entity {store.entities()['key'][entity].as_py()!r}: expected counts up to "
            f"{_LARGEST_EXACT}, which float16 holds exactly, got {largest}; set dtype to float32"
        )


def _in_words(bag: Bag, entity: int, names: list[str]) -> str:
    """Return an entity's columns as a person reads them: the end of each name, the most frequent first."""
    return ", ".join(names[column].rpartition("/")[2] for column in bag.entries[entity])


def _nonzero(bag: Bag, entities: NDArray[np.int64]) -> pa.Array:
    """Return (n,) lists of the columns that are not zero, each with its count, of n entities."""
    lengths = bag.entries.lengths()[entities]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    starts = bag.entries.offsets[entities]
    picked = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
    columns, counts = pa.array(bag.entries.values[picked]), pa.array(bag.counts[picked])
    values = pa.StructArray.from_arrays([columns, counts], ["column", "count"])
    return pa.LargeListArray.from_arrays(pa.array(offsets), values)


def _encoder(what: str, bag: Bag, origin: list[str]) -> ResolvedEncoder:
    record = EncoderRecord(name=f"{what} of {bag.width} columns", revision="1", weights_sha256=hash_tree(origin))
    return ResolvedEncoder(BagSpec(bag.width), record, items_per_actor=20_000)


@dataclass(frozen=True)
class BagSpec:
    """What an actor needs to make counts dense.

    Attributes:
        width: F.
    """

    width: int

    def load(self) -> VectorMaker:
        """Return the maker."""
        return BagMaker(self.width)


class BagMaker:
    """Makes counts dense."""

    def __init__(self, width: int) -> None:
        self.width = width

    def vectors(self, payload: pa.Array) -> NDArray[np.float32]:
        """Return (n, F) counts, given (n,) lists of columns that are not zero."""
        values = payload.flatten()
        vectors = np.zeros((len(payload), self.width), dtype=np.float32)
        entities = np.repeat(np.arange(len(payload)), payload.value_lengths().to_numpy())
        vectors[entities, values.field("column").to_numpy()] = values.field("count").to_numpy()
        return vectors
