"""Generators of fake tokens, by hand; their noise is keyed by entity and step."""

import torch
from torch import nn

from snag_dist.model.fusion import AttentiveSumFusionConfig, Fused
from snag_dist.model.generator import GeneratorConfig, Generators
from snag_dist.random import Moment

MOMENT = Moment(0, 0, 4)


def test_a_generator_by_hand() -> None:
    generators = Generators(GeneratorConfig(noise_width=1, hidden_width=2), ["text"], 2)
    network = generators.networks[0]
    assert isinstance(network, nn.Sequential)
    with torch.no_grad():
        # The noise is left out: hidden = [c1 - c2, c2], token = [hidden1, hidden2 + 1].
        network[0].weight.copy_(torch.tensor([[0.0, 1, -1], [0, 0, 1]]))
        network[0].bias.zero_()
        network[2].weight.copy_(torch.eye(2))
        network[2].bias.copy_(torch.tensor([0.0, 1]))
    tokens = torch.tensor([[[7.0, 8], [0, 0]]])
    fused = Fused(torch.tensor([[1.0, 3]]), tokens, torch.ones(1, 2))
    made = generators(fused, torch.tensor([0]), MOMENT)
    # hidden1 = -2, times the slope .01.
    torch.testing.assert_close(made, torch.tensor([[[7.0, 8], [-0.02, 4]]]))


def test_the_released_condition_is_the_graph_token() -> None:
    torch.manual_seed(0)
    generators = Generators(GeneratorConfig(condition="graph"), ["text"], 2)
    tokens = torch.randn(3, 2, 2)
    made = [
        generators(Fused(codes, tokens, torch.ones(3, 2)), torch.arange(3), MOMENT) for codes in torch.randn(2, 3, 2)
    ]
    assert torch.equal(made[0], made[1])


def test_fakes_are_keyed_by_entity_and_step() -> None:
    torch.manual_seed(0)
    generators = Generators(GeneratorConfig(), ["text", "vision"], 4)
    ids = torch.arange(8)
    fused = Fused(torch.randn(8, 4), torch.randn(8, 3, 4), torch.ones(8, 3))
    order = torch.tensor([6, 1])
    part = Fused(fused.codes[order], fused.tokens[order], fused.confidence[order])
    whole = generators(fused, ids, MOMENT)
    torch.testing.assert_close(generators(part, order, MOMENT), whole[order])
    assert not torch.allclose(generators(fused, ids, Moment(0, 0, 5)), whole)
    # The order of the modalities' names changes nothing.
    torch.manual_seed(0)
    assert torch.equal(Generators(GeneratorConfig(), ["vision", "text"], 4)(fused, ids, MOMENT), whole)


def test_fake_codes_are_the_fusion_of_fakes_with_the_true_graph_token() -> None:
    torch.manual_seed(0)
    generators, fusion = Generators(GeneratorConfig(), ["text"], 4), AttentiveSumFusionConfig().build(4, 2)
    fused, ids = Fused(torch.randn(3, 4), torch.randn(3, 2, 4), torch.ones(3, 2)), torch.arange(3)
    tokens = generators(fused, ids, MOMENT)
    assert torch.equal(tokens[:, 0], fused.tokens[:, 0])
    weights = torch.softmax(torch.tanh(tokens) @ fusion.direction, dim=1)
    expected = weights[:, :1] * tokens[:, 0] + weights[:, 1:] * tokens[:, 1]
    torch.testing.assert_close(generators.codes(fusion, fused, ids, MOMENT), expected)
