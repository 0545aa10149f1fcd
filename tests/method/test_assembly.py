"""Recipes laid over a method's own defaults: one field given leaves the others."""

from typing import Any

from pydantic import TypeAdapter

from snag_dist.method.adamf import AdamfConfig
from snag_dist.method.assembly import ALIGNMENT_ATTENTION, ALIGNMENT_GMNM, AlignmentNoise
from snag_dist.method.eva import EvaConfig
from snag_dist.method.meaformer import MeaformerConfig
from snag_dist.method.snag_alignment import SnagAlignmentConfig
from snag_dist.model.noise import NoNoiseConfig

NOISES: Any = TypeAdapter(AlignmentNoise)


def test_the_graph_gets_half_of_the_noise_unless_a_recipe_says_otherwise() -> None:
    assert NOISES.validate_python({"kind": "gaussian"}) == ALIGNMENT_GMNM
    assert NOISES.validate_python({"probability": 0.8, "ratio": 0.2}).graph_scale == 0.5
    assert NOISES.validate_python({"kind": "gaussian", "graph_scale": 1.0}).graph_scale == 1.0
    assert NOISES.validate_python({"kind": "none"}) == NoNoiseConfig()


def test_one_field_of_the_attention_leaves_its_ffn() -> None:
    for config in (SnagAlignmentConfig, MeaformerConfig):
        attention = config.model_validate({"attention": {"dropout": 0.3}}).attention
        assert attention == ALIGNMENT_ATTENTION.model_copy(update={"dropout": 0.3})


def test_one_field_of_the_encoder_leaves_what_makes_the_method() -> None:
    assert EvaConfig.model_validate({"encoder": {"width": 50}}).encoder.structure.kind == "gcn"
    deeper = EvaConfig.model_validate({"encoder": {"structure": {"num_layers": 3}}}).encoder.structure
    assert (deeper.kind, deeper.num_layers) == ("gcn", 3)
    assert AdamfConfig.model_validate({"encoder": {"width": 50}}).encoder.fusion.kind == "attentive_sum"


def test_another_kind_is_taken_as_it_is() -> None:
    assert EvaConfig.model_validate({"encoder": {"structure": {"kind": "gat"}}}).encoder.structure.kind == "gat"
    assert AdamfConfig.model_validate({"encoder": {"fusion": {"kind": "graph"}}}).encoder.fusion.kind == "graph"


def test_a_config_survives_the_way_to_the_workers() -> None:
    for config in (SnagAlignmentConfig(), EvaConfig(), AdamfConfig()):
        assert type(config).model_validate(config.model_dump(mode="json")) == config
