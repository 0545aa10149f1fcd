"""What every method of alignment promises, and the published numbers of parameters."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from snag_dist.config import validate
from snag_dist.kg.adjacency import Adjacency
from snag_dist.method import eva, mclea, meaformer, snag_alignment
from snag_dist.method.choices import AlignmentMethod
from snag_dist.method.facts import GraphFacts
from snag_dist.model.aggregation import Edges, connect, connect_graph
from snag_dist.model.encoder import ModalityFacts
from snag_dist.model.features import ColumnStatistics, EntityInputs
from snag_dist.random import Moment
from snag_dist.task.alignment import AlignmentBatch, AlignmentTask, assemble_pairs

CONFIGS: list[Any] = list(get_args(AlignmentMethod))
NUM, WIDTH = 12, 6
WIDTHS = {"attribute": 4, "relation": 5, "vision": 3}
PAIRS = np.array([[0, 7], [2, 9], [4, 6], [5, 11], [1, 8]])
MOMENT = Moment(0, 0, 3)


def facts_of(widths: Mapping[str, int], num: int = NUM) -> GraphFacts:
    modalities = {
        name: ModalityFacts(width, ColumnStatistics(torch.zeros(width), torch.ones(width)))
        for name, width in widths.items()
    }
    return GraphFacts(num, 3, modalities)


def make(config: Any, **changes: Any) -> AlignmentTask:
    tree = {"encoder": {"width": WIDTH}, **changes}
    if "attention" in config.model_fields:
        tree["attention"] = {"num_heads": 1, "feed_forward_width": 8, **changes.get("attention", {})}
    return validate(config, tree, "test").build_alignment(facts_of(WIDTHS), 0).double()


def graph() -> Edges:
    return connect_graph(Adjacency.build(np.random.default_rng(3).integers(NUM, size=(18, 3)), NUM))


def inputs(rows: Tensor | None = None, absent: float = 0.0) -> EntityInputs:
    draw = torch.Generator().manual_seed(1)
    drawn = torch.randn(NUM, WIDTH, generator=draw, dtype=torch.float64)
    features = {name: torch.randn(NUM, width, generator=draw, dtype=torch.float64) for name, width in WIDTHS.items()}
    present = {name: torch.ones(NUM, dtype=torch.bool) for name in WIDTHS}
    # Entities 2 and 9 are a pair; 8 is the other half of a pair that has its picture.
    present["vision"][[2, 3, 8]] = False
    features["vision"][~present["vision"]] = absent
    statistics = ColumnStatistics(torch.zeros(WIDTH), torch.ones(WIDTH))
    return EntityInputs(torch.arange(NUM), drawn if rows is None else rows, features, present, statistics)


def whole_batch(start: int = 0, stop: int = len(PAIRS)) -> AlignmentBatch:
    return assemble_pairs(PAIRS, start, stop)


def cost(task: AlignmentTask, given: EntityInputs, *batches: AlignmentBatch) -> Tensor:
    packed = task.encode_graph(given, graph(), MOMENT).pack()
    return torch.stack([task.loss(packed[batch.entities], batch).loss for batch in batches]).sum()


@pytest.mark.parametrize("config", CONFIGS)
class TestEveryMethod:
    def test_slices_add_up_in_value_and_gradient(self, config: Any) -> None:
        losses, grads = [], []
        for cuts in ((0, 5), (0, 2, 2, 5)):
            task, rows = make(config), inputs().rows.clone().requires_grad_()
            spans = pairwise(cuts)
            loss = cost(task, inputs(rows), *(whole_batch(*span) for span in spans))
            loss.backward()
            losses.append(loss)
            grads.append([rows.grad, *(parameter.grad for parameter in task.parameters())])
        torch.testing.assert_close(losses[0], losses[1])
        torch.testing.assert_close(grads[0], grads[1])

    def test_every_parameter_learns(self, config: Any) -> None:
        task, rows = make(config), inputs().rows.clone().requires_grad_()
        cost(task, inputs(rows), whole_batch()).backward()
        assert rows.grad is not None
        assert (rows.grad.abs().sum(dim=1) > 0).sum() > len(PAIRS)
        still = [name for name, value in task.named_parameters() if value.grad is None or not value.grad.any()]
        assert still == []

    def test_terms_add_up_to_the_loss(self, config: Any) -> None:
        task = make(config)
        packed = task.encode_graph(inputs(), graph(), MOMENT).pack()
        report = task.loss(packed[whole_batch().entities], whole_batch())
        torch.testing.assert_close(torch.stack(list(report.terms.values())).sum(), report.loss.detach())
        assert not any(term.requires_grad for term in report.terms.values())

    def test_owners_with_halo_codes_equal_one_place(self, config: Any) -> None:
        task, edges, given = make(config), graph(), inputs()
        whole = task.encode_graph(given, edges, MOMENT).pack()
        assert edges.value is not None
        codes = task.begin(given, MOMENT)
        for index in range(task.num_layers):
            # Two owners; each fetches the codes of all entities it lacks.
            parts = []
            for own in (torch.arange(0, 5), torch.arange(5, NUM)):
                mine = (edges.target >= own[0]) & (edges.target <= own[-1])
                order = torch.cat([own, torch.tensor([e for e in range(NUM) if e not in own])])
                place = torch.argsort(order)
                block = connect(
                    place[edges.source[mine]], edges.target[mine] - own[0], NUM, len(own), edges.value[mine]
                )
                parts.append(task.layer(index, codes[order], codes[own], block))
            codes = torch.cat(parts)
        for own in (torch.arange(0, 5), torch.arange(5, NUM)):
            features = {name: values[own] for name, values in given.features.items()}
            present = {name: values[own] for name, values in given.present.items()}
            mine = EntityInputs(own, given.rows[own], features, present, given.row_statistics)
            torch.testing.assert_close(task.encode(codes[own], mine, MOMENT).pack(), whole[own])

    def test_what_stands_where_a_picture_is_missing_does_not_matter(self, config: Any) -> None:
        task = make(config)
        assert torch.equal(cost(task, inputs(), whole_batch()), cost(task, inputs(absent=70.0), whole_batch()))
        codes = [task.codes(task.encode_graph(given, graph(), None)) for given in (inputs(), inputs(absent=70.0))]
        assert torch.equal(codes[0], codes[1])

    def test_evaluation_knows_neither_noise_nor_dropout(self, config: Any) -> None:
        noisy = make(config, noise={"kind": "gaussian", "probability": 1.0})
        plain = make(config, noise={"kind": "none"})
        codes = [task.codes(task.encode_graph(inputs(), graph(), None)) for task in (noisy, plain)]
        assert torch.equal(codes[0], codes[1])
        assert codes[0].shape[0] == NUM
        assert not torch.equal(cost(noisy, inputs(), whole_batch()), cost(plain, inputs(), whole_batch()))

    def test_weights_of_present_tokens_add_up_to_one(self, config: Any) -> None:
        task = make(config)
        views = task.encode_graph(inputs(), graph(), None)
        weights = task.weights(views)
        torch.testing.assert_close(weights.sum(dim=1), torch.ones(NUM, dtype=weights.dtype))
        assert not weights[~views.present].any()

    def test_training_brings_pairs_together(self, config: Any) -> None:
        task, rows = make(config, noise={"kind": "none"}), inputs().rows.clone().requires_grad_()
        optimizer = torch.optim.Adam([rows, *task.parameters()], lr=0.05)

        def hits() -> int:
            codes = torch.nn.functional.normalize(task.codes(task.encode_graph(inputs(rows), graph(), None)), dim=1)
            return int((codes[PAIRS[:, 0]] @ codes[PAIRS[:, 1]].T).argmax(dim=1).eq(torch.arange(5)).sum())

        before = cost(task, inputs(rows), whole_batch()).item()
        for _ in range(60):
            optimizer.zero_grad()
            cost(task, inputs(rows), whole_batch()).backward()
            optimizer.step()
        assert cost(task, inputs(rows), whole_batch()).item() < before
        assert hits() == 5

    def test_the_same_seed_builds_the_same_task(self, config: Any) -> None:
        first, again = make(config).state_dict(), make(config).state_dict()
        assert all(torch.equal(first[name], again[name]) for name in first)
        other = config().build_alignment(facts_of(WIDTHS), 1).state_dict()
        same = config().build_alignment(facts_of(WIDTHS), 0).state_dict()
        assert any(not torch.equal(same[name], other[name]) for name in same)


JA_EN = 19814 + 19780
PUBLISHED = {
    snag_alignment.SnagAlignmentConfig: (snag_alignment.IDLE_IN_RELEASE, 13_820_819),
    mclea.McleaConfig: (mclea.IDLE_IN_RELEASE, 13_217_718),
    eva.EvaConfig: (eva.IDLE_IN_RELEASE, 13_274_106),
    # Not published; the released code registers so many.
    meaformer.MeaformerConfig: (meaformer.IDLE_IN_RELEASE, 13_820_806),
}


def count(config: Any, widths: Mapping[str, int]) -> int:
    task = config().build_alignment(facts_of(widths, JA_EN), 0)
    return JA_EN * task.encoder.width + sum(parameter.numel() for parameter in task.parameters())


@pytest.mark.parametrize("config", CONFIGS)
def test_parameters_on_ja_en_are_the_published_ones_without_idle_ones(config: Any) -> None:
    idle, published = PUBLISHED[config]
    found = count(config, {"attribute": 1000, "relation": 1000, "vision": 2048})
    assert found + sum(idle.values()) == published


def test_with_names_and_characters_too_no_parameter_of_mclea_is_idle() -> None:
    six = {"attribute": 1000, "relation": 1000, "vision": 2048, "name": 300, "character": 100}
    assert count(mclea.McleaConfig, six) == 13_217_718
    # SNAG registers seven weights between three terms, which no published command uses.
    assert count(snag_alignment.SnagAlignmentConfig, six) + 7 == 13_820_819


@pytest.mark.parametrize("config", [config for config in CONFIGS if "attention" in config.model_fields])
def test_the_activation_of_the_layer_is_a_choice(config: Any) -> None:
    released, paper, untold = (
        make(config, **({} if activation is None else {"attention": {"activation": activation}}))
        for activation in ("gelu", "relu", None)
    )
    # The same weights, so that nothing but the activation can make a difference.
    for name, value in released.state_dict().items():
        assert torch.equal(value, paper.state_dict()[name])
    views = [task.encode_graph(inputs(), graph(), None) for task in (released, paper, untold)]
    assert torch.equal(views[0].tokens, views[1].tokens)
    assert not torch.allclose(views[0].outputs, views[1].outputs)
    assert torch.equal(views[0].outputs, views[2].outputs)
    costs = [cost(task, inputs(), whole_batch()).item() for task in (released, paper, untold)]
    assert costs[0] != pytest.approx(costs[1], rel=1e-6)
    assert costs[0] == costs[2]


def test_rows_start_as_published() -> None:
    tasks = {config: config().build_alignment(facts_of(WIDTHS, JA_EN), 0) for config in CONFIGS}
    for config, task in tasks.items():
        expected = (2 / (JA_EN + 300)) ** 0.5 if config is eva.EvaConfig else JA_EN**-0.5
        assert task.row_std == pytest.approx(expected)


class TestReadingsOfSnag:
    def report(self, **changes: Any) -> dict[str, float]:
        task = make(snag_alignment.SnagAlignmentConfig, noise={"kind": "none"}, **changes)
        packed = task.encode_graph(inputs(), graph(), MOMENT).pack()
        report = task.loss(packed[whole_batch().entities], whole_batch())
        return {name: float(term) for name, term in report.terms.items()}

    def test_the_entity_weighted_contrast_belongs_to_gmi(self) -> None:
        released, paper = self.report(), self.report(entity_weighted=False)
        assert released["gmi"] > paper["gmi"] > 0
        assert released["ecia"] == paper["ecia"]

    def test_phi_matters_to_ecia_only(self) -> None:
        released, printed = self.report(), self.report(phi="inside_log")
        assert released["ecia"] != printed["ecia"]
        assert (released["gmi"], released["iir"]) == (printed["gmi"], printed["iir"])

    def test_uncertainty_weights_begin_as_a_plain_sum(self) -> None:
        assert self.report() == self.report(modality_weights="sum")
        plain = make(snag_alignment.SnagAlignmentConfig, modality_weights="sum")
        assert not any("uncertainty" in name for name, _ in plain.named_parameters())


def test_the_joint_loss_of_eva_teaches_its_weights_only() -> None:
    task = make(eva.EvaConfig)
    views = task.encode_graph(inputs(), graph(), None)
    codes = task.codes(views)
    found = torch.autograd.grad(codes.square().sum(), [task.objective.mix.weight, views.tokens], allow_unused=True)
    assert found[0].abs().sum() > 0
    assert found[1] is None
