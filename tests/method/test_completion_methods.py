"""Methods of completion: what every one of them promises, picked up from the union."""

from typing import Any, get_args

import pytest
import torch

from snag_dist.method.adamf import AdamfConfig
from snag_dist.method.choices import CompletionMethod
from snag_dist.method.facts import GraphFacts
from snag_dist.model.encoder import ModalityFacts
from snag_dist.model.features import ColumnStatistics, EntityInputs
from snag_dist.random import Moment

CONFIGS: list[Any] = list(get_args(CompletionMethod))
FACTS = GraphFacts(8, 2, {"text": ModalityFacts(5, ColumnStatistics(torch.zeros(5), torch.ones(5)))})


def inputs() -> EntityInputs:
    draw = torch.Generator().manual_seed(1)
    statistics = ColumnStatistics(torch.zeros(256), torch.ones(256))
    features, present = {"text": torch.randn(8, 5, generator=draw)}, {"text": torch.ones(8, dtype=torch.bool)}
    return EntityInputs(torch.arange(8), torch.randn(8, 256, generator=draw), features, present, statistics)


@pytest.mark.parametrize("config", CONFIGS)
def test_every_method_of_completion_builds_the_same_task_from_a_seed(config: Any) -> None:
    first, again = (config().build_completion(FACTS, 0).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("config", CONFIGS)
def test_every_method_of_completion_can_be_noised_in_training_only(config: Any) -> None:
    noisy = config.model_validate({"noise": {"kind": "gaussian", "probability": 1.0}}).build_completion(FACTS, 0)
    plain = config.model_validate({"noise": {"kind": "none"}}).build_completion(FACTS, 0)
    moment = Moment(0, 0, 1)
    assert torch.equal(noisy.encode(inputs(), None).codes, plain.encode(inputs(), None).codes)
    assert not torch.isclose(noisy.encode(inputs(), moment).codes, plain.encode(inputs(), moment).codes).all(1).any()


def test_plain_adamf_has_no_second_player() -> None:
    assert AdamfConfig().build_adversary(FACTS, 0) is None
    assert AdamfConfig().encoder.fusion.kind == "attentive_sum"
