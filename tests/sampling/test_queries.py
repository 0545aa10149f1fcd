"""Queries of a loss over all entities: which side is asked for, and what is known of it."""

import numpy as np
import pytest
import torch

from snag_dist.kg.truth import TruthIndex
from snag_dist.method.snag import SnagConfig
from snag_dist.objective.all_entities import AllEntitiesConfig
from snag_dist.random import Moment
from snag_dist.sampling.queries import QuerySampler
from snag_dist.task.completion import assemble

TRIPLES = np.array([[0, 0, 1], [0, 0, 2], [3, 0, 1], [3, 1, 2]])
TRUTH = TruthIndex.build(TRIPLES, 4, 2)
MOMENT = Moment(0, 0, 0)


def test_both_sides_without_negatives() -> None:
    drawn = SnagConfig(loss=AllEntitiesConfig()).build_sampler(TRUTH).draw(TRIPLES[:2], 0, MOMENT)
    assert drawn.triple.tolist() == [0, 0, 1, 1]
    assert drawn.find_tail.tolist() == [True, False, True, False]
    assert drawn.negatives == ()
    assert drawn.known is None
    batch = assemble(drawn, 2)
    assert batch.excluded is None
    assert batch.share == 0.25


@pytest.mark.parametrize("sides", ["both", "bernoulli"])
def test_other_known_answers_are_excluded(sides: str) -> None:
    loss = AllEntitiesConfig.model_validate({"sides": sides, "mask_known": True})
    drawn = QuerySampler(loss.sides, TRUTH, with_known=True).draw(TRIPLES, 0, MOMENT)
    batch = assemble(drawn, len(TRIPLES))
    assert batch.excluded is not None
    # By hand: (0, 0, ?) has 1 and 2, (?, 0, 1) has 0 and 3; nothing else has two answers.
    others = {(0, True): 2, (1, True): 1, (0, False): 3, (2, False): 0}
    wanted = {
        (query, others[triple, find_tail])
        for query, (triple, find_tail) in enumerate(zip(drawn.triple.tolist(), drawn.find_tail.tolist(), strict=True))
        if (triple, find_tail) in others
    }
    found = list(zip(batch.excluded.query.tolist(), batch.excluded.entity.tolist(), strict=True))
    assert set(found) == wanted
    assert len(found) == len(wanted)
    assert torch.equal(batch.excluded.entity, batch.excluded.entity.sort().values)
    assert len(drawn.triple) == (8 if sides == "both" else 4)
