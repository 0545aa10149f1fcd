"""What a step holds no longer than it must: squares of gradients, graphs of losses, blocks in the midst of others."""

import pytest
import torch

from snag_dist.objective.losses import LossReport
from snag_dist.training.all_entities import OneTensor
from snag_dist.training.plan.live_bytes import LiveBytes
from snag_dist.training.step import sum_of_squares


@pytest.mark.parametrize("num", [0, 1, 1024, 5000])
def test_squares_are_summed_in_double_without_a_copy_of_all(num: int) -> None:
    values = torch.randn(num, 16) * 1e20
    with LiveBytes() as live:
        found = sum_of_squares(values)
    assert found.dtype == torch.float64
    assert float(found) == pytest.approx(float(values.double().square().sum()), rel=1e-12)
    # Of 1024 rows at most, in double, and their squares; and the sums.
    assert live.peak <= 2 * min(num, 1024) * 16 * 8 + 1024


def test_a_report_lets_go_of_what_it_was_made_of() -> None:
    weight = torch.ones(3, requires_grad=True)
    report = LossReport((weight * 2).sum(), {"term": torch.tensor(1.0)}).detach()
    assert report.loss.grad_fn is None and float(report.loss) == 6.0
    assert float(report.terms["term"]) == 1.0


def test_blocks_lie_in_one_tensor() -> None:
    rows = torch.randn(7, 4)
    whole = OneTensor(rows)
    placed = [whole.put(block, first) for block, first in zip(rows.split(3), (0, 3, 6), strict=True)]
    assert torch.equal(torch.cat(placed), rows)
    assert {block.untyped_storage().data_ptr() for block in placed} == {placed[0].untyped_storage().data_ptr()}
    assert placed[0].untyped_storage().data_ptr() != rows.untyped_storage().data_ptr()
