"""Losses that share cosines equal those of codes laid side by side, in value and gradient."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from snag_dist.errors import ShapeError
from snag_dist.objective import gram
from snag_dist.objective.gram import Contrast, Divergence, Gram

PAIRS, TOKENS, WIDTH = 7, 3, 4
ABSENT = ((0, 2), (3, 1), (9, 2), (12, 0))


def draw() -> tuple[Tensor, Tensor, Tensor]:
    """Tokens (2B, M, D), weights (2B, M) with gradient, and which tokens exist."""
    source = torch.Generator().manual_seed(4)
    tokens = torch.randn(2 * PAIRS, TOKENS, WIDTH, dtype=torch.float64, generator=source)
    weights = torch.rand(2 * PAIRS, TOKENS, dtype=torch.float64, generator=source)
    known = torch.ones(2 * PAIRS, TOKENS, dtype=torch.bool)
    for entity, token in ABSENT:
        known[entity, token], weights[entity, token] = False, 0.0
    return tokens.requires_grad_(), weights.requires_grad_(), known


def shared(tokens: Tensor, weights: Tensor, known: Tensor, start: int, stop: int) -> list[Tensor]:
    """Losses (b,): two mixes, the tokens, and the tokens against the first mix."""
    spaces = functional.normalize(tokens, dim=-1).unbind(1)
    terms: list[Contrast | Divergence] = [Contrast(TOKENS, 0.2), Contrast(TOKENS + 1, 0.3)]
    terms += [Contrast(token, 0.2, known[:, token]) for token in range(TOKENS)]
    terms += [Divergence(token, TOKENS, 0.5, known[:, token]) for token in range(TOKENS)]
    return Gram(spaces, (weights, weights.square()), start, stop).losses(terms)


def laid_out(tokens: Tensor, weights: Tensor, known: Tensor) -> list[Tensor]:
    """The same from whole matrices and nothing but torch."""
    unit = functional.normalize(tokens, dim=-1)
    others = ~torch.eye(2 * PAIRS, dtype=torch.bool)
    joint = [
        functional.normalize((unit * each.unsqueeze(-1)).flatten(1), dim=1) for each in (weights, weights.square())
    ]

    def log_softmax(codes: Tensor, temperature: float, columns: Tensor) -> Tensor:
        return torch.log_softmax((codes @ codes.T / temperature).masked_fill(~(others & columns), -1e300), dim=1)

    def contrast(codes: Tensor, temperature: float, there: Tensor) -> Tensor:
        losses = -log_softmax(codes, temperature, there).roll(PAIRS, 1).diagonal().view(2, PAIRS).mean(dim=0)
        return losses.masked_fill(~there.view(2, PAIRS).all(dim=0), 0.0)

    def diverge(codes: Tensor, there: Tensor) -> Tensor:
        log_p, log_q = log_softmax(codes, 0.5, there), log_softmax(joint[0].detach(), 0.5, there)
        losses = (log_q.exp() * (log_q - log_p)).sum(dim=1).view(2, PAIRS).mean(dim=0)
        return losses.masked_fill(~there.view(2, PAIRS).all(dim=0), 0.0)

    every = torch.ones(2 * PAIRS, dtype=torch.bool)
    found = [contrast(joint[0], 0.2, every), contrast(joint[1], 0.3, every)]
    found += [contrast(unit[:, token], 0.2, known[:, token]) for token in range(TOKENS)]
    return found + [diverge(unit[:, token], known[:, token]) for token in range(TOKENS)]


def compare(found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    torch.testing.assert_close(list(found), list(expected), rtol=1e-10, atol=1e-12)


@pytest.fixture(params=[(64, 1 << 24), (64, 0), (3, 1 << 24), (2, 0)], ids=["kept", "anew", "kept_tiles", "tiles_anew"])
def tiled(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, kept = request.param
    monkeypatch.setattr(gram, "_TILE_COSINES", rows * 2 * PAIRS)
    monkeypatch.setattr(gram, "_KEPT_COSINES", kept)


@pytest.mark.usefixtures("tiled")
@pytest.mark.parametrize("cuts", [(0, 7), (0, 3, 3, 7)])
def test_values_and_gradients_of_joint_codes_laid_side_by_side(cuts: tuple[int, ...]) -> None:
    factors = torch.rand(2 + 2 * TOKENS, PAIRS, dtype=torch.float64, generator=torch.Generator().manual_seed(8))
    tokens, weights, known = draw()
    parts = [shared(tokens, weights, known, *span) for span in pairwise(cuts)]
    found = torch.stack([torch.cat(losses) for losses in zip(*parts, strict=True)])
    expected = torch.stack(laid_out(tokens, weights, known))
    compare([found], [expected])
    grads = [torch.autograd.grad((losses * factors).sum(), [tokens, weights]) for losses in (found, expected)]
    compare(grads[0], grads[1])


@pytest.mark.usefixtures("tiled")
@pytest.mark.parametrize("span", [(0, 7), (2, 5)])
def test_gradients_are_right(span: tuple[int, int]) -> None:
    tokens, weights, known = draw()

    def of(tokens: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
        # Without the divergences, whose teacher has no gradient on purpose.
        return tuple(shared(tokens, weights, known, *span)[: 2 + TOKENS])

    assert torch.autograd.gradcheck(of, (tokens, weights))


def test_a_token_of_zeros_has_no_part_in_the_length_of_its_joint_code() -> None:
    tokens, weights, known = draw()
    with torch.no_grad():
        tokens[5, 1] = 0.0
    compare(shared(tokens, weights, known, 0, PAIRS)[:2], laid_out(tokens, weights, known)[:2])


@pytest.mark.parametrize("temperature", [gram.MIN_TEMPERATURE, 0.01])
def test_sharp_contrasts_stay_finite_in_float32(temperature: float) -> None:
    # Counterparts lie opposite, strangers at right angles: of 2 / temperature, float32 could hold no exponential.
    left, right = torch.eye(3)[:2], -torch.eye(3)[:2]
    codes = torch.cat([left, right]).requires_grad_()
    (losses,) = Gram((codes,), (), 0, 2).losses([Contrast(0, temperature)])
    expected = 1 / temperature + torch.log(torch.tensor(2.0))
    torch.testing.assert_close(losses, expected.expand(2))
    losses.sum().backward()
    assert codes.grad is not None
    assert codes.grad.abs().max() == pytest.approx(1 / temperature, rel=1e-5)


def test_large_batches_keep_neither_cosines_nor_mixes(monkeypatch: pytest.MonkeyPatch) -> None:
    source = torch.Generator().manual_seed(0)
    tokens = torch.randn(200, 2, 4, generator=source).requires_grad_()
    weights, sizes = torch.rand(200, 2, generator=source), []

    def note(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    def largest(budget: int) -> int:
        sizes.clear()
        monkeypatch.setattr(gram, "_KEPT_COSINES", budget)
        spaces = functional.normalize(tokens, dim=-1).unbind(1)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            Gram(spaces, (weights,), 0, 100).losses([Contrast(2, 0.1)])
        return sum(sizes)

    assert largest(3 * 200 * 200) > 3 * 200 * 200 > 20_000 > largest(3 * 200 * 200 - 1)


def test_weights_of_another_shape_are_refused() -> None:
    codes = functional.normalize(torch.ones(4, 3), dim=1)
    with pytest.raises(ShapeError, match=r"weights of a joint code: expected shape \(4, 1\)"):
        Gram((codes,), (torch.ones(3, 1),), 0, 2).losses([Contrast(1, 0.1)])
