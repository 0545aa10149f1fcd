"""Attention and fusion: golden numbers of the published code, and what every fusion promises."""

from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from snag_dist.model.attention import AttentionConfig, ModalityAttention, confidence_from_attention
from snag_dist.model.dropout import KeyedDropout, no_dropout
from snag_dist.model.fusion import AttentionFusion, AttentionFusionConfig, FusionConfig
from snag_dist.random import Moment

CONFIGS: list[Any] = list(get_args(get_args(FusionConfig)[0]))
WIDTH = 4


def make_identity(attention: ModalityAttention) -> None:
    """Set every projection of the layer to the identity."""
    with torch.no_grad():
        attention.query_key_value.weight.copy_(torch.eye(WIDTH).repeat(3, 1))
        attention.output.weight.copy_(torch.eye(WIDTH))
        for layer in (attention.query_key_value, attention.output):
            layer.bias.zero_()


def everything(tokens: Tensor) -> tuple[Tensor, KeyedDropout]:
    ids = torch.arange(len(tokens))
    return torch.ones(tokens.shape[:2], dtype=torch.bool), no_dropout(ids)


@pytest.mark.parametrize(
    ("heads", "confidence"),
    [(1, [0.203524, 0.266280, 0.233431, 0.296764]), (2, [0.212803, 0.273202, 0.238331, 0.275663])],
)
def test_confidence_golden_numbers(heads: int, confidence: list[float]) -> None:
    # G3: tokens e1, 2 e2, e1 + e2, 3 e4.
    tokens = torch.tensor([[[1.0, 0, 0, 0], [0, 2, 0, 0], [1, 1, 0, 0], [0, 0, 0, 3]]])
    layer = ModalityAttention(AttentionConfig(num_heads=heads), WIDTH)
    make_identity(layer)
    present, dropout = everything(tokens)
    hidden, attention = layer(tokens, present, dropout)
    found = confidence_from_attention(attention, present)
    torch.testing.assert_close(found, torch.tensor([confidence]), atol=1e-6, rtol=0)
    if heads == 1:
        columns = torch.tensor([[0.608491, 1.146018, 0.882697, 1.362794]])
        torch.testing.assert_close(attention.sum(dim=(1, 2)), columns, atol=1e-6, rtol=0)
        first = torch.tensor([1.550227, -0.052554, -1.234904, -0.262769])
        torch.testing.assert_close(hidden[0, 0], first, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("heads", "code", "expected"),
    [
        (2, "graph", [0.914096, -1.321103, 1.020904, -0.613897]),
        (2, "mean", [0.884983, -0.421053, 0.120884, -0.584813]),
        (1, "mean", [0.837990, -0.424239, 0.113540, -0.527291]),
    ],
)
def test_completion_code_golden_numbers(heads: int, code: Any, expected: list[float]) -> None:
    # G10: tanh, identity weights, no FFN.
    tokens = torch.tensor([[[0.5, -0.5, 1, 0], [0, 1, 0, -1], [2, 0, 0, 1]]])
    fusion = AttentionFusionConfig(code=code, attention=AttentionConfig(num_heads=heads)).build(WIDTH, 3)
    assert isinstance(fusion, AttentionFusion)
    make_identity(fusion.attention)
    codes = fusion(tokens, *everything(tokens)).codes
    torch.testing.assert_close(codes, torch.tensor([expected]), atol=1e-6, rtol=0)


def test_codes_alone_golden_numbers() -> None:
    # G10, code "graph", by the way that training takes.
    tokens = torch.tensor([[[0.5, -0.5, 1, 0], [0, 1, 0, -1], [2, 0, 0, 1]]])
    fusion = AttentionFusionConfig(code="graph").build(WIDTH, 3)
    assert isinstance(fusion, AttentionFusion)
    make_identity(fusion.attention)
    expected = torch.tensor([[0.914096, -1.321103, 1.020904, -0.613897]])
    torch.testing.assert_close(fusion.codes(tokens, *everything(tokens)), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("feed_forward_width", [0, 6])
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_the_first_token_alone_is_that_of_the_whole_layer(heads: int, feed_forward_width: int) -> None:
    """In value and every gradient, with absent tokens and biases that are not zero."""
    torch.manual_seed(0)
    config = AttentionConfig(num_heads=heads, feed_forward_width=feed_forward_width)
    layer = ModalityAttention(config, 8).double()
    tokens = torch.randn(5, 3, 8, dtype=torch.float64, requires_grad=True)
    present, dropout = everything(tokens)
    present[1, 1] = present[2, 2] = present[3, 1] = present[3, 2] = False
    weights = torch.randn(5, 8, dtype=torch.float64)
    leaves = [tokens, *layer.parameters()]
    expected = layer(tokens, present, dropout)[0][:, 0]
    wanted = torch.autograd.grad((expected * weights).sum(), leaves)
    found = layer.first(tokens, present, dropout)
    torch.testing.assert_close(found, expected)
    for got, want in zip(torch.autograd.grad((found * weights).sum(), leaves), wanted, strict=True):
        torch.testing.assert_close(got, want)


def test_dropout_of_the_first_token_alone_is_that_of_the_formula() -> None:
    """The same values dropped in both sublayers, written out one entity at a time."""
    torch.manual_seed(0)
    layer = ModalityAttention(AttentionConfig(dropout=0.5), WIDTH).double()
    tokens, ids = torch.randn(6, 3, WIDTH, dtype=torch.float64), torch.tensor([3, 9, 4, 1, 0, 7])
    present, dropout = torch.ones(6, 3, dtype=torch.bool), KeyedDropout(ids, Moment(0, 1, 5))
    found = layer.first(tokens, present, dropout)
    kept = dropout(torch.ones(6, 2, 3, dtype=torch.float64), 0.5, "first attention")
    outputs = dropout(torch.ones(6, WIDTH, dtype=torch.float64), 0.5, "first output")
    assert 0 < int((kept == 0).sum()) < kept.numel()
    for entity in range(6):
        query, key, value = layer.query_key_value(tokens[entity]).chunk(3, dim=-1)
        heads: list[Tensor] = []
        for head in range(2):
            own = slice(2 * head, 2 * head + 2)
            attention = torch.softmax(query[0, own] @ key[:, own].T / 2**0.5, dim=-1)
            heads.append((attention * kept[entity, head]) @ value[:, own])
        expected = layer.norm(tokens[entity, 0] + outputs[entity] * layer.output(torch.cat(heads)))
        torch.testing.assert_close(found[entity], expected)


def test_weights_of_adamf_golden_numbers() -> None:
    # The worked example of AdaMF's fusion on the tokens of G10.
    from snag_dist.model.fusion import AttentiveSumFusion, AttentiveSumFusionConfig

    tokens = torch.tensor([[[0.5, -0.5, 1, 0], [0, 1, 0, -1], [2, 0, 0, 1]]])
    fusion = AttentiveSumFusionConfig().build(WIDTH, 3)
    assert isinstance(fusion, AttentiveSumFusion)
    with torch.no_grad():
        fusion.direction.copy_(torch.tensor([0.1, 0.2, -0.3, 0.4]))
    fused = fusion(tokens, *everything(tokens))
    torch.testing.assert_close(fused.confidence, torch.tensor([[0.244162, 0.275945, 0.479893]]), atol=1e-6, rtol=0)
    expected = torch.tensor([[1.081866, 0.153864, 0.244162, 0.203947]])
    torch.testing.assert_close(fused.codes, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("config", CONFIGS)
class TestEveryFusion:
    def build(self, config: Any) -> nn.Module:
        torch.manual_seed(0)
        return config().build(WIDTH, 3)

    def test_shapes_and_weights(self, config: Any) -> None:
        tokens = torch.randn(5, 3, WIDTH)
        present, dropout = everything(tokens)
        fused = self.build(config)(tokens, present, dropout)
        assert fused.codes.shape == (5, WIDTH)
        assert fused.tokens.shape == (5, 3, WIDTH)
        torch.testing.assert_close(fused.confidence.sum(1), torch.ones(5))

    def test_codes_alone_are_those_of_the_whole(self, config: Any) -> None:
        tokens = torch.randn(5, 3, WIDTH)
        module = self.build(config)
        torch.testing.assert_close(module.codes(tokens, *everything(tokens)), module(tokens, *everything(tokens)).codes)

    def test_an_absent_token_has_no_say(self, config: Any) -> None:
        tokens = torch.randn(5, 3, WIDTH)
        present, dropout = everything(tokens)
        present[:, 1] = False
        changed = tokens.clone()
        changed[:, 1] = 100.0
        module = self.build(config)
        before, after = module(tokens, present, dropout), module(changed, present, dropout)
        torch.testing.assert_close(before.codes, after.codes)
        assert torch.equal(before.confidence[:, 1], torch.zeros(5))

    def test_entities_do_not_mix(self, config: Any) -> None:
        tokens = torch.randn(6, 3, WIDTH)
        present, _ = everything(tokens)
        ids = torch.tensor([3, 9, 4, 1, 0, 7])
        module, order = self.build(config), torch.tensor([4, 0, 5])
        whole = module(tokens, present, KeyedDropout(ids, Moment(0, 1, 5))).codes
        part = module(tokens[order], present[order], KeyedDropout(ids[order], Moment(0, 1, 5))).codes
        torch.testing.assert_close(whole[order], part)

    def test_it_can_be_trained(self, config: Any) -> None:
        tokens = torch.randn(4, 3, WIDTH, requires_grad=True)
        present, dropout = everything(tokens)
        module = self.build(config)
        module(tokens, present, dropout).codes.square().sum().backward()
        assert tokens.grad is not None
        assert tokens.grad.abs().sum() > 0
        grads = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
        assert not list(module.parameters()) or sum(float(grad.abs().sum()) for grad in grads) > 0


@pytest.mark.parametrize("feed_forward_width", [0, 6])
def test_codes_begin_at_the_size_of_rows_or_of_the_norm(feed_forward_width: int) -> None:
    tokens = torch.randn(200, 3, 64)
    sizes = {}
    for scale in ("rows", "unit"):
        attention = AttentionConfig(feed_forward_width=feed_forward_width)
        fusion = AttentionFusionConfig(code="graph", initial_scale=scale, attention=attention).build(64, 3)
        fusion.begin_at(0.05)
        sizes[scale] = float(fusion(tokens, *everything(tokens)).codes.detach().std())
    assert sizes["unit"] == pytest.approx(1.0, abs=0.01)
    assert sizes["rows"] == pytest.approx(0.05, abs=0.001)


def test_dropout_keeps_the_mean_and_changes_with_the_step() -> None:
    values, ids = torch.ones(2000, 8), torch.arange(2000)
    dropped = KeyedDropout(ids, Moment(0, 0, 0))(values, 0.1, "output")
    assert float((dropped == 0).float().mean()) == pytest.approx(0.1, abs=0.01)
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.01)
    later = KeyedDropout(ids, Moment(0, 0, 1))(values, 0.1, "output")
    assert not torch.equal(dropped, later)
    assert no_dropout(ids)(values, 0.1, "output") is values
