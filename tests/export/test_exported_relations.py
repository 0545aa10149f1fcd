"""Relations under every scorer: the convention is told, and KoPA gets them as wide as entities or a reason."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from snag_dist.config import validate
from snag_dist.errors import ConfigError
from snag_dist.export.relations import describe_scorer, wide_relations
from snag_dist.export.source import RunSource
from snag_dist.method.facts import GraphFacts
from snag_dist.training.recipe import Recipe

pytestmark = pytest.mark.ray


def under(run: Path, scorer: dict[str, Any], **method: Any) -> RunSource:
    """The run as if it had been trained under another scorer, before its first step."""
    source = RunSource.open(run)
    tree = source.recipe.to_tree()
    tree["modalities"] = []
    tree["method"] = {**tree["method"], "scorer": scorer, **method}
    changed = dataclasses.replace(source, recipe=validate(Recipe, tree, "recipe"))
    facts = GraphFacts(source.store.num_entities, source.store.num_relations, {})
    return dataclasses.replace(changed, task=changed.method.build_completion(facts, 0))


@pytest.mark.parametrize("kind", ["rotate", "complex", "distmult", "transe"])
def test_relations_are_as_wide_as_entities(kind: str, run: Path) -> None:
    source = under(run, {"kind": kind})
    wide = wide_relations(source)
    assert wide.shape == (source.store.num_relations, 32)
    if kind != "rotate":
        assert torch.equal(wide, source.task.relations)
    described = describe_scorer(source)
    assert described["kind"] == kind
    assert described["reciprocal"] is False
    assert described["convention"].endswith("higher is more plausible")


def test_reciprocal_relations_are_told_and_left_out_of_the_wide_ones(run: Path) -> None:
    source = under(run, {"kind": "complex"}, reciprocal=True)
    num = source.store.num_relations
    assert len(source.task.relations) == 2 * num
    assert torch.equal(wide_relations(source), source.task.relations[:num])
    described = describe_scorer(source)
    assert described["reciprocal"] is True
    assert "heads are asked for as the tails of relation R + r" in described["convention"]


def test_rows_of_another_width_are_refused(run: Path) -> None:
    source = under(run, {"kind": "tucker", "relation_width": 8})
    with pytest.raises(
        ConfigError, match=r"--to kopa: expected relations as wide as entities \(32\), .* has 8 columns"
    ):
        wide_relations(source)
    assert "the core is scorer.core" in describe_scorer(source)["convention"]
