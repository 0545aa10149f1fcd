"""Expected numbers of triples against sums by hand."""

import numpy as np
import pytest

from snag_dist.kg.world_counts import expect_triples, mean_chance
from snag_dist.kg.world_latents import Population


def test_the_chances_of_2000_entities_add_up():
    population = Population(0, 2000, 0.05)
    assert population.counts == (30, 160, 96, 96, 96, 64, 700, 758)
    expected = expect_triples(population, 1.0)
    # Homes of those below a city's rank and of cities, twice: 896; capitals 30; borders 98; known_for 478; began_in and
    # founded_by 64 each; born_in and belongs_to 700 each; painted_by 1516 with mirrors; shown_in 758: 5304 in all.
    # Not certain: known_for 18; twinned 2 * .3 * 152; studied, represented, influenced 210 each; taught 2 * .3 * 636;
    # nationality 210; spouse 2 * .24 * 350; resembles 2 * .2 * 694; sold, depicts and in_movement 227.4 each.
    assert expected.total == pytest.approx(5304 + 2458.6)
    # Half of each kind keeps its first fact, half its second: 39 + 240 + 432 + 64 + 700 + 1137.
    assert expected.anchored == pytest.approx(2612)


def test_density_is_a_factor_on_the_chances():
    population = Population(0, 2000, 0.05)
    assert expect_triples(population, 0.5).total == pytest.approx(5304 + 0.5 * 2458.6)
    # Half of the countries keep their known_for, whose two slots to spare have half their chance.
    assert expect_triples(population, 0.5).anchored == pytest.approx(2612 - 0.5 * 30 * 0.3)


def test_a_chance_ends_at_one():
    # Activity is 12^u * ln 12 / 11, u uniform: .2259 to 2.7108.
    activity = 12.0 ** ((np.arange(100_000) + 0.5) / 100_000) * np.log(12) / 11
    for chance in (0.3, 0.5, 1.0, 2.0, 4.0, 6.0):
        assert mean_chance(chance) == pytest.approx(np.minimum(1.0, chance * activity).mean(), abs=1e-5)
    assert mean_chance(0.3) == 0.3
    assert mean_chance(6.0) == 1.0
