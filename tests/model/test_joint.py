"""Joint codes by hand."""

import pytest
import torch

from snag_dist.errors import ShapeError
from snag_dist.model.joint import GlobalMix, join_by_confidence

# Two entities, two tokens; the second entity lacks its second token.
TOKENS = torch.tensor([[[3.0, 4], [0, 2]], [[0, -5], [7, 7]]])
PRESENT = torch.tensor([[True, True], [True, False]])


def mix(combination: str = "concat") -> GlobalMix:
    module = GlobalMix(2, combination)  # type: ignore[arg-type]
    with torch.no_grad():
        # softmax: .75, .25.
        module.weight.copy_(torch.tensor([1.0986123, 0.0]))
    return module


def test_global_weights_by_hand() -> None:
    expected = torch.tensor([[0.45, 0.6, 0, 0.25], [0, -0.75, 0, 0]])
    torch.testing.assert_close(mix()(TOKENS, PRESENT), expected)


def test_the_mean_by_hand() -> None:
    torch.testing.assert_close(mix("mean")(TOKENS, PRESENT), torch.tensor([[0.225, 0.425], [0, -0.375]]))


def test_shares_of_present_tokens_add_up_to_one() -> None:
    torch.testing.assert_close(mix().shares(PRESENT), torch.tensor([[0.75, 0.25], [1, 0]]))


def test_confidence_by_hand() -> None:
    joined = join_by_confidence(TOKENS, torch.tensor([[0.2, 0.8], [1, 0]]))
    torch.testing.assert_close(joined, torch.tensor([[0.12, 0.16, 0, 0.8], [0, -1, 0, 0]]))


def test_confidence_of_another_shape_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"confidence: expected shape \(2, 2\)"):
        join_by_confidence(TOKENS, torch.ones(2, 3))
