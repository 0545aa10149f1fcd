"""Structure encoders: codes of entities from the codes of their neighbours, edge by edge.

A layer takes the codes of its sources, the codes of its targets and the edges between them. So the same layer runs on
the whole graph (sources are targets), on a sampled block, and at the owner of some rows with the codes of neighbours
fetched from other owners. Nothing of size N x N or edges x D is kept (`aggregation`).
"""

import math
from abc import ABC, abstractmethod
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from snag_dist.config import Config, default_kind
from snag_dist.errors import ShapeError
from snag_dist.model.aggregation import Edges, aggregate, attend
from snag_dist.shapes import match_shape


class StructureEncoder(nn.Module, ABC):
    """Stacked layers of message passing.

    Attributes:
        num_layers: how many; a caller that fetches codes between layers runs them one by one.
    """

    num_layers: int

    @abstractmethod
    def layer(self, index: int, sources: Tensor, targets: Tensor, edges: Edges) -> Tensor:
        """Run one layer, its activation included.

        Args:
            index: of the layer, from 0.
            sources: (S, D) codes the edges come from.
            targets: (N, D) codes of the entities to be encoded; N and S as `edges` says.
            edges: between them.

        Returns:
            (N, D). Of a target without edges: 0 before what the layer adds to a sum of messages.

        Raises:
            ShapeError: codes and edges do not belong together.
        """

    def forward(self, codes: Tensor, edges: Edges) -> Tensor:
        """Encode the whole graph: (N, D) codes, and edges whose sources and targets are all N entities."""
        for index in range(self.num_layers):
            codes = self.layer(index, codes, codes, edges)
        return codes


class Gat(StructureEncoder):
    """Graph attention with a diagonal W: an edge weighs exp(-LeakyReLU(a^T [W h_target || W h_source])), divided by
    the sum over the edges of its target; heads are averaged, ELU after every layer but the last.

    Source: Velickovic et al., GAT (ICLR 2018), in the variant of MCLEA and SNAG: minus in the exponent, slope .2,
    diagonal W that starts at 1, no bias; their dropouts inside it are 0 in all published runs and left out here.
    """

    def __init__(self, config: "GatConfig", width: int):
        super().__init__()
        self.num_layers = config.num_layers
        self._slope = config.slope
        bound = 1.0 / math.sqrt(2 * width)
        # By layer and head: the diagonal of W, and both halves of a, for the target first.
        shape = (config.num_layers, config.num_heads, width)
        self.diagonal = nn.Parameter(torch.ones(shape))
        self.attention = nn.Parameter(torch.empty(*shape[:2], 2 * width).uniform_(-bound, bound))

    def layer(self, index: int, sources: Tensor, targets: Tensor, edges: Edges) -> Tensor:
        """See `StructureEncoder.layer`."""
        _check(sources, targets, edges)
        diagonal = self.diagonal[index].to(sources.dtype)
        of_target, of_source = self.attention[index].to(sources.dtype).chunk(2, dim=1)
        # a^T [W h_i || W h_j] is a sum of one number of the target and one of the source: (N, heads), (S, heads).
        shares = attend(targets @ (diagonal * of_target).T, sources @ (diagonal * of_source).T, edges, self._slope)
        mean = diagonal[0] * aggregate(shares[:, 0], sources, edges)
        for head in range(1, len(diagonal)):
            mean = mean + diagonal[head] * aggregate(shares[:, head], sources, edges)
        mean = mean / len(diagonal)
        return functional.elu(mean) if index + 1 < self.num_layers else mean


class Gcn(StructureEncoder):
    """Graph convolution: A h W + b with the symmetrically normalised adjacency A, ReLU after every layer but the last.

    Source: Kipf and Welling, GCN (ICLR 2017), as EVA uses it (its dropout is 0 in the published runs).
    """

    def __init__(self, config: "GcnConfig", width: int):
        super().__init__()
        self.num_layers = config.num_layers
        bound = 1.0 / math.sqrt(width)
        self.weight = nn.Parameter(torch.empty(config.num_layers, width, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(config.num_layers, width).uniform_(-bound, bound))

    def layer(self, index: int, sources: Tensor, targets: Tensor, edges: Edges) -> Tensor:
        """See `StructureEncoder.layer`.

        Raises:
            ShapeError: the edges carry no values.
        """
        _check(sources, targets, edges)
        if edges.value is None:
            raise ShapeError("edges of a GCN: expected (L,) values, got none; take them from Adjacency.normalised")
        mixed = aggregate(edges.value.to(sources.dtype), sources, edges)
        weight, bias = self.weight[index].to(sources.dtype), self.bias[index].to(sources.dtype)
        out = mixed @ weight + bias
        return torch.relu(out) if index + 1 < self.num_layers else out


def _check(sources: Tensor, targets: Tensor, edges: Edges) -> None:
    match_shape(sources, "sources of a structure layer", edges.num_sources, -1)
    match_shape(targets, "targets of a structure layer", edges.num_targets, sources.shape[1])


class GatConfig(Config):
    """Graph attention."""

    kind: Literal["gat"] = "gat"
    num_layers: int = Field(default=2, ge=1)
    """Layers; 2 in SNAG, MCLEA and MEAformer."""
    num_heads: int = Field(default=2, ge=1)
    """Heads a layer, averaged."""
    slope: float = Field(default=0.2, ge=0.0)
    """Of the LeakyReLU on the negative side."""

    def build(self, width: int) -> StructureEncoder:
        """Build for codes of `width`."""
        return Gat(self, width)


class GcnConfig(Config):
    """Graph convolution."""

    kind: Literal["gcn"] = "gcn"
    num_layers: int = Field(default=2, ge=1)
    """Layers; 2 in EVA."""

    def build(self, width: int) -> StructureEncoder:
        """See `GatConfig.build`."""
        return Gcn(self, width)


StructureConfig = Annotated[GatConfig | GcnConfig, Field(discriminator="kind"), default_kind("gat")]
