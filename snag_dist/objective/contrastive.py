"""Losses of alignment: linked entities must be nearer to one another than to the other entities of the batch.

Every loss takes a slice of the pairs against the codes of all pairs, and is scaled so that the slices of all workers
add up to the loss of the whole batch. Rows of logits are recomputed on the way back wherever they would be large; where
several losses look at the same cosines, `TokenPairs` lays them before one `Gram`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import checkpoint

from snag_dist.objective.gram import Contrast, Divergence, Gram
from snag_dist.shapes import match_shape

# Logits held at once: 2^20 float32 are 4 MiB.
_TILE_LOGITS = 1 << 20

WeightPlace = Literal["factor", "inside_log"]


@dataclass(frozen=True)
class PairCodes:
    """Codes of unit length of b pairs, a slice of the B pairs of the global batch; `take_slice` and `join_slices` make
    them.

    Attributes:
        left, right: (b, D) of the slice.
        all_left, all_right: (B, D) of the batch, with gradient; the slice is part of them.
        offset: position of the first pair of the slice in the batch.
        known_left, known_right: (B,) bool, which codes exist. A pair counts if both do, an entity is a negative if its
            own does; None means all.
    """

    left: Tensor
    right: Tensor
    all_left: Tensor
    all_right: Tensor
    offset: int
    known_left: Tensor | None = None
    known_right: Tensor | None = None

    def __post_init__(self) -> None:
        count, (total, width) = len(self.left), self.all_left.shape
        match_shape(self.left, "left codes of a slice", count, width)
        match_shape(self.right, "right codes of a slice", count, width)
        match_shape(self.all_right, "right codes of a batch", total, width)
        match_shape(self.all_left[self.offset : self.offset + count], "left codes of a batch", count, width)

    def turned(self) -> "PairCodes":
        """Return the same pairs with left and right exchanged."""
        return PairCodes(
            self.right, self.left, self.all_right, self.all_left, self.offset, self.known_right, self.known_left
        )

    def counted(self) -> Tensor:
        """(b,) bool: pairs of the slice of which both codes exist."""
        known, mine = self.known(), slice(self.offset, self.offset + len(self.left))
        if known is None:
            return torch.ones(len(self.left), dtype=torch.bool, device=self.left.device)
        return known.view(2, -1)[:, mine].all(dim=0)

    def known(self) -> Tensor | None:
        """(2B,) bool, `known_left` before `known_right`; None if all codes exist."""
        if self.known_left is None and self.known_right is None:
            return None
        every = torch.ones(len(self.all_left), dtype=torch.bool, device=self.left.device)
        return torch.cat([every if known is None else known for known in (self.known_left, self.known_right)])


@dataclass(frozen=True)
class TokenPairs:
    """Pairs in M modalities and in joint codes, for losses that look at the same cosines.

    Attributes:
        gram: of the B pairs; its spaces are the M modalities and joint codes that are no mix of them.
        known: (M, 2B) bool, which tokens exist, left before right; every entity has a joint code.
    """

    gram: Gram
    known: Tensor

    @property
    def num_pairs(self) -> int:
        """B."""
        return self.known.shape[1] // 2

    @property
    def num_joints(self) -> int:
        """How many joint codes there are."""
        return len(self.gram.spaces) + len(self.gram.weights) - len(self.known)

    def contrasts(self, temperature: float) -> list[Contrast]:
        """Of every modality."""
        return [Contrast(token, temperature, known) for token, known in enumerate(self.known)]

    def joint_contrasts(self, temperature: float) -> list[Contrast]:
        """Of every joint code."""
        return [Contrast(len(self.known) + index, temperature) for index in range(self.num_joints)]

    def counted(self, token: int) -> Tensor:
        """(b,) bool: pairs of the slice of which both tokens exist."""
        return self.known[token].view(2, -1)[:, self.gram.start : self.gram.stop].all(dim=0)


def take_slice(
    left: Tensor, right: Tensor, start: int, stop: int, known: tuple[Tensor, Tensor] | None = None
) -> PairCodes:
    """Pairs [start, stop) of a batch whose codes all lie here.

    Args:
        left, right: (B, D), of any length but 0.
        start, stop: the slice.
        known: (B,) bool of both sides.
    """
    left, right = functional.normalize(left, dim=1), functional.normalize(right, dim=1)
    return PairCodes(left[start:stop], right[start:stop], left, right, start, *(known or (None, None)))


def join_slices(
    left: Tensor,
    right: Tensor,
    all_left: Tensor,
    all_right: Tensor,
    offset: int,
    known: tuple[Tensor, Tensor] | None = None,
) -> PairCodes:
    """A worker's own pairs (b, D) beside those of all workers (B, D), gathered with gradient, as in `PairCodes`."""
    unit = [functional.normalize(codes, dim=1) for codes in (left, right, all_left, all_right)]
    return PairCodes(unit[0], unit[1], unit[2], unit[3], offset, *(known or (None, None)))


def contrastive_loss(
    pairs: PairCodes, temperature: float, weights: Tensor | None = None, place: WeightPlace = "factor"
) -> Tensor:
    """Bidirectional contrast within the batch (ICL): -log p of the true counterpart, where p is a softmax over the
    cosines with all entities of the other side and all others of the own side.

    Args:
        pairs: a slice.
        temperature: tau, divides the cosines.
        weights: (b,) phi of each pair.
        place: `factor` takes phi * -log p (released code), `inside_log` -log(phi * p) (as the paper prints it).

    Returns:
        Sum over the slice of the mean of both directions, divided by B.

    Source: MCLEA, eqs. (8)-(10); SNAG, eqs. (11)-(13).
    """
    (losses,) = _gram(pairs).losses([Contrast(0, temperature, pairs.known())])
    if weights is not None:
        losses = _weighted(losses, weights, place, pairs.counted())
    return losses.sum() / len(pairs.all_left)


def contrast_tokens(
    pairs: TokenPairs, temperature: float, weights: Tensor | None = None, place: WeightPlace = "factor"
) -> tuple[list[Tensor], list[Tensor]]:
    """`contrastive_loss` of every joint code and of every modality, from one set of cosines.

    Args:
        pairs: a slice; `temperature` is tau of all, `place` as in `contrastive_loss`.
        weights: (b, M) phi of each pair in each modality.

    Returns:
        Losses of the joint codes, and of the M modalities.
    """
    found = pairs.gram.losses([*pairs.joint_contrasts(temperature), *pairs.contrasts(temperature)])
    joint, each = found[: pairs.num_joints], found[pairs.num_joints :]
    if weights is not None:
        match_shape(weights, "weights of pairs in modalities", pairs.gram.stop - pairs.gram.start, len(each))
        each = [_weighted(losses, weights[:, token], place, pairs.counted(token)) for token, losses in enumerate(each)]
    return [losses.sum() / pairs.num_pairs for losses in joint], [losses.sum() / pairs.num_pairs for losses in each]


def _weighted(losses: Tensor, weights: Tensor, place: WeightPlace, counted: Tensor) -> Tensor:
    match_shape(weights, "weights of pairs", len(losses))
    if place == "factor":
        return losses * weights
    return losses - torch.log(weights.clamp_min(torch.finfo(losses.dtype).tiny)).masked_fill(~counted, 0.0)


def pair_confidence(left: Tensor, right: Tensor, num_tokens: int) -> Tensor:
    """Weight phi of each pair in a modality: M times the lower confidence of both entities, (b,) from (b,) each.

    Source: SNAG, explicit confidence-augmented intra-modal alignment (ECIA).
    """
    return num_tokens * torch.minimum(left, right)


def neighbourhood_loss(pairs: PairCodes, alpha: float, beta: float) -> Tensor:
    """Neighbourhood component analysis with limited emphasis (NCA).

    1/B sum_i [log(1 + sum_{j != i} e^{alpha S_ij}) / alpha + the same over S_ji - beta log(1 + relu(S_ii))], S cosines.

    Source: EVA, its loss by neighbourhood component analysis; Liu et al., "HAL" (AAAI 2020).
    """
    rows = _crowding(pairs, alpha) + _crowding(pairs.turned(), alpha)
    match = torch.relu((pairs.left * pairs.right).sum(dim=1))
    losses = rows / alpha - beta * torch.log1p(match)
    return losses.masked_fill(~pairs.counted(), 0.0).sum() / len(pairs.all_left)


def divergence_loss(student: PairCodes, teacher: PairCodes, temperature: float, zoom: float) -> Tensor:
    """Draw the neighbourhoods in one modality towards those of the joint codes (IAL).

    Args:
        student: pairs in one modality; p, softmax as in `contrastive_loss`.
        teacher: the same pairs in joint codes, of any width; q, without gradient.
        temperature: tau, of both.
        zoom: factor on the loss.

    Returns:
        zoom times the mean of KL(q || p) over both directions, divided by the 2 B entries of a row, as released.

    Source: MCLEA, eqs. (11)-(12).
    """
    own, given = _gram(student), _gram(teacher)
    both = Gram((*own.spaces, *(codes.detach() for codes in given.spaces)), (), own.start, own.stop)
    (losses,) = both.losses([Divergence(0, 1, temperature, student.known())])
    return _drawn(losses, zoom, len(student.all_left))


def draw_tokens(
    pairs: TokenPairs, temperature: float, teacher_temperature: float, zoom: float
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """`contrastive_loss` of the joint code and of every modality, and `divergence_loss` of each from the joint code.

    Args:
        pairs: a slice, with one joint code; `temperature` is tau of the contrasts, the rest of the divergences.

    Returns:
        Loss of the joint code, contrasts of the M modalities, divergences of the M modalities.
    """
    num_tokens, total = len(pairs.known), pairs.num_pairs
    drawn = [Divergence(token, num_tokens, teacher_temperature, known) for token, known in enumerate(pairs.known)]
    found = pairs.gram.losses([*pairs.joint_contrasts(temperature), *pairs.contrasts(temperature), *drawn])
    joint, *each = [losses.sum() / total for losses in found[: 1 + num_tokens]]
    return joint, each, [_drawn(losses, zoom, total) for losses in found[1 + num_tokens :]]


def _drawn(losses: Tensor, zoom: float, num_pairs: int) -> Tensor:
    return zoom * losses.sum() / (2 * num_pairs * num_pairs)


class UncertaintyWeights(nn.Module):
    """Learned weights of several losses: sum_m exp(-s_m) L_m + s_m.

    Attributes:
        lr_scale: factor on the learning rate of the s_m.

    Source: Kendall et al., "Multi-Task Learning Using Uncertainty" (CVPR 2018), as in MCLEA's and SNAG's code.
    """

    def __init__(self, num_losses: int, lr_scale: float = 1.0):
        """Start with all s_m at 0: a plain sum."""
        super().__init__()
        self.lr_scale = lr_scale
        self.log_variances = nn.Parameter(torch.zeros(num_losses))

    def forward(self, losses: Sequence[Tensor], share: float) -> Tensor:
        """Weigh losses of a slice; `share`, its part of the batch, makes the s_m of all slices add up to one."""
        stacked = torch.stack(list(losses))
        match_shape(stacked, "losses under uncertainty weights", len(self.log_variances))
        return (torch.exp(-self.log_variances) * stacked + share * self.log_variances).sum()


def _crowding(pairs: PairCodes, alpha: float) -> Tensor:
    # (b,) log(1 + sum over the other right entities of e^{alpha cosine}).
    def rows_of(first: int, stop: int) -> Tensor:
        logits = alpha * (pairs.left[first:stop] @ pairs.all_right.T)
        least = torch.finfo(logits.dtype).min
        if pairs.known_right is not None:
            # masked_fill of a tile costs as much as the product, on a CPU.
            logits = logits + logits.new_zeros(logits.shape[1]).masked_fill(~pairs.known_right, least)
        logits.diagonal(pairs.offset + first).fill_(least)
        return functional.softplus(torch.logsumexp(logits, dim=1))

    return _by_rows(rows_of, len(pairs.left), len(pairs.all_left))


def _by_rows(function: Callable[[int, int], Tensor], num_rows: int, num_columns: int) -> Tensor:
    # A few rows of logits at a time; what lies in between is computed anew on the way back.
    step = max(1, _TILE_LOGITS // num_columns)
    if step >= num_rows:
        return function(0, num_rows)
    again = cast(Any, checkpoint).checkpoint
    parts = [
        again(function, first, min(first + step, num_rows), use_reentrant=False, preserve_rng_state=False)
        for first in range(0, num_rows, step)
    ]
    return torch.cat(cast("list[Tensor]", parts))


def _gram(pairs: PairCodes) -> Gram:
    start, stop = pairs.offset, pairs.offset + len(pairs.left)
    sides = ((pairs.left, pairs.all_left), (pairs.right, pairs.all_right))
    codes = torch.cat([part for own, everyone in sides for part in (everyone[:start], own, everyone[stop:])])
    return Gram((codes,), (), start, stop)
