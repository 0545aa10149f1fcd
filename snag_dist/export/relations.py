"""The relation table, and the words that say how it makes scores."""

import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from snag_dist.errors import ConfigError
from snag_dist.export.source import RunSource
from snag_dist.model.scorer.rotate import RotatEConfig

RELATION_TABLE = "relations.safetensors"

_CONVENTIONS = {
    "rotate": "a code is D/2 complex numbers, real parts first, then imaginary ones; a relation row holds D/2 numbers, "
    "phase = radians * number; score = margin - |head * exp(i phase) - tail|, where |.| is the sum of the moduli over "
    "coordinates (norm modulus) or the root of the sum of their squares (norm frobenius)",
    "complex": "codes and relation rows are D/2 complex numbers, real parts first, then imaginary parts; score = real "
    "part of the sum over coordinates of head * relation * conj(tail)",
    "distmult": "score = sum over coordinates of head * relation * tail",
    "transe": "score = margin - |head + relation - tail| in the norm given",
    "tucker": "score = sum over k, i, j of core[k, i, j] * relation[k] * head[i] * tail[j]; the core is scorer.core",
}


def describe_scorer(source: RunSource) -> dict[str, Any]:
    """Say how codes and relation rows make a score: the settings, the convention in words, and its constants."""
    config, scorer = source.method.scorer, source.task.scorer
    reciprocal = len(source.task.relations) > source.store.num_relations
    described: dict[str, Any] = {**config.model_dump(mode="json"), "relation_width": scorer.relation_width}
    described |= {"convention": _CONVENTIONS[config.kind] + "; higher is more plausible", "reciprocal": reciprocal}
    if isinstance(config, RotatEConfig):
        described["radians"] = math.pi / (config.relation_range or scorer.relation_bound)
    if reciprocal:
        described["convention"] += "; heads are asked for as the tails of relation R + r, where R is num_relations"
    return described


def write_relation_table(folder: Path, source: RunSource) -> None:
    """Write `relations` (R, relation width), 2 R where there are reciprocal ones, and the scorer's own parameters."""
    tensors = {"relations": source.task.relations.detach()}
    tensors |= {f"scorer.{name}": value.detach() for name, value in source.task.scorer.named_parameters()}
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / RELATION_TABLE)


def wide_relations(source: RunSource) -> Tensor:
    """Relations as wide as entities, (R, D): for RotatE the cosines and sines of their phases, else their rows.

    Raises:
        ConfigError: the scorer's rows have another width and no such form.
    """
    rows = source.task.relations.detach()[: source.store.num_relations]
    width, config = source.encoder.width, source.method.scorer
    if isinstance(config, RotatEConfig):
        unit = torch.cat([torch.ones(len(rows), width // 2), torch.zeros(len(rows), width // 2)], dim=1)
        return source.task.scorer.tail_query(unit, rows)
    if rows.shape[1] != width:
        raise ConfigError(
            f"--to kopa: expected relations as wide as entities ({width}), the scorer {config.kind!r} has "
            f"{rows.shape[1]} columns; export a run with another scorer, or set method.scorer.relation_width"
        )
    return rows
