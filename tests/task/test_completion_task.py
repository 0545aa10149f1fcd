"""Reciprocal relations and N3 in the task of completion."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from snag_dist.config import validate
from snag_dist.errors import ConfigError
from snag_dist.method.facts import GraphFacts
from snag_dist.method.snag import SnagConfig
from snag_dist.model.scorer import Scorer
from snag_dist.sampling.negatives import CorruptedTriples
from snag_dist.task.completion import CompletionBatch, CompletionTask, assemble

NUM, R, D = 8, 3, 4
TRIPLES = np.array([[0, 0, 3], [5, 1, 2], [7, 2, 1], [2, 1, 6]])
FIND_TAIL = np.array([True, False, True, False])


def build(**method: Any) -> CompletionTask:
    tree = {"encoder": {"width": D}, "scorer": {"kind": "complex"}, **method}
    return validate(SnagConfig, tree, "t").build_completion(GraphFacts(NUM, R, {}), 0)


def batch(start: int = 0, stop: int = len(TRIPLES)) -> CompletionBatch:
    corrupted = CorruptedTriples(TRIPLES[start:stop], np.arange(stop - start), FIND_TAIL[start:stop], ())
    return assemble(corrupted, len(TRIPLES))


def codes() -> Tensor:
    return torch.randn(NUM, D, generator=torch.Generator().manual_seed(1)).requires_grad_()


def test_a_plain_task_has_one_row_a_relation() -> None:
    plain, reciprocal = build(), build(reciprocal=True)
    assert plain.relations.shape == (R, D)
    assert reciprocal.relations.shape == (2 * R, D)
    # The rows that both have start alike.
    assert torch.equal(plain.relations, reciprocal.relations[:R])


def test_heads_are_sought_as_tails_of_the_inverse() -> None:
    task, known = build(reciprocal=True), codes()[:4]
    assert isinstance(task.scorer, Scorer)
    relations, find_tail = torch.tensor([0, 1, 2, 1]), torch.as_tensor(FIND_TAIL)
    rows = task.relations[torch.tensor([0, R + 1, 2, R + 1])]
    assert torch.equal(task.relation_rows(relations, find_tail), rows)
    assert torch.equal(task.queries(known, relations, find_tail), task.scorer.tail_query(known, rows))


def test_training_reaches_the_inverse_rows() -> None:
    task, given = build(reciprocal=True), codes()
    queries = task.queries(given[:4], torch.tensor([0, 1, 2, 1]), torch.as_tensor(FIND_TAIL))
    queries.square().sum().backward()
    assert task.relations.grad is not None
    assert (task.relations.grad.abs().sum(1) > 0).tolist() == [True, False, True, False, True, False]


def test_n3_of_a_batch_by_hand() -> None:
    task, given, part = build(penalty={"weight": 0.5}), codes(), batch()
    report = task.loss(given[part.entities], part)
    factors = [given[TRIPLES[:, 0]], task.relations[TRIPLES[:, 1]], given[TRIPLES[:, 2]]]
    moduli = [np.abs(f[:, : D // 2].detach().numpy() + 1j * f[:, D // 2 :].detach().numpy()) for f in factors]
    expected = 0.5 * sum((part**3).sum() for part in moduli) / len(TRIPLES)
    assert report.terms["n3"].item() == pytest.approx(expected, rel=1e-5)
    # There are no negatives, and so nothing else in the loss.
    assert report.loss.item() == pytest.approx(expected, rel=1e-5)
    assert set(report.terms) == {"n3"}


def test_slices_of_n3_add_up() -> None:
    task, given = build(penalty={"weight": 0.5}, reciprocal=True), codes()
    whole, *parts = (task.loss(given[part.entities], part).loss for part in (batch(), batch(0, 1), batch(1, 4)))
    torch.testing.assert_close(parts[0] + parts[1], whole)


def test_without_a_penalty_nothing_is_added() -> None:
    part = batch()
    report = build().loss(codes()[part.entities], part)
    assert report.loss.item() == 0.0
    assert report.terms == {}


def test_n3_with_a_scorer_of_distances_is_refused() -> None:
    message = (
        r"method.penalty: expected a scorer that multiplies.*\(complex, distmult\), got RotatE; remove the penalty"
    )
    with pytest.raises(ConfigError, match=message):
        build(scorer={"kind": "rotate"}, penalty={"weight": 0.5})
