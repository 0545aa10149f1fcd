"""Counts that a plan is made from: of a store, or as a person gives them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from snag_dist.errors import ConfigError
from snag_dist.method.facts import GraphFacts
from snag_dist.model.encoder import ModalityFacts
from snag_dist.model.features import ColumnStatistics
from snag_dist.shard.partition import Partition
from snag_dist.store.opened import Store
from snag_dist.training.recipe import Recipe


@dataclass(frozen=True)
class ModalitySize:
    """Raw vectors of a modality: columns, and bytes of a stored number."""

    width: int
    number_bytes: int


@dataclass(frozen=True)
class GraphSizes:
    """Counts of a graph.

    Attributes:
        num_entities, num_relations: E and R.
        num_triples: T of the training split.
        num_ranked: triples of the largest split that is ranked; the training split bounds what is not known.
        num_filtered: triples of all splits together.
        num_links: between two graphs; 0 of one graph.
        virtual_shards: V.
        modalities: that the recipe uses, by name.
    """

    num_entities: int
    num_relations: int
    num_triples: int
    num_ranked: int
    num_filtered: int
    num_links: int
    virtual_shards: int
    modalities: Mapping[str, ModalitySize]

    @classmethod
    def of(cls, recipe: Recipe, store: Store | None) -> "GraphSizes":
        """Ask the store, or the section `plan` of the recipe where there is none.

        Raises:
            ConfigError: neither knows a count.
        """
        modalities = {name: _modality(recipe, store, name) for name in recipe.used_modalities}
        if store is not None:
            triples = store.manifest.num_triples
            ranked = max([num for split, num in triples.items() if split != "train"], default=0)
            return cls(
                store.num_entities,
                store.num_relations,
                triples["train"],
                ranked,
                sum(triples.values()),
                store.manifest.num_links,
                store.virtual_shards,
                modalities,
            )
        plan = recipe.plan
        num_triples = _given(recipe, "num_triples", plan.num_triples)
        num_links = _given(recipe, "num_links", plan.num_links) if recipe.task == "alignment" else 0
        return cls(
            _given(recipe, "num_entities", plan.num_entities),
            plan.num_relations,
            num_triples,
            num_triples,
            num_triples,
            num_links,
            recipe.ingest.virtual_shards,
            modalities,
        )

    @property
    def facts(self) -> GraphFacts:
        """What a method must know to build a task; statistics are made up."""
        return GraphFacts(
            self.num_entities,
            self.num_relations,
            {
                name: ModalityFacts(size.width, ColumnStatistics(torch.zeros(size.width), torch.ones(size.width)))
                for name, size in self.modalities.items()
            },
        )

    @property
    def degree(self) -> float:
        """Neighbours of an entity, on average."""
        return 2 * self.num_triples / self.num_entities

    def most_rows(self, num_workers: int) -> int:
        """E_local of the worker that owns most."""
        partition = Partition(self.num_entities, self.virtual_shards, num_workers)
        return int(np.diff(partition.bounds()).max())


def _given(recipe: Recipe, field: str, value: int | None) -> int:
    if value is None:
        raise ConfigError(
            f"plan.{field}: expected a number, since there is no store at {recipe.store} yet, got none; pass "
            f"--set plan.{field}=..., or make the store with jobs/ingest.py"
        )
    return value


def _modality(recipe: Recipe, store: Store | None, name: str) -> ModalitySize:
    if store is not None and name in store.modalities():
        manifest = store.feature(name)
        return ModalitySize(manifest.width, np.dtype(manifest.dtype).itemsize)
    width = recipe.plan.widths.get(name)
    if width is None:
        raise ConfigError(
            f"plan.widths.{name}: expected the columns of modality {name!r}, which is not extracted yet, got none; "
            f"pass --set plan.widths.{name}=..., or extract it with jobs/extract.py"
        )
    return ModalitySize(width, 2)


def distinct(drawn: float, num: int) -> int:
    """How many different ones of `num` entities `drawn` uniform draws hit, on average: N (1 - e^(-n/N))."""
    return round(num * -np.expm1(-drawn / num))
