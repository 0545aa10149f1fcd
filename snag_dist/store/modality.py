"""A modality before extraction: which entities have it, what their vectors are made from, and by what."""

# pyarrow.compute makes its functions when it is imported, where a type checker does not see them.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image

from snag_dist.errors import DataError
from snag_dist.store.encoders import ResolvedEncoder
from snag_dist.store.opened import Store


@dataclass(frozen=True)
class Modality:
    """What extraction is handed of a modality.

    Attributes:
        rows: (n,) ascending rows of the entities that have it.
        payload: (n,) what their vectors are made from, in the order of `rows`.
        encoder: what makes them.
        place: index into `rows` to where the vector comes from, for messages.
        source: in words.
        unknown_keys: keys of the source that the store does not know.
        problems: (item, reason) of what was found unusable before any vector was made.
        show: index into `rows` to what a person sees of it, text or picture; None where there is nothing to see.
    """

    rows: NDArray[np.int64]
    payload: pa.Array
    encoder: ResolvedEncoder
    place: Callable[[int], str]
    source: str
    unknown_keys: tuple[str, ...] = ()
    problems: tuple[tuple[str, str], ...] = ()
    show: Callable[[int], str | Image.Image | None] | None = None


@dataclass(frozen=True)
class Matches:
    """Keys of a source joined to the rows of a store.

    Attributes:
        rows: (n,) row of every key that is known, ascending.
        positions: (n,) where in the source that key stands.
        unknown: the other keys, in the order of the source.
    """

    rows: NDArray[np.int64]
    positions: NDArray[np.int64]
    unknown: tuple[str, ...]


def match_keys(store: Store, keys: pa.Array, *, are_ids: bool, place: Callable[[int], str]) -> Matches:
    """Join keys, or source ids, to rows.

    Args:
        store: whose entities are meant.
        keys: (n,) one a line of the source.
        are_ids: whether they are ids of the source the store was made from.
        place: position to where it stands, for messages.

    Raises:
        DataError: a key is missing, is no id where ids are expected, or repeats.
    """
    if keys.null_count:
        position = keys.is_null().index(True).as_py()
        raise DataError(f"{place(position)}: expected {'an id' if are_ids else 'a key'}, got none; fill it in")
    rows = _rows_of_ids(store, keys, place) if are_ids else _rows_of_keys(store, keys)
    known = np.flatnonzero(rows >= 0)
    order = known[np.argsort(rows[known], kind="stable")]
    ascending = rows[order]
    repeats = np.flatnonzero(ascending[1:] == ascending[:-1])
    if len(repeats):
        first, second = sorted((int(order[repeats[0]]), int(order[repeats[0] + 1])))
        raise DataError(
            f"{place(second)}: key {keys[second].as_py()!r} already stands in {place(first)}; "
            "an entity has one line, so merge or remove them"
        )
    unknown = keys.filter(pa.array(rows < 0)).cast(pa.string()).to_pylist()
    return Matches(ascending, order, tuple(unknown))


def _rows_of_keys(store: Store, keys: pa.Array) -> NDArray[np.int64]:
    known = store.entities()["key"].combine_chunks()
    # Entities are stored by row, so a key's place among them is its row.
    found = pc.index_in(keys.cast(pa.large_string()), value_set=known)
    return found.cast(pa.int64()).fill_null(-1).to_numpy()


def _rows_of_ids(store: Store, keys: pa.Array, place: Callable[[int], str]) -> NDArray[np.int64]:
    try:
        ids = keys.cast(pa.int64()).to_numpy()
    except pa.ArrowInvalid as error:
        position = next(i for i, key in enumerate(keys.to_pylist()) if not str(key).isdigit())
        raise DataError(
            f"{place(position)}: expected an id, got {keys[position].as_py()!r}; set keys to 'key' if these are keys"
        ) from error
    return store.rows_of_file_ids(ids)
