"""Folders of finished runs without a training behind them: real recipes and reports, figures chosen by the test."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snag_dist.evaluation.alignment_report import AlignmentProtocol, AlignmentReport, AlignmentResult
from snag_dist.evaluation.modality_weights import ModalityWeights
from snag_dist.evaluation.report import EvaluationReport, MetricsRecord, Protocol, RankRecord
from snag_dist.training.recipe import Recipe
from snag_dist.training.run_folder import RunFolder

CHANNELS = {"text": "hashing, 256-d, 9 of 9", "vision": "pixels, 64-d, 8 of 9"}
WAYS = [
    (candidates, similarity, direction)
    for candidates in ("counterparts", "all")
    for similarity in ("csls", "cosine")
    for direction in ("left_to_right", "right_to_left")
]


def write_run(runs: Path, name: str, *, state: str = "finished", missing: Any = None, **changes: Any) -> RunFolder:
    """Write recipe and status of a run; the report is written apart."""
    tree = {
        "name": name,
        "runs": str(runs),
        "store": "stores/world",
        "ingest": {"source": {"kind": "world"}},
        **changes,
    }
    config = Recipe.model_validate(tree).to_tree()
    folder = RunFolder(runs / name)
    folder.write_status(state=state)
    folder.config.write_text(json.dumps({**config, **({} if missing is None else {"missing": missing})}))
    return folder


def record(mrr: float) -> RankRecord:
    """Metrics that all follow from one number: H@1 is .1 below the MRR, H@3 .05 and H@10 .1 above it."""
    hits = {1: mrr - 0.1, 3: mrr + 0.05, 10: mrr + 0.1}
    means = MetricsRecord(mrr=mrr, mean_rank=100 * (1 - mrr), hits=hits)
    return RankRecord(num_queries=10, realistic=means, optimistic=means, pessimistic=means)


def completion_report(mrr: float, seed: int, **changes: Any) -> EvaluationReport:
    """Report of completion."""
    fields: dict[str, Any] = {
        "split": "test",
        "num_triples": 5,
        "num_candidates": 9,
        "filtered_by": ("train", "valid", "test"),
        "score_dtype": "float32",
        "selection": f"best dev MRR ({mrr:.4f}), evaluated every 10 epochs",
        "checkpoint": f"step-0000000{seed}",
        "seed": seed,
        "channels": CHANNELS,
        "store_fingerprint": "abc",
        **changes,
    }
    return EvaluationReport(protocol=Protocol(**fields), metrics=record(mrr), slices=())


def alignment_report(
    mrr: float, seed: int, *, stage: str = "plain", missing: Mapping[str, float] | None = None, **changes: Any
) -> AlignmentReport:
    """Report of an alignment; every way of asking after the headline is .01 worse than the one before."""
    fields: dict[str, Any] = {
        "split": "test",
        "num_pairs": 10,
        "k_csls": 3,
        "selection": f"best dev MRR ({mrr:.4f}) among all entities by cosine",
        "checkpoint": f"step-0000000{seed}",
        "seed": seed,
        "stage": stage,
        "channels": CHANNELS,
        "store_fingerprint": "abc",
        "train_share": 0.3,
        "dev_share": 0.1,
        "missing": missing or {},
        **changes,
    }
    results = [
        AlignmentResult.model_validate(
            {
                "candidates": candidates,
                "similarity": similarity,
                "direction": direction,
                "num_candidates": 10 if candidates == "counterparts" else 20,
                "metrics": record(mrr - 0.01 * place),
            }
        )
        for place, (candidates, similarity, direction) in enumerate(WAYS)
    ]
    return AlignmentReport.of(AlignmentProtocol(**fields), results)


def make_weights(graph: float) -> ModalityWeights:
    """Weights of entities with and without a picture."""
    both = {"graph": graph, "text": 0.6 - graph / 2, "vision": 0.4 - graph / 2}
    patterns = [
        {"present": ("graph", "text", "vision"), "num_entities": 8, "mean": both},
        {"present": ("graph", "text"), "num_entities": 1, "mean": {"graph": graph, "text": 1 - graph, "vision": 0.0}},
    ]
    return ModalityWeights.model_validate({"names": ("graph", "text", "vision"), "patterns": patterns})
