"""Metrics with the protocol they were measured under: as JSON beside the ranks, and as tables for people.

A figure without its protocol cannot be compared: which candidates, which known-true ones left out, how ties
count, which split chose the checkpoint. So no metric leaves this module alone.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from rich.table import Table
from rich.text import Text

from snag_dist.config import Config, validate
from snag_dist.errors import DataError
from snag_dist.evaluation.slices import RELATION, EntityFacts, Slice, cut
from snag_dist.ranking.metrics import HITS_AT, RankMetrics, RankSums
from snag_dist.ranking.ranks import RankTable
from snag_dist.store.manifest import write_json
from snag_dist.store.opened import Store


class Protocol(Config):
    """What a figure depends on besides the model."""

    split: str
    """The split whose triples were ranked."""
    num_triples: int
    """Triples of it, each ranked in both directions."""
    directions: tuple[str, ...] = ("tail", "head")
    """Sides asked for; metrics are means over both together."""
    num_candidates: int
    """E: every entity is a candidate in every query, known-true ones apart."""
    filtered_by: tuple[str, ...]
    """Splits whose triples are known true: their other answers do not count as candidates."""
    tie_rule: str = "realistic: mean of the optimistic and the pessimistic rank"
    """Where an answer stands among candidates of the same score."""
    score_dtype: str
    """Number format the scores were computed in."""
    selection: str
    """How the checkpoint was chosen, and on what."""
    checkpoint: str
    """The checkpoint that was scored."""
    seed: int
    """Seed of the run."""
    channels: dict[str, str]
    """What the encoder saw besides the graph: by modality, the encoder of its vectors and its coverage."""
    store_fingerprint: str
    """sha256 of the store's content."""


class MetricsRecord(Config):
    """Metrics of one kind of rank."""

    mrr: float
    """Mean reciprocal rank, in (0, 1]."""
    mean_rank: float
    """Mean rank, from 1."""
    hits: dict[int, float]
    """Share of queries with rank <= k, by k."""

    @classmethod
    def of(cls, sums: RankSums) -> Self:
        """Take the means of sums over at least one query."""
        return cls(mrr=sums.mrr, mean_rank=sums.mean_rank, hits={k: sums.hits(k) for k in HITS_AT})


class RankRecord(Config):
    """Metrics over a set of queries; `realistic` is the headline."""

    num_queries: int
    """Queries: a triple with one side asked for."""
    realistic: MetricsRecord
    """An answer stands in the middle of the candidates that tie with it."""
    optimistic: MetricsRecord
    """It stands first among them: the rule of many released codes, under which constant scores are perfect."""
    pessimistic: MetricsRecord
    """It stands last among them."""

    @classmethod
    def of(cls, metrics: RankMetrics) -> Self:
        """Take the means of metrics over at least one query."""
        return cls(
            num_queries=metrics.count,
            realistic=MetricsRecord.of(metrics.realistic),
            optimistic=MetricsRecord.of(metrics.optimistic),
            pessimistic=MetricsRecord.of(metrics.pessimistic),
        )


class SliceRecord(Config):
    """Metrics over a slice of the queries."""

    group: str
    """What the queries were cut by."""
    name: str
    """Which of them these are."""
    metrics: RankRecord
    """Over these."""

    @classmethod
    def of(cls, piece: Slice) -> Self:
        """Take the means of a slice."""
        return cls(group=piece.group, name=piece.name, metrics=RankRecord.of(piece.metrics))


class EvaluationReport(Config):
    """An evaluation of one checkpoint on one split."""

    task: Literal["completion"] = "completion"
    """Tells this report from one of alignment; older files do not have it."""
    protocol: Protocol
    """How it was measured."""
    metrics: RankRecord
    """Over all queries."""
    slices: tuple[SliceRecord, ...]
    """Over parts of them, by group."""

    def write(self, path: Path) -> None:
        """Write the report as JSON, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, self.model_dump(mode="json"))


def read_report(path: Path) -> EvaluationReport:
    """Read a report that `EvaluationReport.write` wrote.

    Raises:
        DataError: the file is missing or is not JSON.
        ConfigError: it is JSON, but not of a report.
    """
    if not path.is_file():
        raise DataError(f"{path}: expected the report of an evaluation, found none; run jobs/evaluate.py")
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: expected JSON, got: {error}; run jobs/evaluate.py again") from error
    return validate(EvaluationReport, tree, str(path), remedy="run jobs/evaluate.py again")


def evaluate_ranks(table: RankTable, facts: EntityFacts, protocol: Protocol) -> EvaluationReport:
    """Turn ranks into a report.

    Args:
        table: of every query of the split.
        facts: of the store, for the slices.
        protocol: how the ranks came about.

    Raises:
        DataError: the split has no triples.
    """
    if not len(table):
        raise DataError(
            f"split {protocol.split!r}: expected triples to rank, found none; ingest a source that has this split"
        )
    return EvaluationReport(
        protocol=protocol,
        metrics=RankRecord.of(RankMetrics.of(table)),
        slices=tuple(SliceRecord.of(piece) for piece in cut(table, facts)),
    )


def describe_channels(store: Store, modalities: tuple[str, ...]) -> dict[str, str]:
    """Say in words where the vectors of each modality come from: figures on other channels do not compare.

    Raises:
        DataError: the store lacks a modality.
    """
    manifests = {name: store.feature(name) for name in modalities}
    return {
        name: f"{manifest.encoder.name}, {manifest.width}-d, {manifest.num_present} of {manifest.num_entities}"
        for name, manifest in manifests.items()
    }


ReportLike = EvaluationReport | Mapping[str, Any]
"""A report, or the plain tree of one."""


def table_of_runs(reports: Mapping[str, ReportLike]) -> Table:
    """Lay out one line a run: the headline metrics, and below them the protocol.

    Args:
        reports: by name of the run, at least one.
    """
    opened = {name: EvaluationReport.model_validate(report) for name, report in reports.items()}
    captions = dict.fromkeys(_caption(report.protocol) for report in opened.values())
    table = Table(title="Ranks", caption=Text("\n".join(captions)), caption_justify="left")
    table.add_column("run")
    add_metric_columns(table)
    for name, report in opened.items():
        table.add_row(Text(name), *metric_cells(report.metrics))
    return table


def table_of_slices(report: ReportLike, *, max_relations: int = 10) -> Table:
    """Lay out a report by slice; the relations with most queries stand for all of them.

    Args:
        report: of one run.
        max_relations: relations shown; the JSON has all.
    """
    opened = EvaluationReport.model_validate(report)
    table = Table(title="Ranks by slice", caption=Text(_caption(opened.protocol)), caption_justify="left")
    table.add_column("slice")
    add_metric_columns(table)
    table.add_row("all", *metric_cells(opened.metrics), end_section=True)
    relations = sorted(
        (piece for piece in opened.slices if piece.group == RELATION), key=lambda piece: -piece.metrics.num_queries
    )
    others = [piece for piece in opened.slices if piece.group != RELATION]
    group = None
    for piece in others + relations[:max_relations]:
        if piece.group != group:
            group = piece.group
            table.add_section()
            table.add_row(Text(group, style="bold"))
        # As text: square brackets in a relation's key are no markup.
        table.add_row(Text(f"  {piece.name}"), *metric_cells(piece.metrics))
    if len(relations) > max_relations:
        table.add_row(f"  ({len(relations) - max_relations} relations more)")
    return table


def add_metric_columns(table: Table) -> None:
    """Add the columns that `metric_cells` fills."""
    for header in ("MRR", *(f"H@{k}" for k in HITS_AT), "MR", "queries"):
        table.add_column(header, justify="right")


def metric_cells(metrics: RankRecord) -> list[str]:
    """Write the headline metrics, one cell a column of `add_metric_columns`."""
    means = metrics.realistic
    hits = (f"{means.hits[k]:.4f}" for k in HITS_AT)
    return [f"{means.mrr:.4f}", *hits, f"{means.mean_rank:.1f}", str(metrics.num_queries)]


def _caption(protocol: Protocol) -> str:
    channels = "; ".join(f"{name}: {text}" for name, text in protocol.channels.items()) or "graph only"
    return (
        f"{protocol.split} split, {' and '.join(protocol.directions)} among {protocol.num_candidates} entities, "
        f"filtered by {', '.join(protocol.filtered_by)}; ties {protocol.tie_rule.split(':')[0]}; "
        f"checkpoint {protocol.checkpoint}, {protocol.selection}; {channels}"
    )
