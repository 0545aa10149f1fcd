"""The encoder as a whole: missing modalities, noise in training only, modalities by name."""

from typing import Any

import pytest
import torch

from snag_dist.model.encoder import Encoder, EncoderConfig, ModalityFacts
from snag_dist.model.features import ColumnStatistics, EntityInputs, Projection, ProjectionConfig
from snag_dist.model.noise import GaussianNoiseConfig, NoNoiseConfig
from snag_dist.random import Moment

WIDTHS = {"text": 5, "vision": 3}
FACTS = {
    name: ModalityFacts(width, ColumnStatistics(torch.zeros(width), torch.ones(width)))
    for name, width in WIDTHS.items()
}


def make(**changes: Any) -> Encoder:
    torch.manual_seed(0)
    config = EncoderConfig.model_validate({"width": 8, **changes})
    return Encoder(config, FACTS, GaussianNoiseConfig(probability=1.0).build())


def inputs(num: int = 6) -> EntityInputs:
    draw = torch.Generator().manual_seed(1)
    rows = torch.randn(num, 8, generator=draw)
    features = {name: torch.randn(num, width, generator=draw) for name, width in WIDTHS.items()}
    present = {"text": torch.ones(num, dtype=torch.bool), "vision": torch.arange(num) % 2 == 0}
    statistics = ColumnStatistics(torch.zeros(8), torch.ones(8))
    return EntityInputs(torch.arange(num), rows, features, present, statistics)


def with_vision(given: EntityInputs, vision: torch.Tensor) -> EntityInputs:
    features = {**given.features, "vision": vision}
    return EntityInputs(given.ids, given.rows, features, given.present, given.row_statistics)


@pytest.mark.parametrize("impute", ["drop", "learned", "zero", "noise"])
def test_what_stands_where_a_picture_is_missing_does_not_matter(impute: str) -> None:
    encoder, given = make(projection={"impute": impute}), inputs()
    other = given.features["vision"].clone()
    other[1::2] = 1e3
    before, after = encoder(given, 0, None), encoder(with_vision(given, other), 0, None)
    torch.testing.assert_close(before.codes, after.codes)


def test_a_dropped_token_is_masked_and_a_learned_one_takes_part() -> None:
    given = inputs()
    dropped = make(projection={"impute": "drop"})(given, 0, None).confidence
    learned = make(projection={"impute": "learned"})(given, 0, None).confidence
    # Tokens: graph, then the modalities by name.
    assert torch.equal(dropped[1::2, 2], torch.zeros(3))
    assert (learned > 0).all()


def test_zeros_stand_for_a_missing_vector_as_if_they_were_its_own() -> None:
    given = inputs()
    zeros = given.features["vision"].clone()
    zeros[1::2] = 0.0
    there = {name: torch.ones_like(known) for name, known in given.present.items()}
    own = EntityInputs(given.ids, given.rows, {**given.features, "vision": zeros}, there, given.row_statistics)
    assert torch.equal(make(projection={"impute": "zero"})(given, 0, None).codes, make()(own, 0, None).codes)


def test_imputed_noise_has_the_moments_of_the_columns() -> None:
    num = 4000
    present = torch.zeros(num, dtype=torch.bool)
    statistics = ColumnStatistics(torch.tensor([0.0, 2.0, -1.0]), torch.tensor([1.0, 0.1, 3.0]))
    projection = Projection(ProjectionConfig(impute="noise"), "vision", 3, statistics, 4)
    drawn = projection.impute(torch.zeros(num, 3), present, torch.arange(num), 0)
    # Five standard errors: of a mean std / sqrt(n), of a deviation std / sqrt(2 n).
    assert ((drawn.mean(dim=0) - statistics.mean).abs() < 5 * statistics.std / num**0.5).all()
    assert ((drawn.std(dim=0) - statistics.std).abs() < 5 * statistics.std / (2 * num) ** 0.5).all()


def test_imputed_noise_is_keyed_by_seed_and_entity() -> None:
    encoder, given = make(projection={"impute": "noise"}), inputs()
    first, again, other = (encoder(given, seed, None).codes for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first[1::2], other[1::2])
    assert torch.equal(first[::2], other[::2])


def test_noise_and_dropout_are_for_training_only() -> None:
    encoder, given = make(), inputs()
    clean = encoder(given, 0, None).codes
    assert torch.equal(clean, encoder(given, 0, None).codes)
    noisy = encoder(given, 0, Moment(0, 0, 0)).codes
    assert not torch.isclose(clean, noisy).all(dim=1).any()
    assert torch.equal(noisy, encoder(given, 0, Moment(0, 0, 0)).codes)


def test_the_order_of_modalities_changes_nothing() -> None:
    torch.manual_seed(0)
    turned = dict(reversed(FACTS.items()))
    other = Encoder(EncoderConfig(width=8), turned, GaussianNoiseConfig().build())
    assert other.modalities == make().modalities == ("text", "vision")


def test_two_stacked_projections_and_a_projected_row_add_their_weights() -> None:
    plain = sum(p.numel() for p in make().parameters())
    stacked = sum(p.numel() for p in make(projections={"vision": {"layers": 2}}).parameters())
    projected = sum(p.numel() for p in make(project_graph=True).parameters())
    assert stacked - plain == 8 * 8 + 8
    assert projected - plain == 8 * 8 + 8


def test_a_dropped_row_is_the_mean_row_for_all_that_training_sees_of_it() -> None:
    given = inputs(400)
    statistics = ColumnStatistics(torch.full((8,), 0.3), torch.ones(8))
    encoder = Encoder(
        EncoderConfig.model_validate({"width": 8, "row_dropout": 0.4, "fusion": {"kind": "concat"}}),
        FACTS,
        NoNoiseConfig().build(),
    )
    rows = given.rows.clone().requires_grad_(True)
    taken = EntityInputs(given.ids, rows, given.features, given.present, statistics)
    codes = encoder(taken, 0, Moment(0, 1, 7)).codes
    gradient = torch.autograd.grad(codes.square().sum(), rows)[0]
    dropped = gradient.abs().sum(dim=1) == 0
    assert 0.3 < dropped.double().mean() < 0.5
    mean = EntityInputs(given.ids, statistics.mean.expand(400, -1), given.features, given.present)
    torch.testing.assert_close(codes[dropped], encoder(mean, 0, None).codes[dropped])
    torch.testing.assert_close(codes[~dropped], encoder(given, 0, None).codes[~dropped])
    # Keyed by step and entity: the same for any worker, others at the next step, none in evaluation.
    again = encoder(EntityInputs(given.ids[5:], rows[5:], *_tail(given, 5), statistics), 0, Moment(0, 1, 7)).codes
    torch.testing.assert_close(again, codes[5:])
    assert not torch.equal(encoder(taken, 0, Moment(0, 1, 8)).codes, codes)
    torch.testing.assert_close(encoder(taken, 0, None).codes, encoder(given, 0, None).codes)


def _tail(given: EntityInputs, start: int) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    return {n: v[start:] for n, v in given.features.items()}, {n: v[start:] for n, v in given.present.items()}
