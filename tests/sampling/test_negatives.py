"""What every sampler promises: no known truth among the negatives, and draws that do not depend on the slice."""

from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from snag_dist.kg.formats import read_openke
from snag_dist.kg.truth import TruthIndex
from snag_dist.random import Moment
from snag_dist.sampling.negatives import CorruptedTriples, NegativesConfig, PerTripleConfig, SharedConfig

CONFIGS: list[Any] = list(get_args(get_args(NegativesConfig)[0]))
NUM_ENTITIES, NUM_RELATIONS = 40, 3


@pytest.fixture(scope="module")
def triples() -> np.ndarray:
    draw = np.random.default_rng(0)
    columns = [draw.integers(0, limit, 300) for limit in (NUM_ENTITIES, NUM_RELATIONS, NUM_ENTITIES)]
    return np.unique(np.stack(columns, axis=1), axis=0)


@pytest.fixture(scope="module")
def truth(triples: np.ndarray) -> TruthIndex:
    return TruthIndex.build(triples, NUM_ENTITIES, NUM_RELATIONS)


def false_triples(corrupted: CorruptedTriples) -> np.ndarray:
    """(n, 3): every candidate that is not excluded, as a triple."""
    found = []
    for block in corrupted.negatives:
        for row in range(block.stop - block.start):
            query = block.start + row
            ids = block.ids if block.ids.ndim == 1 else block.ids[row]
            made = np.repeat(corrupted.positives[corrupted.triple[query]][None], len(ids), axis=0)
            made[:, 2 if corrupted.find_tail[query] else 0] = ids
            found.append(made[~block.excluded[row]])
    return np.concatenate(found)


@pytest.mark.parametrize("sides", ["bernoulli", "both"])
@pytest.mark.parametrize("config", CONFIGS)
class TestEverySampler:
    def test_no_negative_is_known_true(self, config: Any, sides: Any, triples: np.ndarray, truth: TruthIndex) -> None:
        corrupted = config(num=30, sides=sides).build(truth).draw(triples[:64], 0, Moment(0, 0, 0))
        made = false_triples(corrupted)
        assert len(made) > 500
        assert not truth.contains(made[:, 0], made[:, 1], made[:, 2]).any()

    def test_a_slice_draws_what_the_whole_batch_draws(
        self, config: Any, sides: Any, triples: np.ndarray, truth: TruthIndex
    ) -> None:
        sampler, moment = config(num=7, sides=sides).build(truth), Moment(3, 1, 17)
        if isinstance(sampler, type(SharedConfig().build(truth))):
            sampler = SharedConfig(num=7, sides=sides, chunk=16).build(truth)
        whole = sampler.draw(triples[:50], 0, moment)
        parts = [sampler.draw(triples[start:stop], start, moment) for start, stop in ((0, 13), (13, 37), (37, 50))]
        assert np.array_equal(whole.find_tail, np.concatenate([part.find_tail for part in parts]))
        assert np.array_equal(false_triples(whole), np.concatenate([false_triples(part) for part in parts]))

    def test_blocks_cover_the_queries(self, config: Any, sides: Any, triples: np.ndarray, truth: TruthIndex) -> None:
        corrupted = config(num=5, sides=sides).build(truth).draw(triples[:50], 0, Moment(0, 0, 0))
        assert len(corrupted.triple) == (100 if sides == "both" else 50)
        edges = [(block.start, block.stop) for block in corrupted.negatives]
        assert edges[0][0] == 0
        assert edges[-1][1] == len(corrupted.triple)
        assert all(before[1] == after[0] for before, after in pairwise(edges))

    def test_steps_differ(self, config: Any, sides: Any, triples: np.ndarray, truth: TruthIndex) -> None:
        sampler = config(num=9, sides=sides).build(truth)
        first, second = (sampler.draw(triples[:5], 0, Moment(0, 0, step)).negatives[0].ids for step in (0, 1))
        assert not np.array_equal(first, second)

    def test_an_empty_slice_has_no_queries(
        self, config: Any, sides: Any, triples: np.ndarray, truth: TruthIndex
    ) -> None:
        assert len(config(sides=sides).build(truth).draw(triples[:0], 4, Moment(0, 0, 0)).triple) == 0


def test_a_query_that_everything_answers_keeps_no_candidate() -> None:
    full = np.array([[0, 0, tail] for tail in range(6)])
    truth = TruthIndex.build(full, 6, 1)
    corrupted = PerTripleConfig(num=4, sides="both").build(truth).draw(full[:1], 0, Moment(0, 0, 0))
    assert corrupted.find_tail.tolist() == [True, False]
    assert corrupted.negatives[0].excluded[0].all()
    assert not corrupted.negatives[0].excluded[1].any()


def test_bernoulli_rule_prefers_the_side_with_many_answers() -> None:
    # One head with 20 tails: a corrupted tail is likelier to be true, so the head is replaced (20 of 21 times).
    fan = np.array([[0, 0, tail] for tail in range(1, 21)])
    truth = TruthIndex.build(np.concatenate([fan] * 1), 40, 1)
    sampler = SharedConfig(num=2).build(truth)
    shares = [sampler.draw(fan, 0, Moment(0, 0, step)).find_tail.mean() for step in range(200)]
    assert float(np.mean(shares)) == pytest.approx(1 / 21, abs=0.01)


@pytest.mark.data
def test_db15k_share_of_corrupted_tails(data_root: Path) -> None:
    # G12.
    graph = read_openke(data_root / "DB15K")
    train = graph.split("train")
    truth = TruthIndex.build(train, graph.num_entities, graph.num_relations)
    corrupted = PerTripleConfig(num=4).build(truth).draw(train[:20000], 0, Moment(0, 0, 0))
    assert float(corrupted.find_tail.mean()) == pytest.approx(0.711, abs=0.01)
    made = false_triples(corrupted)
    assert not truth.contains(made[:, 0], made[:, 1], made[:, 2]).any()
