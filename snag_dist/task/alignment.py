"""Multi-modal entity alignment (MMEA): linked entities of two graphs must lie nearer to one another than to others.

The task is split where the network of workers lies. At the owners: `begin`, the layers of the structure encoder with
the codes of neighbours fetched in between, and `encode`. At the worker that has the pairs: `loss`. What travels is one
tensor, `EntityViews.pack`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from snag_dist.errors import ShapeError
from snag_dist.model.aggregation import Edges
from snag_dist.model.features import EntityInputs
from snag_dist.model.views import EntityViews, ViewsEncoder, unpack
from snag_dist.objective.contrastive import PairCodes, TokenPairs, UncertaintyWeights, take_slice
from snag_dist.objective.gram import Gram
from snag_dist.objective.losses import LossReport
from snag_dist.random import Moment


@dataclass(frozen=True)
class AlignmentBatch:
    """All B pairs of a global batch, and which of them are this worker's own.

    Every worker needs the codes of all pairs, since they are each other's negatives, and sums the loss of its own.

    Attributes:
        entities: (N,) distinct row ids of both graphs, ascending.
        left, right: (B,) positions in `entities`.
        start, stop: the own pairs.
    """

    entities: Tensor
    left: Tensor
    right: Tensor
    start: int
    stop: int

    def to(self, device: torch.device) -> "AlignmentBatch":
        """Return the batch on a device; `entities` stays, since the exchange routes it from the host."""
        left, right = self.left.to(device, non_blocking=True), self.right.to(device, non_blocking=True)
        return AlignmentBatch(self.entities, left, right, self.start, self.stop)


def assemble_pairs(pairs: NDArray[np.int64], start: int, stop: int) -> AlignmentBatch:
    """Name the distinct entities of a global batch of pairs and point at them.

    Args:
        pairs: (B, 2) row ids, left and right.
        start, stop: this worker's slice of them, which may be empty.

    Raises:
        ShapeError: the slice does not lie in the batch, or there are no pairs.
    """
    if not 0 <= start <= stop <= len(pairs) or len(pairs) == 0:
        raise ShapeError(
            f"slice of pairs: expected it inside a batch that is not empty, [0, {len(pairs)}), got [{start}, {stop}); "
            "cut the batch by its own length"
        )
    entities, positions = np.unique(pairs.T.reshape(-1), return_inverse=True)
    left, right = torch.as_tensor(positions).split_with_sizes([len(pairs), len(pairs)])
    return AlignmentBatch(torch.as_tensor(entities), left, right, start, stop)


class AlignmentObjective(nn.Module, ABC):
    """What a method minimises, and the joint code it is evaluated by."""

    @abstractmethod
    def joint(self, views: EntityViews) -> Tensor:
        """Codes (N, P) by which entities are compared, with cosine, in evaluation and in mining."""

    def weights(self, views: EntityViews) -> Tensor:
        """What each token weighs in an entity, (N, M), for reports: its own confidence, where a method has one."""
        return views.confidence

    @abstractmethod
    def forward(self, left: EntityViews, right: EntityViews, start: int, stop: int) -> LossReport:
        """Cost of a slice of a batch.

        Args:
            left, right: views of all B pairs of the batch.
            start, stop: the slice.

        Returns:
            The loss of the slice; slices add up to the loss of the batch.
        """


def joint_pairs(
    join: Callable[[EntityViews], Tensor], left: EntityViews, right: EntityViews, start: int, stop: int
) -> PairCodes:
    """A slice of pairs in joint codes, which every entity has."""
    return take_slice(join(left), join(right), start, stop)


def modality_pairs(
    left: EntityViews, right: EntityViews, start: int, stop: int, *, outputs: bool = False
) -> list[PairCodes]:
    """A slice of pairs in each of the M modalities, before (or after) attention; absent ones do not count."""
    of_left, of_right = (left.outputs, right.outputs) if outputs else (left.tokens, right.tokens)
    return [
        take_slice(
            of_left[:, token], of_right[:, token], start, stop, (left.present[:, token], right.present[:, token])
        )
        for token in range(of_left.shape[1])
    ]


def token_pairs(
    left: EntityViews,
    right: EntityViews,
    start: int,
    stop: int,
    *,
    outputs: bool = False,
    weights: Sequence[Callable[[EntityViews], Tensor]] = (),
    joint: Callable[[EntityViews], Tensor] | None = None,
) -> TokenPairs:
    """A slice of pairs in all modalities at once, as in `modality_pairs`, and in joint codes.

    Args:
        left, right, start, stop: as in `AlignmentObjective.forward`.
        outputs: after attention rather than before.
        weights: of the tokens, (N, M), in joint codes that lay them side by side, as `join_by_confidence` does.
        joint: makes codes (N, P) that are joined in another way.
    """

    def of_both(view: Callable[[EntityViews], Tensor]) -> Tensor:
        return torch.cat([view(left), view(right)])

    tokens = functional.normalize(of_both(lambda views: views.outputs if outputs else views.tokens), dim=-1)
    spaces = [*tokens.unbind(1)] if joint is None else [*tokens.unbind(1), functional.normalize(of_both(joint), dim=1)]
    gram = Gram(tuple(spaces), tuple(of_both(weigh) for weigh in weights), start, stop)
    return TokenPairs(gram, of_both(lambda views: views.present).T)


class AlignmentTask(nn.Module):
    """Encoder and objective of MMEA. The entity rows live outside, in the sharded table.

    Attributes:
        row_std: standard deviation of the normal distribution the rows start from.
    """

    def __init__(self, encoder: ViewsEncoder, objective: AlignmentObjective, row_std: float, seed: int):
        super().__init__()
        self.encoder = encoder
        self.objective = objective
        self.row_std = row_std
        self._seed = seed

    @property
    def num_layers(self) -> int:
        """Layers of the structure encoder; before each, the codes of neighbours must be at hand."""
        return self.encoder.structure.num_layers

    def begin(self, inputs: EntityInputs, moment: Moment | None) -> Tensor:
        """Rows (N, D) that enter the first layer; `moment` None means evaluation, without noise and dropout."""
        return self.encoder.noised_rows(inputs, moment)

    def layer(self, index: int, sources: Tensor, targets: Tensor, edges: Edges) -> Tensor:
        """Codes (N, D) of the targets after layer `index`; see `StructureEncoder.layer`."""
        return self.encoder.structure.layer(index, sources, targets, edges)

    def encode(self, graph: Tensor, inputs: EntityInputs, moment: Moment | None) -> EntityViews:
        """Views of entities from their graph codes (N, D), at their owner."""
        views: EntityViews = self.encoder(graph, inputs, self._seed, moment)
        return views

    def encode_graph(self, inputs: EntityInputs, edges: Edges, moment: Moment | None) -> EntityViews:
        """Views of all N entities of a graph that lies in one place."""
        return self.encoder.encode_graph(inputs, edges, self._seed, moment)

    def codes(self, views: EntityViews) -> Tensor:
        """Joint codes (N, P) for evaluation and mining; compare them with cosine."""
        return self.objective.joint(views)

    def weights(self, views: EntityViews) -> Tensor:
        """See `AlignmentObjective.weights`."""
        return self.objective.weights(views)

    def lr_scale(self, name: str) -> float:
        """Factor on the learning rate of a parameter, by its name: uncertainty weights have one of their own."""
        owner = self.get_submodule(name.rpartition(".")[0])
        return owner.lr_scale if isinstance(owner, UncertaintyWeights) else 1.0

    def loss(self, packed: Tensor, batch: AlignmentBatch) -> LossReport:
        """Cost of a slice, scaled so that the slices of all workers add up to the loss of the global batch.

        Args:
            packed: (N, P) views of `batch.entities`, as `EntityViews.pack` lays them.
            batch: with indices on the device of `packed`.
        """
        views = unpack(packed, self.encoder.num_tokens, self.encoder.width)
        left, right = views.select(batch.left), views.select(batch.right)
        report: LossReport = self.objective(left, right, batch.start, batch.stop)
        # An empty slice still takes part in the backward exchange.
        return LossReport(report.loss + packed.sum() * 0.0, report.terms)
