"""N3 by hand."""

import pytest
import torch

from snag_dist.objective.cubes import CubePenaltyConfig


def test_cubes_by_hand() -> None:
    # Two queries of two coordinates: 1 + 8 + 0 + 27 of the heads, 1 of the relations, 8 of the tails.
    moduli = torch.tensor([[1.0, 2.0], [0.0, 3.0]]), torch.tensor([[1.0, 0.0]] * 1), torch.tensor([[0.0, 2.0]])
    assert CubePenaltyConfig(weight=0.5).build()(moduli).item() == pytest.approx(0.5 * (36 + 1 + 8))


def test_gradient_is_three_times_the_square() -> None:
    moduli = torch.tensor([[1.0, 2.0]], requires_grad=True)
    CubePenaltyConfig(weight=0.1).build()([moduli]).backward()
    torch.testing.assert_close(moduli.grad, torch.tensor([[0.3, 1.2]]))
