"""The report of an alignment: what it holds, that it survives JSON, that it is not mistaken for one of completion."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from snag_dist.errors import ConfigError, DataError
from snag_dist.evaluation.alignment_report import (
    AlignmentProtocol,
    AlignmentReport,
    AlignmentResult,
    MiningRecord,
    open_report,
    read_alignment_report,
    read_any_report,
    table_of_alignment,
    table_of_alignment_runs,
)
from snag_dist.evaluation.report import EvaluationReport, Protocol, RankRecord
from snag_dist.ranking.pairs import rank_pairs

# Rows of the identity of size 4; the right list has one row more, which nothing is linked to.
LEFT = torch.eye(4)
RIGHT = torch.cat([torch.eye(4)[[0, 1, 3, 2]], torch.eye(4)[:1]])
PAIRS = np.array([[0, 0], [1, 1], [2, 2]])


def make_protocol(**changes: Any) -> AlignmentProtocol:
    fields: dict[str, Any] = {
        "split": "test",
        "num_pairs": 3,
        "k_csls": 3,
        "selection": "best dev MRR (0.5000)",
        "checkpoint": "step-00000012",
        "seed": 0,
        "stage": "plain",
        "channels": {"vision": "pixels, 256-d, 2 of 9"},
        "store_fingerprint": "abc",
        "train_share": 0.3,
        "dev_share": 0.1,
        "missing": {"vision": 0.4},
        **changes,
    }
    return AlignmentProtocol(**fields)


def make_results() -> list[AlignmentResult]:
    ranks = rank_pairs(LEFT, RIGHT, PAIRS, k_csls=0)
    sizes = {"num_left": 4, "num_right": 5}
    # The similarity named is a label here: plain cosine can be checked by hand.
    return [
        *AlignmentResult.of_ranks(ranks, candidates="counterparts", similarity="csls", **sizes),
        *AlignmentResult.of_ranks(ranks, candidates="all", similarity="cosine", **sizes),
    ]


def make_report(**changes: Any) -> AlignmentReport:
    return AlignmentReport.of(make_protocol(**changes), make_results())


def show(table: Table) -> str:
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(table)
    return console.export_text()


def test_metrics_by_hand() -> None:
    """Left 0 ties with the fifth right row: rank 1.5. Left 1: 1. Left 2: one better, three level of 0: 1 + 1 + 1.5."""
    headline = make_report().headline
    assert (headline.candidates, headline.similarity, headline.direction) == ("counterparts", "csls", "left_to_right")
    assert headline.num_candidates == 5
    assert headline.metrics.num_queries == 3
    assert headline.metrics.realistic.mrr == pytest.approx((1 / 1.5 + 1 + 1 / 3.5) / 3)
    assert headline.metrics.optimistic.hits[1] == pytest.approx(2 / 3)
    assert headline.metrics.pessimistic.mean_rank == pytest.approx((2 + 1 + 5) / 3)


def test_the_other_direction_has_the_other_candidates() -> None:
    """Right 0 and 1 stand first among four; right 2 has one better and two level of 0: 1 + 1 + 1."""
    result = make_report().find("all", "cosine", "right_to_left")
    assert result.num_candidates == 4
    assert result.metrics.realistic.mrr == pytest.approx((1 + 1 + 1 / 3) / 3)


def test_json_holds_everything(tmp_path: Path) -> None:
    mining = [
        MiningRecord(check=1, num_candidates=7, num_promoted=0),
        MiningRecord(check=2, num_candidates=5, num_promoted=2, dev_precision=0.75),
    ]
    report = AlignmentReport.of(make_protocol(stage="iterative"), make_results(), mining)
    path = tmp_path / "run" / "metrics-test.json"
    report.write(path)
    tree = json.loads(path.read_text())
    assert tree["task"] == "alignment"
    assert tree["protocol"]["missing"] == {"vision": 0.4}
    assert tree["mining"][1]["dev_precision"] == 0.75
    assert read_alignment_report(path) == report == read_any_report(path)


def test_reports_of_completion_are_told_apart_with_and_without_their_task(tmp_path: Path) -> None:
    protocol = Protocol(
        split="test",
        num_triples=1,
        num_candidates=3,
        filtered_by=("train",),
        score_dtype="float32",
        selection="s",
        checkpoint="c",
        seed=0,
        channels={},
        store_fingerprint="abc",
    )
    metrics: RankRecord = make_report().headline.metrics
    report = EvaluationReport(protocol=protocol, metrics=metrics, slices=())
    path = tmp_path / "metrics-test.json"
    report.write(path)
    tree = json.loads(path.read_text())
    assert tree.pop("task") == "completion"
    assert read_any_report(path) == report
    path.write_text(json.dumps(tree))
    assert read_any_report(path) == report
    with pytest.raises(DataError, match=r"metrics-test\.json: expected the report of an alignment, got one of compl"):
        read_alignment_report(path)


def test_files_that_are_no_report_are_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    with pytest.raises(DataError, match=r"metrics\.json: expected the report of an evaluation, found none"):
        read_any_report(path)
    path.write_text("{")
    with pytest.raises(DataError, match=r"metrics\.json: expected JSON, got"):
        read_any_report(path)
    path.write_text('{"task": "alignment"}')
    with pytest.raises(ConfigError, match=r"metrics\.json: protocol: required"):
        read_any_report(path)
    with pytest.raises(ConfigError, match="here: task: Input should be 'completion', got 'other'"):
        open_report({**make_report().model_dump(mode="json"), "task": "other"}, "here")
    with pytest.raises(ConfigError, match="here: .*valid dictionary"):
        open_report([], "here")


def test_a_report_without_its_headline_is_refused() -> None:
    with pytest.raises(ValidationError, match="expected the result counterparts, csls, left_to_right among"):
        AlignmentReport.of(make_protocol(), make_results()[1:])
    with pytest.raises(ValidationError, match="expected every way of asking once"):
        AlignmentReport.of(make_protocol(), [*make_results(), make_results()[0]])
    with pytest.raises(DataError, match="step-00000012: expected a result for all, csls, left_to_right, found none"):
        make_report().find("all", "csls", "left_to_right")


def test_a_split_without_links_is_refused() -> None:
    with pytest.raises(DataError, match="split 'valid': expected links to rank, found none; raise the share"):
        AlignmentReport.of(make_protocol(split="valid", num_pairs=0), [])


def test_table_of_one_report_shows_every_way_of_asking_and_the_checks() -> None:
    mining = [MiningRecord(check=1, num_candidates=7, num_promoted=0)]
    text = show(table_of_alignment(AlignmentReport.of(make_protocol(stage="iterative"), make_results(), mining)))
    flat = " ".join(text.split())
    assert "counterparts (5) │ csls │ left to right │ 0.6508 │ 0.3333" in flat
    assert "all (4) │ cosine │ right to left │ 0.7778 │ 0.6667" in flat
    assert "0.4 of vision kept" in flat
    assert "check 1: 7 candidates, 0 promoted, precision on dev unknown" in flat


def test_table_of_runs_shows_headlines_and_the_protocol_once() -> None:
    reports = {"[eva]": make_report(), "snag": make_report(seed=1).model_dump(mode="json")}
    flat = " ".join(show(table_of_alignment_runs(reports)).split())
    assert "[eva] │ plain │ 0.6508" in flat
    assert "snag │ plain │ 0.6508" in flat
    assert flat.count("CSLS over 3; ties realistic; plain stage; checkpoint step-00000012") == 1
