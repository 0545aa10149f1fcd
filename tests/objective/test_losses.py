"""Hand numbers of the losses, and that slices of a batch add up."""

import pytest
import torch

from snag_dist.objective.losses import SelfAdversarialConfig

TRUE = torch.tensor([2.0, -1.0])
FALSE = torch.tensor([[1.0, -3.0], [0.5, 0.5]])
NONE = torch.zeros(2, 2, dtype=torch.bool)


@pytest.mark.parametrize(("temperature", "expected"), [(2.0, 0.93177617), (0.0, 0.77379781)])
def test_self_adversarial_hand_numbers(temperature: float, expected: float) -> None:
    # G2; the loss is a sum over queries, the published number a mean over two.
    loss = SelfAdversarialConfig(temperature=temperature).build()
    assert loss(TRUE, FALSE, NONE).loss.item() / 2 == pytest.approx(expected, abs=1e-6)


def test_easy_negatives_weigh_more_in_the_printed_reading() -> None:
    hard = SelfAdversarialConfig().build()(TRUE, FALSE, NONE).loss
    easy = SelfAdversarialConfig(weight_on="easy").build()(TRUE, FALSE, NONE).loss
    assert easy < hard


def test_excluded_candidates_do_not_count() -> None:
    loss = SelfAdversarialConfig().build()
    excluded = torch.tensor([[True, False], [False, False]])
    changed = FALSE.clone()
    changed[0, 0] = 100.0
    assert torch.equal(loss(TRUE, FALSE, excluded).loss, loss(TRUE, changed, excluded).loss)
    everything = loss(TRUE, FALSE, torch.ones(2, 2, dtype=torch.bool))
    assert everything.terms["negative"].item() == 0.0


def test_slices_add_up_to_the_batch() -> None:
    loss = SelfAdversarialConfig().build()
    whole = loss(TRUE, FALSE, NONE).loss
    parts = [loss(TRUE[i : i + 1], FALSE[i : i + 1], NONE[i : i + 1]).loss for i in range(2)]
    torch.testing.assert_close(whole, parts[0] + parts[1])


def test_no_gradient_flows_through_the_weights() -> None:
    false = FALSE.clone().requires_grad_()
    SelfAdversarialConfig().build()(TRUE, false, NONE).loss.backward()
    weights = torch.softmax(2.0 * FALSE, dim=1)
    torch.testing.assert_close(false.grad, 0.5 * weights * torch.sigmoid(FALSE))
