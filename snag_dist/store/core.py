"""The k-core of a store, as a store of its own inside it: `cores/k-<k>/`.

Entities with at least k training triples among themselves stay; see `snag_dist.store.cut` for what stays with them.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snag_dist.errors import ConfigError
from snag_dist.kg.core import Core, choose_core, find_core
from snag_dist.store.cut import Cut, make_cut, open_cut, refuse_pair
from snag_dist.store.cut_records import CoreRecord
from snag_dist.store.opened import Store, read_triples
from snag_dist.store.schema import CORES


def core_of_share(store: Store, share: float) -> Store:
    """Return the smallest core of a store that still has a share of its entities, made where it is not there.

    Args:
        store: of one graph.
        share: of the entities, in (0, 1].

    Returns:
        The core of the highest k; the store itself where even the 1-core has fewer entities.

    Raises:
        ConfigError: the store is of two graphs.
        DataError: see `core_of_degree`.
    """
    refuse_pair(store)
    core = choose_core(lambda: _training_triples(store), store.num_entities, share)
    return make_cut(store, _cut(store, core.k, core)) if core.k else store


def core_of_degree(store: Store, k: int) -> Store:
    """Return the k-core of a store, made where it is not there.

    Args:
        store: of one graph.
        k: training triples that every entity has with others of the core, at least 1.

    Raises:
        ConfigError: the store is of two graphs, or no entity is in its k-core.
        DataError: no entity of the core has one of the modalities, or a file of the store is damaged.
    """
    refuse_pair(store)
    there = open_cut(store, _cut(store, k))
    if there is not None:
        return there
    core = find_core(lambda: _training_triples(store), store.num_entities, k)
    if not core.num_entities:
        deepest = choose_core(lambda: _training_triples(store), store.num_entities, 1 / store.num_entities)
        raise ConfigError(f"{store.path}: expected k of at most {deepest.k}, the deepest core, got {k}; lower k")
    return make_cut(store, _cut(store, k, core))


def _training_triples(store: Store) -> Iterator[NDArray[np.int64]]:
    return (read_triples([part]) for part in store.triple_parts("train"))


def _cut(store: Store, k: int, core: Core | None = None) -> Cut:
    parent = store.manifest

    def members() -> NDArray[np.bool_]:
        found = core or find_core(lambda: _training_triples(store), store.num_entities, k)
        return found.members

    return Cut(
        place=Path(CORES) / f"k-{k}",
        choice=("core", k),
        members=members,
        title=f"{k}-core",
        record={
            "core": CoreRecord(
                k=k,
                parent_fingerprint=parent.fingerprint,
                parent_entities=parent.num_entities,
                parent_triples=parent.num_triples,
            )
        },
    )
