"""The two players of AdaMF-MAT: what both minimise, by hand and by gradient."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from snag_dist.config import validate
from snag_dist.method.adamf import AdamfConfig
from snag_dist.method.facts import GraphFacts
from snag_dist.model.encoder import ModalityFacts
from snag_dist.model.features import ColumnStatistics, EntityInputs
from snag_dist.random import Moment
from snag_dist.sampling.negatives import CorruptedTriples
from snag_dist.task.adversarial import Adversary, score_fakes, sum_over_fakes
from snag_dist.task.completion import CompletionBatch, CompletionTask, assemble

WIDTHS, NUM, D = {"text": 5, "vision": 3}, 8, 6
FACTS = GraphFacts(
    NUM,
    2,
    {name: ModalityFacts(size, ColumnStatistics(torch.zeros(size), torch.ones(size))) for name, size in WIDTHS.items()},
)
MOMENT = Moment(0, 0, 4)


def inputs(rows: Tensor | None = None) -> EntityInputs:
    draw = torch.Generator().manual_seed(1)
    drawn = torch.randn(NUM, D, generator=draw)
    features = {name: torch.randn(NUM, size, generator=draw) for name, size in WIDTHS.items()}
    present = {name: torch.ones(NUM, dtype=torch.bool) for name in WIDTHS}
    statistics = ColumnStatistics(torch.zeros(D), torch.ones(D))
    return EntityInputs(torch.arange(NUM), drawn if rows is None else rows, features, present, statistics)


def positives(start: int = 0, stop: int = 3) -> CompletionBatch:
    # One query a triple, tails and heads in turn; no negatives.
    triples = np.array([[0, 0, 3], [5, 1, 2], [7, 0, 1]])[start:stop]
    find_tail = np.array([True, False, True])[start:stop]
    return assemble(CorruptedTriples(triples, np.arange(stop - start), find_tail, ()), 3)


def build(**adversary: Any) -> tuple[CompletionTask, Adversary]:
    config = validate(AdamfConfig, {"encoder": {"width": D}, "adversary": adversary}, "t")
    other = config.build_adversary(FACTS, 0)
    assert other is not None
    return config.build_completion(FACTS, 0), other


def both_codes(task: CompletionTask, adversary: Adversary, given: EntityInputs) -> tuple[Tensor, Tensor]:
    fused = task.encode(given, MOMENT)
    return fused.codes, adversary.generators.codes(task.encoder.fusion, fused, given.ids, MOMENT)


def test_both_losses_by_hand() -> None:
    # One query: true score 2, fakes 0, 1, -1.
    true, fakes = torch.tensor([2.0]), (torch.tensor([0.0]), torch.tensor([1.0]), torch.tensor([-1.0]))
    # -1/2 [3 log s(2) + log s(0) + log s(-1) + log s(1)] and -1/2 [log s(0) + log s(1) + log s(-1) + 3 log s(-2)].
    assert sum_over_fakes(true, fakes, better="true").item() == pytest.approx(1.3502274, abs=1e-6)
    assert sum_over_fakes(true, fakes, better="fake").item() == pytest.approx(4.3502274, abs=1e-6)


def test_true_codes_for_fakes_score_as_true() -> None:
    task, _ = build()
    codes = task.encode(inputs(), None).codes
    batch = positives()
    codes = codes[batch.entities]
    true, fakes = score_fakes(task, codes, codes, batch)
    for fake in fakes:
        assert torch.equal(fake, true)
    torch.testing.assert_close(
        true,
        task.scorer.score_own(
            task.queries(codes[batch.known], batch.relations, batch.find_tail), codes, batch.answer.unsqueeze(1)
        ).squeeze(1),
    )


def test_each_fake_replaces_what_it_says() -> None:
    task, adversary = build()
    batch = positives()
    codes, fakes = both_codes(task, adversary, inputs())
    codes, fakes = codes[batch.entities], fakes[batch.entities]
    _, before = score_fakes(task, codes, fakes, batch)
    changed = fakes.clone()
    changed[batch.answer[0]] += 1.0
    _, after = score_fakes(task, codes, changed, batch)
    # The first query's answer: its own fake score stays where the given entity is fake.
    assert after[0][0] == before[0][0]
    assert after[1][0] != before[1][0]
    assert after[2][0] != before[2][0]


def test_slices_add_up_and_mu_scales_the_share_of_the_model() -> None:
    task, adversary = build(weight=0.5)
    codes, fakes = both_codes(task, adversary, inputs())

    def loss(start: int, stop: int) -> Tensor:
        batch = positives(start, stop)
        return adversary.model_loss(task, codes[batch.entities], fakes[batch.entities], batch).loss

    torch.testing.assert_close(loss(0, 3), loss(0, 1) + loss(1, 3))
    report = adversary.model_loss(task, codes[positives().entities], fakes[positives().entities], positives())
    torch.testing.assert_close(report.loss, 0.5 * report.terms["fakes"])


def test_the_second_player_leaves_true_codes_alone_and_learns() -> None:
    task, adversary = build(lr=1e-2)
    rows = inputs().rows.clone().requires_grad_()
    batch = positives()
    optimizer = torch.optim.Adam(adversary.parameters(), lr=adversary.lr)

    def loss() -> Tensor:
        codes, fakes = both_codes(task, adversary, inputs(rows))
        return adversary.generator_loss(task, codes[batch.entities], fakes[batch.entities], batch).loss

    before = loss()
    before.backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in adversary.parameters())
    for _ in range(20):
        optimizer.step()
        optimizer.zero_grad()
        loss().backward()
    assert loss() < before
    codes = torch.randn(len(batch.entities), D, requires_grad=True)
    fakes = torch.randn(len(batch.entities), D, requires_grad=True)
    adversary.generator_loss(task, codes, fakes, batch).loss.backward()
    assert codes.grad is None
    assert fakes.grad is not None
