"""Hand numbers of the losses of alignment, and that slices of a batch add up in value and gradient."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from snag_dist.errors import ShapeError
from snag_dist.objective import contrastive, gram
from snag_dist.objective.contrastive import (
    PairCodes,
    UncertaintyWeights,
    contrastive_loss,
    divergence_loss,
    join_slices,
    neighbourhood_loss,
    pair_confidence,
    take_slice,
)

# G6: pairs (0, 2) and (1, 3) of these rows.
ROWS = torch.tensor([[1.0, 0], [0, 1], [0.8, 0.6], [0.6, -0.8]])
TARGETS = torch.tensor([[1.0, 0.2], [0.1, 1], [0.9, 0.1], [0.2, -0.7]])


def whole(rows: Tensor) -> PairCodes:
    return take_slice(rows[:2], rows[2:], 0, 2)


@pytest.mark.parametrize(("temperature", "expected"), [(0.1, 7.0648499), (1.0, 1.4020786)])
def test_contrast_golden_numbers(temperature: float, expected: float) -> None:
    assert contrastive_loss(whole(ROWS), temperature).item() == pytest.approx(expected, rel=1e-6)
    # Codes need not have unit length.
    assert contrastive_loss(whole(3.0 * ROWS), temperature).item() == pytest.approx(expected, rel=1e-6)


def test_weighted_contrast_golden_number() -> None:
    # G6: weights 1.2, .8, .9, 1.1 of the four entities; as confidences of M = 2 tokens they are half of that.
    confidence = torch.tensor([0.6, 0.4, 0.45, 0.55])
    weights = pair_confidence(confidence[:2], confidence[2:], 2)
    torch.testing.assert_close(weights, torch.tensor([0.9, 0.8]))
    assert contrastive_loss(whole(ROWS), 0.1, weights).item() == pytest.approx(5.6582413, rel=1e-6)


def test_weights_inside_the_logarithm_leave_the_gradient_of_the_codes() -> None:
    weights, grads = torch.tensor([0.9, 0.8]), []
    plain = contrastive_loss(whole(ROWS), 0.1).item()
    inside = contrastive_loss(whole(ROWS), 0.1, weights, "inside_log").item()
    # -log(.9 p) - log(.8 p) over two pairs: the plain loss plus (.105361 + .223144) / 2.
    assert inside - plain == pytest.approx(0.1642523, abs=1e-5)
    for place in (None, weights):
        rows = ROWS.clone().requires_grad_()
        contrastive_loss(whole(rows), 0.1, place, "inside_log").backward()
        grads.append(rows.grad)
    assert torch.equal(grads[0], grads[1])


@pytest.mark.parametrize(("alpha", "expected"), [(15.0, -1.7389169), (5.0, -1.7194985)])
def test_neighbourhood_golden_numbers(alpha: float, expected: float) -> None:
    assert neighbourhood_loss(whole(ROWS), alpha, 10.0).item() == pytest.approx(expected, rel=1e-6)


def test_divergence_golden_number() -> None:
    targets = TARGETS.clone().requires_grad_()
    rows = ROWS.clone().requires_grad_()
    loss = divergence_loss(whole(rows), whole(targets), 4.0, 0.1)
    assert loss.item() == pytest.approx(7.2242e-5, rel=1e-3)
    loss.backward()
    assert rows.grad is not None
    assert targets.grad is None


def test_uncertainty_golden_number_and_slices() -> None:
    layer = UncertaintyWeights(6)
    losses = [torch.tensor(value) for value in (1.0, 2.0, 3.0, 4.0, 0.0, 0.0)]
    assert layer(losses, 1.0).item() == 10.0
    with torch.no_grad():
        layer.log_variances.copy_(torch.tensor([0, 0.1, 0.2, -0.1, 0, 0]))
    assert layer(losses, 1.0).item() == pytest.approx(9.8865509, rel=1e-6)
    parts = [layer([loss * share for loss in losses], share).item() for share in (0.25, 0.75)]
    assert sum(parts) == pytest.approx(9.8865509, rel=1e-6)


def contrast(pairs: PairCodes, other: PairCodes) -> Tensor:
    return contrastive_loss(pairs, 0.3, torch.linspace(0.5, 1.5, 7, dtype=torch.float64)[_mine(pairs)])


def _mine(pairs: PairCodes) -> slice:
    return slice(pairs.offset, pairs.offset + len(pairs.left))


LOSSES: dict[str, Callable[[PairCodes, PairCodes], Tensor]] = {
    "contrast": contrast,
    "neighbourhood": lambda pairs, other: neighbourhood_loss(pairs, 5.0, 10.0),
    "divergence": lambda pairs, other: divergence_loss(pairs, other, 2.0, 1.0),
}


@pytest.mark.parametrize("name", LOSSES)
class TestEveryLoss:
    def codes(self, width: int, seed: int) -> tuple[Tensor, Tensor]:
        drawn = torch.randn(2, 7, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        return drawn[0].requires_grad_(), drawn[1].requires_grad_()

    def pairs(self, left: Tensor, right: Tensor, start: int, stop: int) -> PairCodes:
        known = torch.tensor([True, True, False, True, True, True, True])
        return take_slice(left, right, start, stop, (known, known.roll(2)))

    def test_gradients_are_right(self, name: str) -> None:
        other = take_slice(*self.codes(2, 1), 1, 5)
        assert torch.autograd.gradcheck(
            lambda left, right: LOSSES[name](self.pairs(left, right, 1, 5), other), self.codes(3, 0)
        )

    def test_slices_add_up_in_value_and_gradient(self, name: str) -> None:
        totals, grads = [], []
        for cuts in ((0, 7), (0, 3, 3, 4, 7)):
            left, right = self.codes(3, 0)
            parts = [
                LOSSES[name](self.pairs(left, right, start, stop), take_slice(*self.codes(2, 1), start, stop))
                for start, stop in pairwise(cuts)
            ]
            total = torch.stack(parts).sum()
            total.backward()
            totals.append(total)
            grads.append(torch.stack([left.grad, right.grad]))
        torch.testing.assert_close(totals[0], totals[1])
        torch.testing.assert_close(grads[0], grads[1])

    def test_absent_codes_do_not_matter(self, name: str) -> None:
        left, right = self.codes(3, 0)
        other = take_slice(*self.codes(2, 1), 0, 7)
        changed = left.detach().clone()
        changed[2] = torch.tensor([50.0, -3.0, 1.0])
        before = LOSSES[name](self.pairs(left, right, 0, 7), other)
        assert torch.equal(before, LOSSES[name](self.pairs(changed, right, 0, 7), other))
        before.backward()
        assert torch.equal(left.grad[2], torch.zeros(3))
        assert torch.isfinite(left.grad).all()

    def test_a_few_rows_at_a_time_give_the_same(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        found = []
        for tile, kept in ((1 << 20, 1 << 24), (30, 0), (45, 1 << 24)):
            monkeypatch.setattr(contrastive, "_TILE_LOGITS", tile)
            monkeypatch.setattr(gram, "_TILE_COSINES", tile)
            monkeypatch.setattr(gram, "_KEPT_COSINES", kept)
            left, right = self.codes(3, 0)
            loss = LOSSES[name](self.pairs(left, right, 0, 7), take_slice(*self.codes(2, 1), 0, 7))
            loss.backward()
            found.append(torch.cat([loss.detach().reshape(1), left.grad.flatten(), right.grad.flatten()]))
        torch.testing.assert_close(found[0], found[1])
        torch.testing.assert_close(found[0], found[2])


def test_gathered_codes_give_the_gradient_of_the_whole_batch() -> None:
    # Two workers with gathered copies: what their backward passes send to a row adds up to one worker's gradient.
    found = []
    for cuts in ((0, 4), (0, 1, 4)):
        codes = torch.randn(2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
        for start, stop in pairwise(cuts):
            own = codes[:, start:stop]
            contrastive_loss(join_slices(own[0], own[1], codes[0], codes[1], start), 0.2).backward(retain_graph=True)
        found.append(codes.grad)
    torch.testing.assert_close(found[0], found[1])


def test_large_batches_keep_no_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gram, "_TILE_COSINES", 1 << 10)
    monkeypatch.setattr(gram, "_KEPT_COSINES", 400 * 400 - 1)
    codes, sizes = torch.randn(2, 200, 4, requires_grad=True), [0]

    def note(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = contrastive_loss(take_slice(codes[0], codes[1], 0, 200), 0.1)
    assert max(sizes) <= 200 * 8
    loss.backward()
    assert codes.grad is not None


def test_a_slice_that_does_not_lie_in_its_batch_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"left codes of a batch: expected shape \(2, 2\)"):
        PairCodes(ROWS[:2], ROWS[2:], ROWS[:2], ROWS[2:], 1)
    with pytest.raises(ShapeError, match=r"weights of pairs: expected shape \(2,\)"):
        contrastive_loss(whole(ROWS), 0.1, torch.ones(3))
