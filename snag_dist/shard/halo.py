"""The way of codes through a structure encoder whose rows lie on many workers.

Layer by layer, the owner of a target fetches the codes of its neighbours from their owners, one layer back: the halo.
With gradient; and since a block is exact wherever all neighbours are taken, the codes are those of the whole graph.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from snag_dist.model.aggregation import Edges
from snag_dist.random import Stream
from snag_dist.shard.exchange import Exchange, Route
from snag_dist.shard.neighbours import OwnedEdges

Layer = Callable[[int, Tensor, Tensor, Edges], Tensor]
"""Index, codes of the sources, codes of the targets and edges to the new codes of the targets."""


@dataclass(frozen=True)
class HaloLayer:
    """One layer of a step.

    Attributes:
        route: of the codes of the layer's sources; `encode` are the rows whose codes this worker must have ready.
        edges: from the sources into the layer's targets.
        place: (N,) positions of the targets in `route.encode`.
    """

    route: Route
    edges: Edges
    place: Tensor


@dataclass(frozen=True)
class Halo:
    """All layers of a step, the first one first.

    Attributes:
        layers: at least one.
    """

    layers: tuple[HaloLayer, ...]

    @property
    def rows(self) -> Tensor:
        """(N_rows,) row ids whose codes enter the first layer, distinct and ascending."""
        return self.layers[0].route.encode


def plan_halo(
    targets: Tensor,
    owned: OwnedEdges,
    exchange: Exchange,
    *,
    num_layers: int,
    device: torch.device,
    fanout: int | None = None,
    stream: Stream | None = None,
) -> Halo:
    """Find what the layers below some targets need. A collective.

    Args:
        targets: (N,) row ids this worker owns, distinct and ascending, whose codes are wanted after the last layer.
        owned: edges into this worker's rows.
        exchange: between the workers.
        num_layers: of the structure encoder.
        device: of the codes.
        fanout, stream: see `OwnedEdges.block`; each layer draws anew.
    """
    layers: list[HaloLayer] = []
    for index in reversed(range(num_layers)):
        drawn = None if stream is None else stream.child(f"layer{index}")
        block = owned.block(targets.numpy(), fanout, drawn)
        route = exchange.route(torch.from_numpy(block.sources))
        # A target has a self-loop, so its own code is among those that are made ready here.
        place = torch.from_numpy(np.searchsorted(route.encode.numpy(), targets.numpy()))
        layers.append(HaloLayer(route, block.edges.to(device), place.to(device)))
        targets = route.encode
    return Halo(tuple(reversed(layers)))


def run_halo(halo: Halo, codes: Tensor, layer: Layer, exchange: Exchange) -> Tensor:
    """Run the layers. A collective, forward and backward.

    Args:
        halo: of the step.
        codes: (N_rows, D) of `halo.rows`, as they enter the first layer.
        layer: of the structure encoder.
        exchange: between the workers.

    Returns:
        (N, D) codes of the targets the halo was planned for; differentiable.
    """
    for index, step in enumerate(halo.layers):
        sources = exchange.fetch(codes, step.route)
        codes = layer(index, sources, codes.index_select(0, step.place), step.edges)
    return codes
