"""What alignment makes of an entity: one token a modality, before and after attention, and how much each is trusted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils import checkpoint

from snag_dist.config import Config
from snag_dist.model.aggregation import Edges
from snag_dist.model.attention import AttentionConfig, ModalityAttention, confidence_from_attention
from snag_dist.model.dropout import KeyedDropout, no_dropout
from snag_dist.model.encoder import ModalityFacts
from snag_dist.model.features import GRAPH, EntityInputs, Projection, ProjectionConfig
from snag_dist.model.noise import Noise
from snag_dist.model.structure import GatConfig, StructureConfig
from snag_dist.random import Moment
from snag_dist.shapes import match_shape


@dataclass(frozen=True)
class EntityViews:
    """N entities, one token a modality: graph first, then the modalities by name.

    Attributes:
        tokens: (N, M, D) before attention.
        outputs: (N, M, D) after attention; the tokens themselves where a method has no attention.
        confidence: (N, M), 0 for absent tokens.
        present: (N, M) bool.
    """

    tokens: Tensor
    outputs: Tensor
    confidence: Tensor
    present: Tensor

    def pack(self) -> Tensor:
        """Lay everything side by side, (N, P) in the dtype of the tokens, so that it travels as one tensor."""
        outputs = [] if self.outputs is self.tokens else [self.outputs.flatten(1)]
        known = self.present.to(self.tokens.dtype)
        return torch.cat([self.tokens.flatten(1), *outputs, self.confidence.to(self.tokens.dtype), known], dim=1)

    def select(self, rows: Tensor) -> "EntityViews":
        """Return the entities at positions `rows` (n,)."""
        tokens = self.tokens.index_select(0, rows)
        outputs = tokens if self.outputs is self.tokens else self.outputs.index_select(0, rows)
        return EntityViews(tokens, outputs, self.confidence.index_select(0, rows), self.present.index_select(0, rows))


def unpack(packed: Tensor, num_tokens: int, width: int) -> EntityViews:
    """Undo `EntityViews.pack` for M tokens of D columns.

    Raises:
        ShapeError: the columns are not those of M tokens of width D.
    """
    block = num_tokens * width
    both = packed.shape[1] == 2 * block + 2 * num_tokens
    match_shape(packed, "packed views", -1, (2 if both else 1) * block + 2 * num_tokens)
    shape = (len(packed), num_tokens, width)
    tokens = packed[:, :block].view(shape)
    outputs = packed[:, block : 2 * block].view(shape) if both else tokens
    confidence, present = packed[:, -2 * num_tokens : -num_tokens], packed[:, -num_tokens:] > 0.5
    return EntityViews(tokens, outputs, confidence, present)


class ViewsConfig(Config):
    """From an entity's learned row and raw vectors to its tokens."""

    width: int = Field(default=300, ge=1)
    """D, columns of rows and tokens; 300 in all published runs."""
    structure: StructureConfig = GatConfig()
    """From learned rows to graph tokens."""
    projection: ProjectionConfig = ProjectionConfig()
    """For every modality that has no own entry in `projections`; the published runs impute by noise."""
    projections: dict[str, ProjectionConfig] = Field(default_factory=dict)
    """By modality."""
    confidence: Literal["columns", "rows"] = "columns"
    """Sums of attention that make the confidence: received by a token (released code), or given (the paper's eq. (7) as
    printed, equal weights)."""


class ViewsEncoder(nn.Module):
    """Structure encoder, projections and, where a method has one, the attention layer.

    The learned rows live outside. A caller takes `noised_rows`, runs the layers of `structure` with the codes of
    neighbours fetched in between, and hands the graph codes to `forward`.

    Source: SNAG, section 3.2 and 3.4.
    """

    def __init__(
        self,
        config: ViewsConfig,
        modalities: Mapping[str, ModalityFacts],
        noise: Noise,
        attention: AttentionConfig | None,
    ):
        super().__init__()
        self.width = config.width
        self.modalities = tuple(sorted(modalities))
        self.num_tokens = 1 + len(self.modalities)
        self._noise = noise
        self._sums: Literal["columns", "rows"] = config.confidence
        self.structure = config.structure.build(config.width)
        self.projections = nn.ModuleDict()
        for name in self.modalities:
            own = config.projections.get(name, config.projection)
            facts = modalities[name]
            self.projections[name] = Projection(own, name, facts.width, facts.statistics, config.width)
        self.attention = ModalityAttention(attention, config.width) if attention else None

    def noised_rows(self, inputs: EntityInputs, moment: Moment | None) -> Tensor:
        """Learned rows (N, D) as the structure encoder sees them: with noise in training, else as they are."""
        if moment is None or inputs.row_statistics is None:
            return inputs.rows
        return self._noise.apply(GRAPH, inputs.rows, inputs.row_statistics, inputs.ids, moment)

    def forward(self, graph: Tensor, inputs: EntityInputs, seed: int, moment: Moment | None) -> EntityViews:
        """Encode entities.

        Args:
            graph: (N, D) codes of the structure encoder.
            inputs: of the same N entities.
            seed: of the run; keys what stays the same all through it.
            moment: of training; None in evaluation, which knows neither noise nor dropout.

        Returns:
            Their views; without attention every present token is trusted alike.
        """
        tokens, present = [graph], [torch.ones_like(inputs.ids, dtype=torch.bool)]
        for name in self.modalities:
            projection = self.projections[name]
            assert isinstance(projection, Projection)
            known, statistics = inputs.present[name], projection.statistics
            features = projection.impute(inputs.features[name].to(graph.dtype), known, inputs.ids, seed)
            if moment is not None:
                features = self._noise.apply(name, features, statistics, inputs.ids, moment)
            token, takes_part = projection(features, known)
            tokens.append(token)
            present.append(takes_part)
        stacked, mask = torch.stack(tokens, dim=1), torch.stack(present, dim=1)
        if self.attention is None:
            return EntityViews(stacked, stacked, mask.to(graph.dtype) / mask.sum(dim=1, keepdim=True), mask)
        dropout = no_dropout(inputs.ids) if moment is None else KeyedDropout(inputs.ids, moment)
        # Kept for the way back, the layer would be the largest thing of a step; its keyed dropout repeats exactly.
        again = cast(Any, checkpoint).checkpoint
        outputs, attention = cast(
            "tuple[Tensor, Tensor]",
            again(self.attention, stacked, mask, dropout, use_reentrant=False, preserve_rng_state=False),
        )
        return EntityViews(stacked, outputs, confidence_from_attention(attention, mask, self._sums), mask)

    def encode_graph(self, inputs: EntityInputs, edges: Edges, seed: int, moment: Moment | None) -> EntityViews:
        """Encode all entities of a graph that lies in one place: `edges` run between the N entities of `inputs`."""
        codes: Tensor = self.structure(self.noised_rows(inputs, moment), edges)
        return self(codes, inputs, seed, moment)
