"""GMNM: the worked row, its moments, and that noise is keyed by entity."""

from typing import get_args

import pytest
import torch

from snag_dist.config import Config
from snag_dist.errors import ShapeError
from snag_dist.model.features import GRAPH, ColumnStatistics
from snag_dist.model.noise import (
    DropoutNoiseConfig,
    GaussianNoiseConfig,
    NoiseConfig,
    NoiseStrength,
    NoNoiseConfig,
    mask_with_noise,
)
from snag_dist.random import Moment, Stream

CONFIGS: list[type[Config]] = list(get_args(get_args(NoiseConfig)[0]))
STATISTICS = ColumnStatistics(torch.tensor([3.0, 5.0]), torch.tensor([2.0, 3.605551]))


class FixedStream(Stream):
    """A stream that draws z = [1, -1]."""

    def child(self, name: str) -> "FixedStream":
        return self

    def normal(self, index: torch.Tensor, width: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.tensor([[1.0, -1.0]], dtype=dtype).expand(len(index), 2)


def test_the_worked_row() -> None:
    row = torch.tensor([[1.0, 2.0]])
    noised = mask_with_noise(
        row, STATISTICS, torch.tensor([0]), probability=1.0, ratio=0.7, stream=FixedStream(0, "noise")
    )
    torch.testing.assert_close(noised, torch.tensor([[3.8, 1.576114]]), atol=1e-6, rtol=0)


def test_moments_of_chosen_rows() -> None:
    ids = torch.arange(40000)
    clean = Stream(0, "clean").normal(ids, 4, torch.float64)
    statistics = ColumnStatistics(clean.mean(0), clean.std(0))
    stream = Stream(1, "noise")
    everyone = mask_with_noise(clean, statistics, ids, probability=1.0, ratio=0.7, stream=stream)
    assert float(everyone.var() / clean.var()) == pytest.approx(0.58, abs=0.01)
    correlation = torch.corrcoef(torch.stack([clean[:, 0], everyone[:, 0]]))[0, 1]
    assert float(correlation) == pytest.approx(0.3939, abs=0.015)
    some = mask_with_noise(clean, statistics, ids, probability=0.2, ratio=0.7, stream=stream)
    assert float(some.var() / clean.var()) == pytest.approx(0.916, abs=0.01)
    untouched = (some == clean).all(dim=1)
    assert float(untouched.double().mean()) == pytest.approx(0.8, abs=0.01)
    # All columns of a chosen row change together.
    assert torch.equal(untouched, (some == clean).any(dim=1))


def test_gradient_to_a_touched_row_is_scaled() -> None:
    rows = torch.zeros(1000, 2, requires_grad=True)
    noised = mask_with_noise(
        rows, STATISTICS, torch.arange(1000), probability=0.5, ratio=0.7, stream=Stream(0, "noise")
    )
    noised.sum().backward()
    touched = (noised != 0).any(dim=1)
    assert torch.equal(rows.grad[~touched], torch.ones(int((~touched).sum()), 2))
    torch.testing.assert_close(rows.grad[touched], torch.full((int(touched.sum()), 2), 0.3))


def test_wrong_statistics_are_named() -> None:
    with pytest.raises(ShapeError, match=r"noise mean: expected shape \(3,\)"):
        mask_with_noise(
            torch.zeros(1, 3), STATISTICS, torch.tensor([0]), probability=1.0, ratio=1.0, stream=Stream(0, "n")
        )


@pytest.mark.parametrize("config", CONFIGS)
class TestEveryNoise:
    def test_keyed_by_entity_not_by_place(self, config: type[Config]) -> None:
        noise = config().build()  # type: ignore[attr-defined]
        features, ids = torch.randn(6, 2), torch.tensor([4, 9, 2, 30, 31, 5])
        moment = Moment(7, 1, 12)
        whole = noise.apply("text", features, STATISTICS, ids, moment)
        order = torch.tensor([5, 0, 3])
        part = noise.apply("text", features[order], STATISTICS, ids[order], moment)
        assert torch.equal(whole[order], part)

    def test_shape_is_kept(self, config: type[Config]) -> None:
        noise = config().build()  # type: ignore[attr-defined]
        assert noise.apply(GRAPH, torch.randn(3, 2), STATISTICS, torch.arange(3), Moment(0, 0, 0)).shape == (3, 2)


def test_redraw_by_epoch_or_step() -> None:
    features, ids = torch.randn(50, 2), torch.arange(50)
    apply = lambda noise, epoch, step: noise.apply("text", features, STATISTICS, ids, Moment(0, epoch, step))  # noqa: E731
    by_epoch, by_step = GaussianNoiseConfig().build(), GaussianNoiseConfig(redraw="step").build()
    assert torch.equal(apply(by_epoch, 0, 1), apply(by_epoch, 0, 2))
    assert not torch.equal(apply(by_epoch, 0, 1), apply(by_epoch, 1, 3))
    assert not torch.equal(apply(by_step, 0, 1), apply(by_step, 0, 2))


def test_modalities_draw_independently_and_have_their_own_strength() -> None:
    config = GaussianNoiseConfig(
        probability=1.0, graph_scale=0.0, modalities={"vision": NoiseStrength(probability=0, ratio=0)}
    )
    noise, features, ids, moment = config.build(), torch.randn(9, 2), torch.arange(9), Moment(0, 0, 0)
    assert torch.equal(noise.apply("vision", features, STATISTICS, ids, moment), features)
    assert torch.equal(noise.apply(GRAPH, features, STATISTICS, ids, moment), features)
    text, other = (noise.apply(name, features, STATISTICS, ids, moment) for name in ("text", "other"))
    assert not torch.isclose(text, features).any()
    assert not torch.isclose(text, other).any()


def test_dropout_noise_leaves_learned_rows_alone() -> None:
    noise, features = DropoutNoiseConfig(probability=0.5).build(), torch.ones(400, 2)
    assert torch.equal(noise.apply(GRAPH, features, STATISTICS, torch.arange(400), Moment(0, 0, 0)), features)
    dropped = noise.apply("text", features, STATISTICS, torch.arange(400), Moment(0, 0, 0))
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert NoNoiseConfig().build().apply("text", features, STATISTICS, torch.arange(400), Moment(0, 0, 0)) is features
