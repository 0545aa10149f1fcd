"""Ranks of linked pairs with the protocol they were measured under: as JSON in a run folder, and as tables for people.

One evaluation answers the question in several ways: among the counterparts of the scored pairs (published) and among
all entities of the other graph (the real one), by CSLS and by plain cosine, in both directions. All of them are kept;
the headline is the published one.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from rich.table import Table
from rich.text import Text

from snag_dist.config import Config, validate
from snag_dist.errors import DataError
from snag_dist.evaluation.report import EvaluationReport, RankRecord, add_metric_columns, metric_cells
from snag_dist.ranking.metrics import RankMetrics
from snag_dist.ranking.pairs import PairRanks
from snag_dist.store.manifest import write_json

Candidates = Literal["counterparts", "all"]
Similarity = Literal["csls", "cosine"]
Direction = Literal["left_to_right", "right_to_left"]
Stage = Literal["plain", "iterative"]
Share = Annotated[float, Field(ge=0, le=1)]


class AlignmentProtocol(Config):
    """What a figure depends on besides the model."""

    split: str
    """The links that were ranked: "test" or "valid"."""
    num_pairs: int
    """P, links of it, each ranked in both directions."""
    k_csls: int = Field(ge=1)
    """Neighbours that CSLS takes the mean of; 3 as published."""
    tie_rule: str = "realistic: mean of the optimistic and the pessimistic rank"
    """Where a counterpart stands among candidates of the same similarity."""
    selection: str
    """How the checkpoint was chosen, and on what."""
    checkpoint: str
    """The checkpoint that was scored."""
    seed: int
    """Seed of the run."""
    stage: Stage
    """`iterative` where the checkpoint was trained on mined pairs too, else `plain`."""
    channels: dict[str, str]
    """What the encoder saw besides the graphs: by modality, the encoder of its vectors and its coverage."""
    store_fingerprint: str
    """sha256 of the store's content."""
    train_share: float = Field(gt=0, lt=1)
    """Share of all links that training and dev got together; .3 (DBP15K) and .2 (OpenEA) as published."""
    dev_share: float = Field(ge=0, lt=1)
    """Share of those that was held out as dev."""
    missing: dict[str, Share] = Field(default_factory=dict)
    """Ratio kept, by modality that was taken from some entities; a modality not named here was left as it came."""


class AlignmentResult(Config):
    """Ranks of all pairs under one way of asking."""

    candidates: Candidates
    """`counterparts` of the scored pairs (published), or `all` entities of the other graph."""
    similarity: Similarity
    """What candidates are compared by."""
    direction: Direction
    """Which side was given and which was asked for."""
    num_candidates: int = Field(ge=1)
    """Candidates of every query, the true counterpart included."""
    metrics: RankRecord
    """Over all pairs."""

    @classmethod
    def of(
        cls,
        metrics: RankMetrics,
        candidates: Candidates,
        similarity: Similarity,
        direction: Direction,
        num_candidates: int,
    ) -> Self:
        """Take the means of metrics over at least one pair."""
        return cls(
            candidates=candidates,
            similarity=similarity,
            direction=direction,
            num_candidates=num_candidates,
            metrics=RankRecord.of(metrics),
        )

    @classmethod
    def of_ranks(
        cls, ranks: PairRanks, *, candidates: Candidates, similarity: Similarity, num_left: int, num_right: int
    ) -> tuple[Self, Self]:
        """Make the results of both directions, left to right first.

        Args:
            ranks: of at least one pair.
            candidates, similarity: what they were ranked among, and by.
            num_left, num_right: length of the lists that were compared.
        """
        to_right, to_left = ranks.metrics()
        right = cls.of(to_right, candidates, similarity, "left_to_right", num_right)
        return right, cls.of(to_left, candidates, similarity, "right_to_left", num_left)


class MiningRecord(Config):
    """One check of the iterative stage."""

    check: int = Field(ge=1)
    """Number of the check, from 1."""
    num_candidates: int = Field(ge=0)
    """Pairs that were mutual nearest at this check and are waiting."""
    num_promoted: int = Field(ge=0)
    """Pairs that have joined the training links so far."""
    dev_precision: float | None = None
    """Share that is right among mined pairs with an end in a dev link; none where no dev link was touched."""


class AlignmentReport(Config):
    """An evaluation of one checkpoint on one split of the links."""

    task: Literal["alignment"] = "alignment"
    """Tells this report from one of completion."""
    protocol: AlignmentProtocol
    """How it was measured."""
    results: tuple[AlignmentResult, ...]
    """One for each way of asking; the headline is among them."""
    mining: tuple[MiningRecord, ...] | None = None
    """Checks of the iterative stage, in their order; none in the plain stage."""

    @model_validator(mode="after")
    def _check_headline(self) -> Self:
        asked = [(result.candidates, result.similarity, result.direction) for result in self.results]
        if HEADLINE not in asked:
            raise ValueError(f"expected the result {', '.join(HEADLINE)} among the results, got {asked}")
        if len(set(asked)) != len(asked):
            raise ValueError(f"expected every way of asking once, got {asked}")
        return self

    @classmethod
    def of(
        cls,
        protocol: AlignmentProtocol,
        results: Iterable[AlignmentResult],
        mining: Iterable[MiningRecord] | None = None,
    ) -> Self:
        """Put results beside their protocol.

        Raises:
            DataError: the split has no links.
        """
        if not protocol.num_pairs:
            raise DataError(
                f"split {protocol.split!r}: expected links to rank, found none; raise the share of links it gets"
            )
        return cls(protocol=protocol, results=tuple(results), mining=None if mining is None else tuple(mining))

    @property
    def headline(self) -> AlignmentResult:
        """Among counterparts, by CSLS, left to right: what the papers print."""
        return self.find(*HEADLINE)

    def find(self, candidates: Candidates, similarity: Similarity, direction: Direction) -> AlignmentResult:
        """Return the result of one way of asking.

        Raises:
            DataError: it was not asked that way.
        """
        for result in self.results:
            if (result.candidates, result.similarity, result.direction) == (candidates, similarity, direction):
                return result
        raise DataError(
            f"report of {self.protocol.checkpoint}: expected a result for {candidates}, {similarity}, {direction}, "
            "found none; evaluate the run again"
        )

    def write(self, path: Path) -> None:
        """Write the report as JSON, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, self.model_dump(mode="json"))


HEADLINE: tuple[Candidates, Similarity, Direction] = ("counterparts", "csls", "left_to_right")
"""What the papers print."""

AnyReport = EvaluationReport | AlignmentReport


def read_alignment_report(path: Path) -> AlignmentReport:
    """Read a report that `AlignmentReport.write` wrote.

    Raises:
        DataError: the file is missing, is not JSON, or is the report of completion.
        ConfigError: it is JSON, but not of a report.
    """
    report = read_any_report(path)
    if isinstance(report, EvaluationReport):
        raise DataError(f"{path}: expected the report of an alignment, got one of completion; pass another run")
    return report


def read_any_report(path: Path) -> AnyReport:
    """Read a report of either task; one that does not name its task is of completion.

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
    return open_report(tree, str(path))


def open_report(tree: Any, place: str) -> AnyReport:
    """Make a report of either task from its plain tree; `place` opens the message.

    Raises:
        ConfigError: the tree is not of a report.
    """
    is_alignment = isinstance(tree, dict) and tree.get("task") == "alignment"
    kind = AlignmentReport if is_alignment else EvaluationReport
    return validate(kind, tree, place, remedy="run jobs/evaluate.py again")


def table_of_alignment(report: AlignmentReport | Mapping[str, Any]) -> Table:
    """Lay out one report: a line for each way of asking, the checks of the iterative stage below."""
    opened = AlignmentReport.model_validate(report)
    table = _new_table("Ranks of linked pairs", [_caption(opened.protocol), *_mining_lines(opened)])
    for header in ("candidates", "similarity", "direction"):
        table.add_column(header)
    add_metric_columns(table)
    previous = None
    for result in opened.results:
        if previous is not None and result.candidates != previous:
            table.add_section()
        previous = result.candidates
        among = f"{result.candidates} ({result.num_candidates})"
        ways = (Text(among), Text(result.similarity), Text(_words(result.direction)))
        table.add_row(*ways, *metric_cells(result.metrics))
    return table


def table_of_alignment_runs(reports: Mapping[str, AlignmentReport | Mapping[str, Any]]) -> Table:
    """Lay out one line a run: the headline metrics, and below them the protocol.

    Args:
        reports: by name of the run, at least one.
    """
    opened = {name: AlignmentReport.model_validate(report) for name, report in reports.items()}
    captions = dict.fromkeys(_caption(report.protocol) for report in opened.values())
    table = _new_table(f"Ranks of linked pairs: {', '.join(HEADLINE).replace('_', ' ')}", captions)
    table.add_column("run")
    table.add_column("stage")
    add_metric_columns(table)
    for name, report in opened.items():
        table.add_row(Text(name), Text(report.protocol.stage), *metric_cells(report.headline.metrics))
    return table


def _new_table(title: str, captions: Iterable[str]) -> Table:
    return Table(title=title, caption=Text("\n".join(captions)), caption_justify="left")


def _caption(protocol: AlignmentProtocol) -> str:
    channels = "; ".join(f"{name}: {text}" for name, text in protocol.channels.items()) or "graphs only"
    missing = "".join(f"; {ratio:g} of {name} kept" for name, ratio in protocol.missing.items())
    return (
        f"{protocol.split} split, {protocol.num_pairs} links; {protocol.train_share:g} of the links known, "
        f"{protocol.dev_share:g} of those for dev; CSLS over {protocol.k_csls}; "
        f"ties {protocol.tie_rule.split(':')[0]}; {protocol.stage} stage; "
        f"checkpoint {protocol.checkpoint}, {protocol.selection}; {channels}{missing}"
    )


def _mining_lines(report: AlignmentReport) -> list[str]:
    return [
        f"check {record.check}: {record.num_candidates} candidates, {record.num_promoted} promoted, precision on dev "
        + ("unknown" if record.dev_precision is None else f"{record.dev_precision:.3f}")
        for record in report.mining or ()
    ]


def _words(name: str) -> str:
    return name.replace("_", " ")
