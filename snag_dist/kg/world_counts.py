"""How many triples a generated world will have, added up from the chances of its facts before any is drawn."""

import math
from dataclasses import dataclass

import numpy as np

from snag_dist.kg.world_facts import (
    ACTIVITY_RANGE,
    CERTAIN_IDS,
    COMPOSED,
    HOME_RELATIONS,
    LEAST_ACTIVITY,
    LINKS,
    MIRRORS,
    RELATION_IDS,
    RELATIONS,
    SPOUSE_CHANCE,
)
from snag_dist.kg.world_latents import COUNTRY, PERSON, SIZES, Population


@dataclass(frozen=True)
class Expectation:
    """Number of triples to expect, mirrors included.

    Attributes:
        total: of all.
        anchored: of those that lie in train whatever else happens.
    """

    total: float
    anchored: float


def expect_triples(population: Population, density: float) -> Expectation:
    """Add up the chances of all facts.

    Left out are the few facts that are dropped because two slots, or noise, drew the same triple or the head itself.
    """
    counts = population.counts
    total, certain = _num_borders(population), np.zeros((len(counts), len(RELATIONS)))
    certain[COUNTRY, RELATION_IDS["capital"]] = 1.0
    for kind, key in enumerate(HOME_RELATIONS):
        if key:
            certain[kind, RELATION_IDS[key]] = 1.0
    for link in LINKS:
        column = RELATION_IDS[link.relation]
        drawn = link.slots * mean_chance(density * link.chance)
        if link.certain:
            certain[link.head, column] = 1.0 + (link.slots - 1) * drawn / link.slots
        else:
            # Of each combination of shared attributes, one entity has nobody before it.
            first = math.prod(SIZES[name] for name in link.shared) if link.earlier else 0
            total += _tellings(column) * drawn * max(0, counts[link.head] - first)
    for key, kind, _, chance in COMPOSED:
        total += _tellings(RELATION_IDS[key]) * mean_chance(density * chance) * counts[kind]
    total += _tellings(RELATION_IDS["spouse"]) * mean_chance(density * SPOUSE_CHANCE) * (counts[PERSON] // 2)
    told = certain * np.array([_tellings(column) for column in range(len(RELATIONS))]) * np.array(counts)[:, None]
    anchored = 0.5 * np.take_along_axis(told, CERTAIN_IDS, axis=1).sum()
    return Expectation(float(total + told.sum()), float(anchored))


def _tellings(relation: int) -> int:
    return 2 if MIRRORS[relation] >= 0 else 1


def mean_chance(chance: float) -> float:
    """Return the mean over the owners' activity of a chance, which ends at 1."""
    least, most = chance * LEAST_ACTIVITY, chance * LEAST_ACTIVITY * ACTIVITY_RANGE
    if most <= 1.0:
        return chance
    if least >= 1.0:
        return 1.0
    below = -np.log(least) / np.log(ACTIVITY_RANGE)
    return float((1.0 - least) / np.log(ACTIVITY_RANGE) + 1.0 - below)


def _num_borders(population: Population) -> float:
    count, width = population.counts[COUNTRY], population.map_width
    rows = -(-count // width)
    return 2.0 * ((count - rows) + max(0, count - width))
