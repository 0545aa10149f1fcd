"""From the modality tokens of an entity to its one code: the attention layer of SNAG and its ablations (Table 3)."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from snag_dist.config import Config, default_kind
from snag_dist.model.attention import AttentionConfig, ModalityAttention, confidence_from_attention
from snag_dist.model.dropout import KeyedDropout


@dataclass(frozen=True)
class Fused:
    """What fusion makes of N entities.

    Attributes:
        codes: (N, D), what scorers see.
        tokens: (N, M, D), the modality tokens after fusion.
        confidence: (N, M), weights of the modalities, summing to 1; absent modalities have 0.
    """

    codes: Tensor
    tokens: Tensor
    confidence: Tensor


class Fusion(nn.Module, ABC):
    """Fuses tokens (N, M, D), the graph token first, of which (N, M) are present."""

    @abstractmethod
    def forward(self, tokens: Tensor, present: Tensor, dropout: KeyedDropout) -> Fused:
        """Fuse the present tokens of each entity; the graph token is always present."""

    def codes(self, tokens: Tensor, present: Tensor, dropout: KeyedDropout) -> Tensor:
        """Return the codes (N, D) alone, where nothing else is asked for."""
        fused: Fused = self(tokens, present, dropout)
        return fused.codes

    def begin_at(self, bound: float) -> None:
        """Bring initial codes to the size of learned rows, which are uniform in [-bound, bound].

        A fusion whose codes have that size already does nothing.
        """


class AttentionFusion(Fusion):
    """SNAG: tokens attend to one another; the code is the graph token, or the mean over tokens."""

    def __init__(self, config: "AttentionFusionConfig", width: int, num_tokens: int):
        super().__init__()
        self._config = config
        self.attention = ModalityAttention(config.attention, width)

    def begin_at(self, bound: float) -> None:
        """See `Fusion.begin_at`."""
        if self._config.initial_scale == "rows":
            nn.init.constant_(self.attention.last_norm.weight, bound)

    def forward(self, tokens: Tensor, present: Tensor, dropout: KeyedDropout) -> Fused:
        """See `Fusion.forward`."""
        hidden, attention = self.attention(self._inputs(tokens), present, dropout)
        codes = hidden[:, 0] if self._config.code == "graph" else _weighted(hidden, _shares(present, hidden.dtype))
        return Fused(codes, hidden, confidence_from_attention(attention.detach(), present))

    def codes(self, tokens: Tensor, present: Tensor, dropout: KeyedDropout) -> Tensor:
        """See `Fusion.codes`."""
        if self._config.code == "graph":
            return self.attention.first(self._inputs(tokens), present, dropout)
        return super().codes(tokens, present, dropout)

    def _inputs(self, tokens: Tensor) -> Tensor:
        return torch.tanh(tokens) if self._config.tanh else tokens


class GraphFusion(Fusion):
    """The learned row as it is: structure only."""

    def __init__(self, config: "GraphFusionConfig", width: int, num_tokens: int):
        super().__init__()

    def forward(self, tokens: Tensor, present: Tensor, dropout: KeyedDropout) -> Fused:
        """See `Fusion.forward`."""
        confidence = torch.zeros_like(present, dtype=tokens.dtype)
        confidence[:, 0] = 1.0
        return Fused(tokens[:, 0], tokens, confidence)


class ConcatFusion(Fusion):
    """FC: one linear layer over the concatenated tokens; absent tokens enter as zeros."""

    def __init__(self, config: "ConcatFusionConfig", width: int, num_tokens: int):
        super().__init__()
        self.layer = nn.Linear(num_tokens * width, width)

    def forward(self, tokens: Tensor, present: Tensor, dropout: KeyedDropout) -> Fused:
        """See `Fusion.forward`."""
        known = tokens * present.unsqueeze(-1).to(tokens.dtype)
        codes: Tensor = self.layer(known.flatten(1))
        return Fused(codes, tokens, _shares(present, tokens.dtype))


class WeightedSumFusion(Fusion):
    """WS: one learned weight a modality, the same for all entities."""

    def __init__(self, config: "WeightedSumFusionConfig", width: int, num_tokens: int):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(num_tokens))

    def forward(self, tokens: Tensor, present: Tensor, dropout: KeyedDropout) -> Fused:
        """See `Fusion.forward`."""
        confidence = _softmax_over_present(self.logits.expand(present.shape), present)
        return Fused(_weighted(tokens, confidence), tokens, confidence)


class AttentiveSumFusion(Fusion):
    """AT: weights softmax_m(w^T tanh(e_m)), each entity its own (also the fusion of AdaMF)."""

    def __init__(self, config: "AttentiveSumFusionConfig", width: int, num_tokens: int):
        super().__init__()
        self.direction = nn.Parameter(torch.empty(width).uniform_(-(width**-0.5), width**-0.5))

    def forward(self, tokens: Tensor, present: Tensor, dropout: KeyedDropout) -> Fused:
        """See `Fusion.forward`."""
        confidence = _softmax_over_present(torch.tanh(tokens) @ self.direction, present)
        return Fused(_weighted(tokens, confidence), tokens, confidence)


class ConfidenceSumFusion(Fusion):
    """TS: the tokens before attention, weighted by the attention each of them receives."""

    def __init__(self, config: "ConfidenceSumFusionConfig", width: int, num_tokens: int):
        super().__init__()
        self._tanh = config.tanh
        self.attention = ModalityAttention(config.attention, width)

    def forward(self, tokens: Tensor, present: Tensor, dropout: KeyedDropout) -> Fused:
        """See `Fusion.forward`."""
        hidden, attention = self.attention(torch.tanh(tokens) if self._tanh else tokens, present, dropout)
        confidence = confidence_from_attention(attention, present)
        return Fused(_weighted(tokens, confidence), hidden, confidence)


def _shares(present: Tensor, dtype: torch.dtype) -> Tensor:
    weights = present.to(dtype)
    return weights / weights.sum(dim=1, keepdim=True)


def _softmax_over_present(logits: Tensor, present: Tensor) -> Tensor:
    return torch.softmax(logits.masked_fill(~present, float("-inf")), dim=-1)


def _weighted(tokens: Tensor, weights: Tensor) -> Tensor:
    return (tokens * weights.unsqueeze(-1)).sum(dim=1)


class AttentionFusionConfig(Config):
    """The transformer layer of SNAG."""

    kind: Literal["attention"] = "attention"
    code: Literal["graph", "mean"] = "mean"
    """Which output is the entity's code: the graph token (DB15K in the paper) or the mean over present tokens."""
    tanh: bool = True
    """Take tanh of the tokens first; the released code does, the paper does not say so."""
    initial_scale: Literal["rows", "unit"] = "rows"
    """Size of the codes when training begins. `rows`: that of learned rows, so that distances start near the margin;
    `unit`: LayerNorm's own (released), 18 times larger at width 256, which takes hundreds of steps to shrink."""
    attention: AttentionConfig = AttentionConfig()
    """Sizes of the layer."""

    def build(self, width: int, num_tokens: int) -> Fusion:
        """Build for codes of `width` and `num_tokens` tokens, the graph token included."""
        return AttentionFusion(self, width, num_tokens)


class GraphFusionConfig(Config):
    """No fusion: structure only."""

    kind: Literal["graph"] = "graph"

    def build(self, width: int, num_tokens: int) -> Fusion:
        """See `AttentionFusionConfig.build`."""
        return GraphFusion(self, width, num_tokens)


class ConcatFusionConfig(Config):
    """FC of Table 3."""

    kind: Literal["concat"] = "concat"

    def build(self, width: int, num_tokens: int) -> Fusion:
        """See `AttentionFusionConfig.build`."""
        return ConcatFusion(self, width, num_tokens)


class WeightedSumFusionConfig(Config):
    """WS of Table 3."""

    kind: Literal["weighted_sum"] = "weighted_sum"

    def build(self, width: int, num_tokens: int) -> Fusion:
        """See `AttentionFusionConfig.build`."""
        return WeightedSumFusion(self, width, num_tokens)


class AttentiveSumFusionConfig(Config):
    """AT of Table 3."""

    kind: Literal["attentive_sum"] = "attentive_sum"

    def build(self, width: int, num_tokens: int) -> Fusion:
        """See `AttentionFusionConfig.build`."""
        return AttentiveSumFusion(self, width, num_tokens)


class ConfidenceSumFusionConfig(Config):
    """TS of Table 3."""

    kind: Literal["confidence_sum"] = "confidence_sum"
    tanh: bool = True
    """Take tanh of the tokens before attention."""
    attention: AttentionConfig = AttentionConfig()
    """Sizes of the attention layer that yields the confidence."""

    def build(self, width: int, num_tokens: int) -> Fusion:
        """See `AttentionFusionConfig.build`."""
        return ConfidenceSumFusion(self, width, num_tokens)


FusionConfig = Annotated[
    AttentionFusionConfig
    | GraphFusionConfig
    | ConcatFusionConfig
    | WeightedSumFusionConfig
    | AttentiveSumFusionConfig
    | ConfidenceSumFusionConfig,
    Field(discriminator="kind"),
    default_kind("attention"),
]
