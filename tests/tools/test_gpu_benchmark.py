"""The benchmark of a GPU works: at small sizes it runs anywhere, and without a card it says so."""

import sys
from pathlib import Path

import pytest
import torch

from snag_dist.shard.group import Group

sys.path.insert(0, str(Path(__file__).parents[2] / "tools" / "bench"))

import gpu

SMALL = gpu.Sizes(
    width=16,
    queries=24,
    candidates=16,
    batches=(32, 64),
    pool=8,
    entities=200,
    channel_width=6,
    table_rows=(100, 300),
    ranked_entities=150,
    ranked_triples=20,
    warm=1,
    calls=3,
    rankings=2,
)


@pytest.mark.usefixtures("group")
def test_every_part_runs(group: Group) -> None:
    figures = gpu.measure_on(torch.device("cpu"), SMALL, seed=0)
    assert set(figures["kernels"]) == {"float32", "bfloat16"}
    assert figures["kernels"]["float32"]["ratio_to_eager"] > 0
    assert figures["kernels"]["float32"]["ours"]["calls"] == 3
    # What is not known says why.
    assert figures["kernels"]["float32"]["share_of_roofline"] == "not known: no GPU"
    assert set(figures["seconds_by_part"]) == {"kernels", "steps", "table", "ranking"}
    assert set(figures["steps"]) == {"B=32", "B=64"}
    for step in figures["steps"].values():
        assert step["triples_a_second"] > 0
        assert abs(sum(step["share_by_phase"].values()) - 1.0) < 0.01
    assert set(figures["table"]) == {"100 rows", "300 rows"}
    assert figures["ranking"]["queries"] == 40


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_card_it_says_so() -> None:
    with pytest.raises(SystemExit, match=r"gpu: expected a CUDA device, found none"):
        gpu.measure(Path(), 0)
