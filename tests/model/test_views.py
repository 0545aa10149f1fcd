"""Views of entities: confidence in both readings, noise on all inputs, and how views travel."""

from typing import Any

import numpy as np
import pytest
import torch

from snag_dist.errors import ShapeError
from snag_dist.kg.adjacency import Adjacency
from snag_dist.model.aggregation import connect_graph
from snag_dist.model.attention import AttentionConfig
from snag_dist.model.encoder import ModalityFacts
from snag_dist.model.features import ColumnStatistics, EntityInputs
from snag_dist.model.noise import GaussianNoiseConfig, NoNoiseConfig
from snag_dist.model.views import ViewsConfig, ViewsEncoder, unpack
from snag_dist.random import Moment

FACTS = {"relation": ModalityFacts(4, ColumnStatistics(torch.zeros(4), torch.ones(4)))}
EDGES = connect_graph(Adjacency.build(np.array([[0, 0, 1], [1, 0, 2], [2, 0, 3], [3, 0, 4]]), 6))


def make(noise: Any = None, attention: bool = True, **changes: Any) -> ViewsEncoder:
    torch.manual_seed(0)
    layer = AttentionConfig(num_heads=1, feed_forward_width=5) if attention else None
    config = ViewsConfig.model_validate({"width": 3, **changes})
    return ViewsEncoder(config, FACTS, (noise or NoNoiseConfig()).build(), layer)


def inputs() -> EntityInputs:
    draw = torch.Generator().manual_seed(1)
    rows, relation = torch.randn(6, 3, generator=draw), torch.randn(6, 4, generator=draw)
    statistics = ColumnStatistics(torch.zeros(3), torch.ones(3))
    present = {"relation": torch.arange(6) != 2}
    return EntityInputs(torch.arange(6), rows, {"relation": relation}, present, statistics)


def test_confidence_by_columns_and_by_rows() -> None:
    received = make().encode_graph(inputs(), EDGES, 0, None).confidence
    given = make(confidence="rows").encode_graph(inputs(), EDGES, 0, None).confidence
    torch.testing.assert_close(received.sum(dim=1), torch.ones(6))
    assert not torch.allclose(received[0], torch.full((2,), 0.5), atol=1e-3)
    # The paper's sum as printed trusts all present tokens alike.
    expected = torch.full((6, 2), 0.5)
    expected[2] = torch.tensor([1.0, 0.0])
    torch.testing.assert_close(given, expected)


def test_without_attention_tokens_are_the_outputs() -> None:
    views = make(attention=False).encode_graph(inputs(), EDGES, 0, None)
    assert views.outputs is views.tokens
    assert torch.equal(views.confidence[2], torch.tensor([1.0, 0.0]))


@pytest.mark.parametrize("attention", [True, False])
def test_views_travel_as_one_tensor(attention: bool) -> None:
    views = make(attention=attention).encode_graph(inputs(), EDGES, 0, None)
    packed = views.pack()
    assert packed.shape == (6, (2 if attention else 1) * 6 + 4)
    back = unpack(packed, 2, 3)
    for name in ("tokens", "outputs", "confidence", "present"):
        assert torch.equal(getattr(back, name), getattr(views, name)), name
    chosen = back.select(torch.tensor([4, 2]))
    assert torch.equal(chosen.tokens, views.tokens[[4, 2]])
    assert (chosen.outputs is chosen.tokens) == (not attention)


def test_a_tensor_that_holds_no_views_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"packed views: expected shape \(-1, 10\) \(-1 is any\), got \(6, 11\)"):
        unpack(torch.zeros(6, 11), 2, 3)


def test_noise_reaches_rows_and_features_in_training_only() -> None:
    encoder, given = make(GaussianNoiseConfig(probability=1.0, ratio=0.5)), inputs()
    moment = Moment(0, 0, 0)
    assert torch.equal(encoder.noised_rows(given, None), given.rows)
    assert not torch.isclose(encoder.noised_rows(given, moment), given.rows).all(dim=1).any()
    clean, noisy = (encoder(given.rows, given, 0, at).tokens[:, 1] for at in (None, moment))
    assert not torch.isclose(clean, noisy).all(dim=1).any()
    assert torch.equal(
        make().encode_graph(given, EDGES, 0, None).tokens, encoder.encode_graph(given, EDGES, 0, None).tokens
    )


def test_rows_are_noised_half_as_often_and_half_as_much() -> None:
    num = 20000
    rows = torch.zeros(num, 3)
    statistics = ColumnStatistics(torch.ones(3), torch.zeros(3))
    given = EntityInputs(torch.arange(num), rows, row_statistics=statistics)
    noised = make(GaussianNoiseConfig(graph_scale=0.5)).noised_rows(given, Moment(0, 0, 0))
    touched = noised[:, 0] != 0
    assert float(touched.float().mean()) == pytest.approx(0.1, abs=0.01)
    torch.testing.assert_close(noised[touched], torch.full((int(touched.sum()), 3), 0.35))
