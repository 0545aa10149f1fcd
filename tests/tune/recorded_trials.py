"""Run folders of trials without a training behind them: real recipes and files, figures chosen by the test."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from snag_dist.evaluation.report import EvaluationReport, MetricsRecord, Protocol, RankRecord
from snag_dist.tune.config import Sweep
from snag_dist.tune.trial import Trial


def record_trial(trial: Trial, curve: Sequence[float], *, state: str, begun: float, error: str = "") -> None:
    """Write what a trial leaves behind: an evaluation every 10 epochs, 10 seconds each, from second `begun`."""
    trial.begin()
    lines = [
        {"step": 10 * it, "epoch": 10 * it, "time": begun + 10 * it, "stage": "plain", "dev": {"mrr": mrr}}
        for it, mrr in enumerate(curve, start=1)
    ]
    trial.folder.log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    trial.folder.write_status(state=state, error=error)


def record_test(trial: Trial, mrr: float) -> None:
    """Write the report of the test split."""
    means = MetricsRecord(mrr=mrr, mean_rank=5.0, hits={1: mrr - 0.1, 3: mrr, 10: mrr + 0.1})
    record = RankRecord(num_queries=10, realistic=means, optimistic=means, pessimistic=means)
    protocol = Protocol(
        split="test",
        num_triples=5,
        num_candidates=9,
        filtered_by=("train", "valid", "test"),
        score_dtype="float32",
        selection="best dev MRR",
        checkpoint="step-00000001",
        seed=trial.seed,
        channels={},
        store_fingerprint="abc",
    )
    EvaluationReport(protocol=protocol, metrics=record, slices=()).write(trial.folder.metrics("test"))
    trial.folder.write_status(state="finished")


def record_sweep(sweep: Sweep, figures: Mapping[tuple[float, float], Sequence[float]], fields: tuple[str, str]) -> Any:
    """Record a trained trial a seed for every (rho, epsilon), its dev curve rising to the figure given."""
    trials: dict[tuple[float, float], list[Trial]] = {}
    begun = 1000.0
    for strengths, values in figures.items():
        for seed, value in enumerate(values):
            trial = sweep.trial(dict(zip(fields, strengths, strict=True)), seed)
            record_trial(trial, [0.5 * value, 0.8 * value, value], state="trained", begun=begun)
            trials.setdefault(strengths, []).append(trial)
            begun += 60.0
    return trials
