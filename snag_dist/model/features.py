"""What an entity brings along: raw vectors by modality, which of them exist, and the way to the common width."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from snag_dist.config import Config
from snag_dist.random import Stream

GRAPH = "graph"
"""Name of the token that holds the entity's learned row; every other token is named after its modality."""


@dataclass(frozen=True)
class ColumnStatistics:
    """Mean and standard deviation of each column.

    Attributes:
        mean, std: (F,), over the entities that have the modality; std with ddof 1.
    """

    mean: Tensor
    std: Tensor

    def to(self, like: Tensor) -> "ColumnStatistics":
        """Return the statistics on the device and in the dtype of `like`."""
        return ColumnStatistics(
            self.mean.to(like.device, like.dtype, non_blocking=True),
            self.std.to(like.device, like.dtype, non_blocking=True),
        )


@dataclass(frozen=True)
class EntityInputs:
    """All the encoder needs to know of N distinct entities.

    Attributes:
        ids: (N,) int64 row ids in the whole graph; they key every random draw.
        rows: (N, D) learned rows.
        features: raw vectors by modality, (N, F) each; rows of absent entities are not read.
        present: by modality, (N,) bool.
        row_statistics: of the whole table of rows, for noise on the graph token.
    """

    ids: Tensor
    rows: Tensor
    features: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    present: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    row_statistics: ColumnStatistics | None = None


class ProjectionConfig(Config):
    """How raw vectors of a modality reach the width of the entity code."""

    layers: Literal[1, 2] = 1
    """Stacked linear maps without activation between; the released code uses two on DB15K."""
    impute: Literal["drop", "learned", "zero", "noise"] = "drop"
    """A missing vector: its token is masked out, replaced by a learned one, made from a vector of zeros (the released
    code for bags: nothing was counted), or from one drawn once from the column statistics (the released code for
    pictures; it draws before it normalises rows, here columns are those of the vectors the encoder sees). All but
    `noise` keep random numbers out of codes."""


class Projection(nn.Module):
    """Linear map of one modality to tokens, with the chosen answer to missing vectors.

    Source: SNAG, modality embedding; the second layer and the imputation by noise are in the released code only.
    """

    def __init__(self, config: ProjectionConfig, name: str, width: int, statistics: ColumnStatistics, code_width: int):
        super().__init__()
        self._impute = config.impute
        self._name = name
        layers = [nn.Linear(width, code_width)]
        layers += [nn.Linear(code_width, code_width) for _ in range(config.layers - 1)]
        self.layers = nn.Sequential(*layers)
        self.absent = nn.Parameter(torch.zeros(code_width)) if config.impute == "learned" else None
        # Facts of the store, not of the model: not persistent, so they do not enter a checkpoint.
        self.register_buffer("mean", statistics.mean.clone(), persistent=False)
        self.register_buffer("std", statistics.std.clone(), persistent=False)
        self.mean: Tensor
        self.std: Tensor

    @property
    def statistics(self) -> ColumnStatistics:
        """Column statistics of the raw vectors."""
        return ColumnStatistics(self.mean, self.std)

    def impute(self, features: Tensor, present: Tensor, ids: Tensor, seed: int) -> Tensor:
        """Fill absent vectors as the config says; `drop` and `learned` leave them alone. (N, F) -> (N, F)."""
        if self._impute not in ("zero", "noise"):
            return features
        absent = (~present).nonzero().squeeze(1)
        if len(absent) == 0:
            return features
        if self._impute == "zero":
            return features.index_fill(0, absent, 0.0)
        stream = Stream(seed, f"impute/{self._name}")
        drawn = stream.normal(ids[absent], features.shape[1], torch.float32).to(features.dtype)
        known = self.statistics.to(features)
        return features.index_copy(0, absent, known.mean + known.std * drawn)

    def forward(self, features: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Project to tokens.

        Args:
            features: (N, F).
            present: (N,) bool.

        Returns:
            Tokens (N, D), and (N,) bool: which tokens take part in fusion.
        """
        tokens: Tensor = self.layers(features)
        if self._impute == "drop":
            return tokens, present
        if self.absent is not None:
            tokens = torch.where(present.unsqueeze(1), tokens, self.absent.to(tokens.dtype))
        return tokens, torch.ones_like(present)
