"""An exported SNAG encoder: entities of the graph by id, and new ones by their text and picture vectors.

    model = SnagEncoder.from_pretrained(folder)
    known = model(entity_ids=torch.tensor([3, 14]))            # from the tables of the export
    new = model(features={"text": vectors, "vision": others})   # encoded here, without a learned row

Letters of shapes: B entities, M tokens of each (the learned row first, then the modalities), D width, F width of a
modality's raw vectors. The mathematics is that of training, without noise and dropout; parameters have the names they
had there.

Source: SNAG (arXiv 2403.06832), section 3.2.
"""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput
from transformers.utils.hub import cached_file

from .configuration_snag import GRAPH, SnagEncoderConfig
from .tables_snag import INDEX, EntityTables


@dataclass
class SnagOutput(ModelOutput):
    """What the encoder says of B entities.

    Attributes:
        tokens: (B, M, D) modality tokens after fusion; those of absent modalities carry nothing.
        pooled: (B, D) codes, what the scorer was trained on.
        confidence: (B, M) weights of the modalities, summing to 1; absent ones have 0.
        mask: (B, M) bool: which tokens took part.
    """

    tokens: Tensor | None = None
    pooled: Tensor | None = None
    confidence: Tensor | None = None
    mask: Tensor | None = None


def _find(name: str, file: str) -> str:
    found = cached_file(name, file)
    if not isinstance(found, str):
        raise FileNotFoundError(
            f"{name}: expected {file} in the export, found none; copy or load the export as a whole"
        )
    return found


class Projection(nn.Module):
    """Linear map of one modality's raw vectors to tokens."""

    def __init__(self, modality: Mapping[str, Any], code_width: int):
        super().__init__()
        layers = [nn.Linear(modality["width"], code_width)]
        layers += [nn.Linear(code_width, code_width) for _ in range(modality["layers"] - 1)]
        self.layers = nn.Sequential(*layers)
        self._impute = modality["impute"]
        self.absent = nn.Parameter(torch.zeros(code_width)) if self._impute == "learned" else None

    def forward(self, features: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Project (B, F) vectors, of which (B,) are present: tokens (B, D), and (B,) which of them take part."""
        if self._impute == "zero":
            features = features * present.unsqueeze(1)
        tokens = self.layers(features)
        if self._impute == "drop":
            return tokens, present
        if self.absent is None:
            return tokens, torch.ones_like(present)
        return torch.where(present.unsqueeze(1), tokens, self.absent.to(tokens.dtype)), torch.ones_like(present)


class ModalityAttention(nn.Module):
    """Multi-head self-attention among an entity's tokens, post-LN, with an optional FFN."""

    def __init__(self, settings: Mapping[str, Any], width: int):
        super().__init__()
        self._heads = settings["num_heads"]
        self._activation = settings["activation"]
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=settings["epsilon"])
        self.expand: nn.Linear | None = None
        if settings["feed_forward_width"]:
            self.expand = nn.Linear(width, settings["feed_forward_width"])
            self.contract = nn.Linear(settings["feed_forward_width"], width)
            self.feed_forward_norm = nn.LayerNorm(width, eps=settings["epsilon"])

    def forward(self, tokens: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Let present tokens (B, M, D) attend to one another: tokens, and confidence (B, M) by attention received."""
        _, count, width = tokens.shape
        shape = (-1, count, 3, self._heads, width // self._heads)
        query, key, value = self.query_key_value(tokens).view(shape).permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-1, -2) / math.sqrt(width // self._heads)
        attention = torch.softmax(scores.masked_fill(~present[:, None, None, :], float("-inf")), dim=-1)
        mixed = (attention @ value).transpose(1, 2).reshape(-1, count, width)
        hidden = self.norm(tokens + self.output(mixed))
        if self.expand is not None:
            activate = functional.gelu if self._activation == "gelu" else functional.relu
            hidden = self.feed_forward_norm(hidden + self.contract(activate(self.expand(hidden))))
        asked = attention * present[:, None, :, None].to(attention.dtype)
        received = asked.sum(dim=(1, 2)) / math.sqrt(count * self._heads)
        return hidden, torch.softmax(received.masked_fill(~present, float("-inf")), dim=-1)


class Fusion(nn.Module):
    """From tokens (B, M, D), of which (B, M) are present, to codes: every kind that can be trained."""

    def __init__(self, settings: Mapping[str, Any], width: int, num_tokens: int):
        super().__init__()
        self._kind = settings["kind"]
        self._settings = dict(settings)
        if self._kind in ("attention", "confidence_sum"):
            self.attention = ModalityAttention(settings["attention"], width)
        elif self._kind == "concat":
            self.layer = nn.Linear(num_tokens * width, width)
        elif self._kind == "weighted_sum":
            self.logits = nn.Parameter(torch.zeros(num_tokens))
        elif self._kind == "attentive_sum":
            self.direction = nn.Parameter(torch.zeros(width))
        elif self._kind != GRAPH:
            raise ValueError(
                f"config.json: fusion.kind: {self._kind!r} is not known; load it with the code it came with"
            )

    def forward(self, tokens: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return codes (B, D), tokens (B, M, D) and confidence (B, M)."""
        shares = present.to(tokens.dtype)
        shares = shares / shares.sum(dim=1, keepdim=True)
        if self._kind == "attention":
            hidden, confidence = self.attention(torch.tanh(tokens) if self._settings["tanh"] else tokens, present)
            codes = hidden[:, 0] if self._settings["code"] == GRAPH else _weighted(hidden, shares)
            return codes, hidden, confidence
        if self._kind == "confidence_sum":
            hidden, confidence = self.attention(torch.tanh(tokens) if self._settings["tanh"] else tokens, present)
            return _weighted(tokens, confidence), hidden, confidence
        if self._kind == "concat":
            return self.layer((tokens * present.unsqueeze(-1).to(tokens.dtype)).flatten(1)), tokens, shares
        if self._kind == GRAPH:
            first = torch.zeros_like(shares)
            first[:, 0] = 1.0
            return tokens[:, 0], tokens, first
        logits = (
            self.logits.expand(present.shape) if self._kind == "weighted_sum" else torch.tanh(tokens) @ self.direction
        )
        confidence = torch.softmax(logits.masked_fill(~present, float("-inf")), dim=-1)
        return _weighted(tokens, confidence), tokens, confidence


def _weighted(tokens: Tensor, weights: Tensor) -> Tensor:
    return (tokens * weights.unsqueeze(-1)).sum(dim=1)


class SnagEncoder(PreTrainedModel):
    """Entities to modality tokens and codes.

    Attributes:
        row_mean: (D,) mean of the learned rows over the graph. It stands where a new entity has no row of its own.
    """

    config_class = SnagEncoderConfig
    base_model_prefix = "snag"
    main_input_name = "entity_ids"

    def __init__(self, config: SnagEncoderConfig):
        super().__init__(config)
        self.project_graph = nn.Linear(config.width, config.width) if config.project_graph else None
        self.projections = nn.ModuleDict(
            {modality["name"]: Projection(modality, config.width) for modality in config.modalities}
        )
        self.fusion = Fusion(config.fusion, config.width, 1 + len(config.modalities))
        self.register_buffer("row_mean", torch.zeros(config.width))
        self.row_mean: Tensor
        self._tables: EntityTables | None = None
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Leave parameters alone: an export holds every one of them."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Load weights as transformers does, and map the entity tables that lie beside them."""
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model = cast("SnagEncoder", loaded[0] if isinstance(loaded, tuple) else loaded)
        model.map_tables(str(os.fspath(pretrained_model_name_or_path)))
        return loaded

    def map_tables(self, name: str) -> None:
        """Map the entity tables of an export; an export without them encodes features only."""
        index = cached_file(name, INDEX, _raise_exceptions_for_missing_entries=False)
        if index is not None:
            tree = json.loads(Path(index).read_text(encoding="utf-8"))
            self._tables = EntityTables(tree, lambda file: _find(name, file))

    def forward(
        self,
        entity_ids: Tensor | None = None,
        features: Mapping[str, Tensor] | None = None,
        mask: Tensor | None = None,
        rows: Tensor | None = None,
    ) -> SnagOutput:
        """Look entities up, or encode them.

        With `entity_ids` alone, everything comes from the tables of the export. With `features`, the network encodes
        them: beside learned rows where `entity_ids` or `rows` are given, from the features alone otherwise.

        Args:
            entity_ids: (B,) int64 ids of entities of the graph; `entities.parquet` has them by key.
            features: raw vectors (B, F) by modality; a modality left out is absent.
            mask: (B, M) bool, which tokens an entity has, in the order of `config.token_names`; unset: those given.
            rows: (B, D) learned rows, in place of those of `entity_ids`.

        Raises:
            ValueError: neither ids nor features are given, a shape is wrong, a modality is not known, or an entity
                has nothing to be encoded from.
        """
        if features is None and rows is None:
            if entity_ids is None:
                raise ValueError("forward: expected entity_ids or features, got neither; pass one of them")
            return self._look_up(entity_ids, mask)
        if rows is None and entity_ids is not None:
            rows = self._read("rows", entity_ids)
        return self.encode({} if features is None else features, mask, rows)

    def encode(
        self, features: Mapping[str, Tensor], mask: Tensor | None = None, rows: Tensor | None = None
    ) -> SnagOutput:
        """Encode entities from raw vectors by modality and, where they have them, learned rows; see `forward`."""
        names = self.config.token_names
        unknown = sorted(set(features) - set(names[1:]))
        if unknown:
            raise ValueError(f"features: {unknown[0]!r} is no modality of this encoder; it has {', '.join(names[1:])}")
        given = ({} if rows is None else {GRAPH: rows}) | dict(features)
        if not given:
            raise ValueError("features: expected vectors of a modality, got none; pass those an entity has")
        num = next(iter(given.values())).shape[0]
        present = self._presence(given, mask, num)
        dtype, device = self.row_mean.dtype, self.row_mean.device
        # A row that is not there is the mean row, which takes part: it is what the noise of training blends rows with,
        # and carries nothing of the entity.
        mean = self.row_mean.expand(num, -1)
        own = mean if rows is None else torch.where(present[:, :1], rows.to(device, dtype), mean)
        tokens = [own if self.project_graph is None else self.project_graph(own)]
        parts = [torch.ones_like(present[:, 0])]
        for position, modality in enumerate(self.config.modalities, start=1):
            name, width = modality["name"], modality["width"]
            vectors = features.get(name)
            if vectors is None:
                vectors = self.row_mean.new_zeros(num, width)
            elif tuple(vectors.shape[1:]) != (width,):
                raise ValueError(
                    f"features[{name!r}]: expected ({num}, {width}), got {tuple(vectors.shape)}; mend its shape"
                )
            token, takes_part = self.projections[name](vectors.to(device, dtype), present[:, position])
            tokens.append(token)
            parts.append(takes_part)
        takes_part = torch.stack(parts, dim=1)
        pooled, fused, confidence = self.fusion(torch.stack(tokens, dim=1), takes_part)
        return SnagOutput(tokens=fused, pooled=pooled, confidence=confidence, mask=takes_part)

    def _presence(self, given: Mapping[str, Tensor], mask: Tensor | None, num: int) -> Tensor:
        names = self.config.token_names
        have = torch.tensor([name in given for name in names], device=self.row_mean.device).expand(num, -1)
        if mask is not None and tuple(mask.shape) != (num, len(names)):
            raise ValueError(f"mask: expected ({num}, {len(names)}) for {', '.join(names)}, got {tuple(mask.shape)}")
        present = have if mask is None else mask.to(have.device, torch.bool)
        if torch.compiler.is_compiling():
            return present
        claimed = (present & ~have).any(dim=0).nonzero().flatten().tolist()
        if claimed:
            raise ValueError(
                f"mask: says that entities have {names[claimed[0]]!r}, which was not given; pass its vectors"
            )
        structural = self.config.fusion["kind"] == GRAPH
        empty = (~(present[:, :1] if structural else present).any(dim=1)).nonzero().flatten().tolist()
        if empty:
            needed = "a learned row, since the encoder sees structure only" if structural else "a modality or a row"
            raise ValueError(f"entity {empty[0]} of the batch: expected {needed}, got none; leave it out or pass one")
        return present

    def _look_up(self, entity_ids: Tensor, mask: Tensor | None) -> SnagOutput:
        if mask is not None:
            raise ValueError(
                "mask: the tables hold codes of whole entities; pass features too, to encode parts of them"
            )
        has_tokens = self._tables is not None and self._tables.has("tokens")
        return SnagOutput(
            tokens=self._read("tokens", entity_ids) if has_tokens else None,
            pooled=self._read("codes", entity_ids),
            confidence=self._read("confidence", entity_ids),
            mask=self._read("mask", entity_ids),
        )

    def _read(self, column: str, entity_ids: Tensor) -> Tensor:
        if self._tables is None:
            raise ValueError(
                f"entity_ids: {INDEX} does not lie beside the weights; load the whole export, or pass features"
            )
        values = self._tables.read(column, entity_ids.detach().cpu())
        return values.to(self.row_mean.device, None if values.dtype == torch.bool else self.row_mean.dtype)


SnagEncoderConfig.register_for_auto_class()
SnagEncoder.register_for_auto_class("AutoModel")
