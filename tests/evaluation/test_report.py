"""The report: what it holds, that it survives JSON, and what people see of it."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

from snag_dist.errors import ConfigError, DataError
from snag_dist.evaluation.report import (
    EvaluationReport,
    Protocol,
    evaluate_ranks,
    read_report,
    table_of_runs,
    table_of_slices,
)
from snag_dist.evaluation.slices import EntityFacts
from snag_dist.ranking.ranks import RankTable

FACTS = EntityFacts(degree=np.array([2, 2, 0]), present={}, relations=("likes", "[knows]"))


def make_protocol(**changes: Any) -> Protocol:
    fields: dict[str, Any] = {
        "split": "test",
        "num_triples": 2,
        "num_candidates": 3,
        "filtered_by": ("train", "valid", "test"),
        "score_dtype": "float32",
        "selection": "best dev MRR (0.5000)",
        "checkpoint": "step-00000012",
        "seed": 0,
        "channels": {"text": "hashing, 256-d, 2 of 3"},
        "store_fingerprint": "abc",
        **changes,
    }
    return Protocol(**fields)


def make_table() -> RankTable:
    """Two triples both ways; realistic ranks 1, 2, 1.5, 1."""
    return RankTable(
        head=np.array([0, 0, 1, 1]),
        relation=np.array([0, 0, 1, 1]),
        tail=np.array([1, 1, 2, 2]),
        find_tail=np.array([True, False, True, False]),
        better=np.array([0, 1, 0, 0]),
        equal=np.array([0, 0, 1, 0]),
    )


def make_report() -> EvaluationReport:
    return evaluate_ranks(make_table(), FACTS, make_protocol())


def show(table: Table) -> str:
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(table)
    return console.export_text()


def test_metrics_by_hand() -> None:
    metrics = make_report().metrics
    assert metrics.num_queries == 4
    assert metrics.realistic.mrr == pytest.approx((1 + 1 / 2 + 1 / 1.5 + 1) / 4)
    assert metrics.optimistic.mrr == pytest.approx((1 + 1 / 2 + 1 + 1) / 4)
    assert metrics.pessimistic.mrr == pytest.approx((1 + 1 / 2 + 1 / 2 + 1) / 4)
    assert metrics.realistic.hits == {1: 0.5, 3: 1.0, 10: 1.0}
    assert metrics.realistic.mean_rank == 1.375


def test_json_holds_metrics_protocol_and_slices(tmp_path: Path) -> None:
    report = make_report()
    report.write(tmp_path / "run" / "metrics.json")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["metrics.json"]
    tree = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert tree["protocol"]["filtered_by"] == ["train", "valid", "test"]
    assert tree["protocol"]["tie_rule"].startswith("realistic")
    assert tree["metrics"]["realistic"]["hits"]["3"] == 1.0
    assert {(piece["group"], piece["name"]) for piece in tree["slices"]} >= {
        ("direction", "tail"),
        ("relation", "likes"),
    }
    assert read_report(tmp_path / "run" / "metrics.json") == report


def test_a_split_without_triples_is_refused() -> None:
    with pytest.raises(DataError, match="split 'test': expected triples to rank, found none; ingest"):
        evaluate_ranks(RankTable.concatenate([]), FACTS, make_protocol())


def test_files_that_are_no_report_are_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    with pytest.raises(DataError, match=r"metrics\.json: expected the report of an evaluation, found none"):
        read_report(path)
    path.write_text("{")
    with pytest.raises(DataError, match=r"metrics\.json: expected JSON, got"):
        read_report(path)
    path.write_text("{}")
    with pytest.raises(ConfigError, match=r"metrics\.json: protocol: required"):
        read_report(path)


def test_table_of_runs_shows_every_run_and_the_protocol_once() -> None:
    report = make_report()
    text = show(table_of_runs({"world": report, "world-graph": report.model_dump(mode="json")}))
    rows = [line.split() for line in text.splitlines() if "world" in line]
    assert [[cell for cell in row if cell not in "│┃"] for row in rows] == [
        ["world", "0.7917", "0.5000", "1.0000", "1.0000", "1.4", "4"],
        ["world-graph", "0.7917", "0.5000", "1.0000", "1.0000", "1.4", "4"],
    ]
    flat = " ".join(text.split())
    assert flat.count("filtered by train, valid, test; ties realistic; checkpoint step-00000012") == 1


def test_runs_of_different_protocols_show_both() -> None:
    other = evaluate_ranks(make_table(), FACTS, make_protocol(channels={}, checkpoint="step-00000099"))
    flat = " ".join(show(table_of_runs({"a": make_report(), "b": other})).split())
    assert "step-00000012" in flat
    assert "step-00000099, best dev MRR (0.5000); graph only" in flat


def test_table_of_slices_keeps_the_relations_with_most_queries() -> None:
    report = make_report()
    text = show(table_of_slices(report))
    assert "[knows]" in text
    assert "neither entity" in text
    text = show(table_of_slices(report, max_relations=1))
    assert "(1 relations more)" in text
    assert "[knows]" not in text
