"""The encoder: N entities' raw inputs to N codes."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor, nn

from snag_dist.config import Config
from snag_dist.model.dropout import KeyedDropout, no_dropout
from snag_dist.model.features import GRAPH, ColumnStatistics, EntityInputs, Projection, ProjectionConfig
from snag_dist.model.fusion import AttentionFusionConfig, Fused, Fusion, FusionConfig
from snag_dist.model.noise import Noise, Share
from snag_dist.random import Moment


@dataclass(frozen=True)
class ModalityFacts:
    """What the store knows of a modality.

    Attributes:
        width: F, columns of its raw vectors.
        statistics: of the columns, over the entities that have it.
    """

    width: int
    statistics: ColumnStatistics


class EncoderConfig(Config):
    """The network between raw inputs and codes."""

    width: int = Field(default=256, ge=2, multiple_of=2)
    """D, columns of rows, tokens and codes; even, since RotatE reads a code as D/2 complex numbers."""
    row_dropout: Share = 0.0
    """Share of entities whose learned row is replaced by the mean row in training, drawn anew every step: so that the
    other tokens learn to do without it, as they must for new entities."""
    project_graph: bool = False
    """A linear layer on the learned row too (FC_g): in the paper, not in the released code."""
    projection: ProjectionConfig = ProjectionConfig()
    """For every modality that has no own entry in `projections`."""
    projections: dict[str, ProjectionConfig] = Field(default_factory=dict)
    """By modality."""
    fusion: FusionConfig = AttentionFusionConfig()
    """From tokens to the code."""


class Encoder(nn.Module):
    """Projects each modality to a token, adds the learned row as the graph token, and fuses.

    The modalities are named; their order is alphabetical, so that the order of a recipe changes nothing.

    Source: SNAG, section 3.2.
    """

    def __init__(self, config: EncoderConfig, modalities: Mapping[str, ModalityFacts], noise: Noise):
        super().__init__()
        self.width = config.width
        self.modalities = tuple(sorted(modalities))
        self._noise = noise
        self._row_dropout = config.row_dropout
        self.project_graph = nn.Linear(config.width, config.width) if config.project_graph else None
        self.projections = nn.ModuleDict(
            {
                name: Projection(
                    config.projections.get(name, config.projection),
                    name,
                    modalities[name].width,
                    modalities[name].statistics,
                    config.width,
                )
                for name in self.modalities
            }
        )
        self.fusion: Fusion = config.fusion.build(config.width, 1 + len(self.modalities))

    def forward(self, inputs: EntityInputs, seed: int, moment: Moment | None) -> Fused:
        """Encode entities.

        Args:
            inputs: of N entities.
            seed: of the run; keys what stays the same all through it.
            moment: of training; None in evaluation, which knows neither noise nor dropout.

        Returns:
            Codes, tokens (graph first, then the modalities by name) and confidence.
        """
        fused: Fused = self.fusion(*self._tokens(inputs, seed, moment))
        return fused

    def codes(self, inputs: EntityInputs, seed: int, moment: Moment) -> Tensor:
        """Encode for training, (N, D): the codes of `forward` but for rounding and for which values are dropped.

        Args:
            inputs, seed, moment: as of `forward`.
        """
        return self.fusion.codes(*self._tokens(inputs, seed, moment))

    def _tokens(self, inputs: EntityInputs, seed: int, moment: Moment | None) -> tuple[Tensor, Tensor, KeyedDropout]:
        rows = self._noised(GRAPH, inputs.rows, inputs.row_statistics, inputs.ids, moment)
        rows = self._drop_rows(rows, inputs.row_statistics, inputs.ids, moment)
        dtype = rows.dtype
        tokens = [rows if self.project_graph is None else self.project_graph(rows)]
        present = [torch.ones_like(inputs.ids, dtype=torch.bool)]
        for name in self.modalities:
            projection = self.projections[name]
            assert isinstance(projection, Projection)
            known = inputs.present[name]
            features = projection.impute(inputs.features[name].to(dtype), known, inputs.ids, seed)
            features = self._noised(name, features, projection.statistics, inputs.ids, moment)
            token, takes_part = projection(features, known)
            tokens.append(token)
            present.append(takes_part)
        dropout = no_dropout(inputs.ids) if moment is None else KeyedDropout(inputs.ids, moment)
        return torch.stack(tokens, dim=1), torch.stack(present, dim=1), dropout

    def _noised(
        self, name: str, features: Tensor, statistics: ColumnStatistics | None, ids: Tensor, moment: Moment | None
    ) -> Tensor:
        if moment is None or statistics is None:
            return features
        return self._noise.apply(name, features, statistics, ids, moment)

    def _drop_rows(
        self, rows: Tensor, statistics: ColumnStatistics | None, ids: Tensor, moment: Moment | None
    ) -> Tensor:
        if moment is None or statistics is None or not self._row_dropout:
            return rows
        dropped = moment.each_step("row_dropout").uniform(ids, 1) < self._row_dropout
        return torch.where(dropped, statistics.to(rows).mean, rows)
