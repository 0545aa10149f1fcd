"""One attention layer over the few modality tokens of an entity."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from snag_dist.config import Config
from snag_dist.model.dropout import KeyedDropout


class AttentionConfig(Config):
    """Sizes of the attention layer."""

    num_heads: int = 2
    """Heads; 2 for completion, 1 for alignment."""
    dropout: float = 0.1
    """Probability of dropping an attention weight, and a value of a sublayer's output."""
    feed_forward_width: int = 0
    """Hidden width of the FFN; 0 leaves FFN and second LN out, as the released completion commands do."""
    activation: Literal["relu", "gelu"] = "relu"
    """Of the FFN: `relu` (paper) or `gelu` (released alignment code)."""
    epsilon: float = 1e-12
    """Of both LayerNorms."""


class ModalityAttention(nn.Module):
    """Multi-head self-attention among an entity's tokens, post-LN, with an optional FFN.

    Source: SNAG, eqs. (4)-(6).
    """

    def __init__(self, config: AttentionConfig, width: int):
        super().__init__()
        self._config = config
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=config.epsilon)
        if config.feed_forward_width:
            self.expand = nn.Linear(width, config.feed_forward_width)
            self.contract = nn.Linear(config.feed_forward_width, width)
            self.feed_forward_norm = nn.LayerNorm(width, eps=config.epsilon)

    @property
    def last_norm(self) -> nn.LayerNorm:
        """The norm that the tokens leave the layer through."""
        return self.feed_forward_norm if self._config.feed_forward_width else self.norm

    def forward(self, tokens: Tensor, present: Tensor, dropout: KeyedDropout) -> tuple[Tensor, Tensor]:
        """Let the present tokens of each entity attend to one another.

        Args:
            tokens: (N, M, D).
            present: (N, M) bool; absent tokens are attended to by none.
            dropout: keyed by these N entities, or off.

        Returns:
            Tokens (N, M, D), and attention weights before dropout, (N, heads, M, M), rows summing to 1.
        """
        num, count, width = tokens.shape
        heads = self._config.num_heads
        projected: Tensor = self.query_key_value(tokens)
        query, key, value = projected.view(num, count, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-1, -2) / math.sqrt(width // heads)
        scores = scores.masked_fill(~present[:, None, None, :], float("-inf"))
        attention = torch.softmax(scores, dim=-1)
        mixed = dropout(attention, self._config.dropout, "attention") @ value
        mixed = mixed.transpose(1, 2).reshape(num, count, width)
        hidden: Tensor = self.norm(tokens + dropout(self.output(mixed), self._config.dropout, "output"))
        if self._config.feed_forward_width:
            hidden = self._feed_forward(hidden, dropout)
        return hidden, attention

    def first(self, tokens: Tensor, present: Tensor, dropout: KeyedDropout) -> Tensor:
        """Return the first token as `forward` returns it, (N, D), without what the other tokens would become.

        Matrices multiply single vectors instead of all M tokens, since q_0 . (W_k x) = (W_k' q_0) . x and
        sum_m a_m W_v x_m = W_v sum_m a_m x_m: 4 D^2 products an entity instead of 4 M D^2. The keys' bias adds the
        same to the score of every token, which softmax takes away. Equal to `forward` but for rounding, and for
        which values are dropped.

        Args:
            tokens, present, dropout: as of `forward`.
        """
        num, _, width = tokens.shape
        heads = self._config.num_heads
        of_head = width // heads
        first = tokens[:, 0]
        query_weight, key_weight, value_weight = self.query_key_value.weight.chunk(3)
        query_bias, _, value_bias = self.query_key_value.bias.chunk(3)
        query = functional.linear(first, query_weight, query_bias).view(num, heads, of_head).transpose(0, 1)
        asked = (query @ key_weight.view(heads, of_head, width)).transpose(0, 1)
        scores = asked @ tokens.transpose(1, 2) / math.sqrt(of_head)
        attention = torch.softmax(scores.masked_fill(~present[:, None, :], float("-inf")), dim=-1)
        kept = dropout(attention, self._config.dropout, "first attention")
        blended = (kept @ tokens).transpose(0, 1)
        mixed = (blended @ value_weight.view(heads, of_head, width).transpose(1, 2)).transpose(0, 1)
        # What is left of the weights after dropout does not sum to 1, and the values' bias comes with each of them.
        mixed = mixed + kept.sum(dim=-1, keepdim=True) * value_bias.view(heads, of_head)
        changed = dropout(self.output(mixed.reshape(num, width)), self._config.dropout, "first output")
        hidden: Tensor = self.norm(first + changed)
        return self._feed_forward(hidden, dropout) if self._config.feed_forward_width else hidden

    def _feed_forward(self, hidden: Tensor, dropout: KeyedDropout) -> Tensor:
        activate = functional.gelu if self._config.activation == "gelu" else functional.relu
        changed: Tensor = self.contract(activate(self.expand(hidden)))
        normed: Tensor = self.feed_forward_norm(hidden + dropout(changed, self._config.dropout, "feed_forward"))
        return normed


def confidence_from_attention(
    attention: Tensor, present: Tensor, sums: Literal["columns", "rows"] = "columns"
) -> Tensor:
    """How much attention each token of an entity receives, as weights that sum to 1 (ILC).

    Args:
        attention: (N, heads, M, M), rows (queries) summing to 1.
        present: (N, M) bool.
        sums: `columns` adds up what a token receives, over queries (released code); `rows` what it gives, over keys,
            as the paper prints it: that is 1 for every token, so all weights are equal.

    Returns:
        (N, M); absent tokens get 0.

    Source: SNAG, eq. (7).
    """
    num_heads, num_tokens = attention.shape[1], attention.shape[-1]
    # An absent token asks nothing: its row would add the same constant pattern to every entity.
    asked = attention * present[:, None, :, None].to(attention.dtype)
    received = asked.sum(dim=(1, 2) if sums == "columns" else (1, 3)) / math.sqrt(num_tokens * num_heads)
    return torch.softmax(received.masked_fill(~present, float("-inf")), dim=-1)
