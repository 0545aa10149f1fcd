"""The split doctor: what makes a benchmark's figures mean something else than they seem to.

Lines that repeat, triples that stand in two splits, relations that are another relation read backwards or
written twice (so that a test triple can be read off a train triple), entities and relations never trained.

All of it is found among triples that link the same two entities. So a graph may be examined in parts, as long as
triples of one pair share a part: what the parts count adds up, and only flags of entities and relations and the counts
of pairs of relations are held beside a part.

Source: Toutanova and Chen, "Observed versus latent features" (2015), which made FB15k-237 of FB15k for this
reason; Akrami et al., "Realistic re-evaluation of knowledge graph completion methods" (SIGMOD 2020), which
set the threshold of 0.8.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from snag_dist.kg.audit_report import AuditConfig, AuditReport, Leak, Overlap, RelationRule, SplitAudit
from snag_dist.kg.graph import SPLITS, Graph
from snag_dist.kg.pair_groups import Bools, Ids, PairGroups

__all__ = ["AuditConfig", "AuditReport", "AuditedParts", "audit", "audit_parts"]


@dataclass(frozen=True)
class AuditedParts:
    """A graph in parts; triples that link the same two entities, whichever way round, lie in the same part.

    Attributes:
        num_entities: E.
        relations: (R,) keys.
        lines: split name to its triples, duplicates counted.
        parts: each returns its triples, split name to (T, 3) int64; called twice where there are several.
        skipped_literals: see `Graph`.
    """

    num_entities: int
    relations: Sequence[str]
    lines: Mapping[str, int]
    parts: Sequence[Callable[[], Mapping[str, Ids]]]
    skipped_literals: Mapping[str, int]


def audit(graph: Graph, coverage: Mapping[str, float] | None = None, config: AuditConfig | None = None) -> AuditReport:
    """Examine the splits of a graph in memory.

    Args:
        graph: any splits may be absent.
        coverage: modality to the share of entities that have it, in [0, 1]; stated in the report as given.
        config: thresholds; the defaults if None.
    """
    lines = {split: len(graph.split(split)) for split in SPLITS if split in graph.triples}
    parts = AuditedParts(graph.num_entities, graph.relations, lines, [lambda: graph.triples], graph.skipped_literals)
    return audit_parts(parts, coverage, config)


def audit_parts(
    graph: AuditedParts, coverage: Mapping[str, float] | None = None, config: AuditConfig | None = None
) -> AuditReport:
    """Examine the splits of a graph, a part at a time.

    Args:
        graph: any splits may be absent.
        coverage, config: see `audit`.
    """
    config = config or AuditConfig()
    counts = _Counts(graph)
    groups: PairGroups | None = None
    for part in graph.parts:
        groups = PairGroups.build(part(), graph.num_entities, len(graph.relations))
        counts.add(groups)
    inverses, near_duplicates = counts.inverses(config), counts.near_duplicates(config)
    held_out = [split for split in ("valid", "test") if split in graph.lines]
    given_away = {split: _GivenAway() for split in held_out}
    for part in graph.parts:
        # What there is only one of was built a moment ago.
        if len(graph.parts) > 1 or groups is None:
            groups = PairGroups.build(part(), graph.num_entities, len(graph.relations))
        for split, found in given_away.items():
            found.add(groups, split, counts, inverses, near_duplicates)
    return AuditReport(
        num_entities=graph.num_entities,
        num_relations=len(graph.relations),
        num_untrained_entities=int((~counts.trained).sum()),
        splits={split: counts.describe(split, given_away.get(split)) for split in counts.present},
        overlaps=tuple(
            Overlap(first=one, second=other, num_triples=counts.overlaps[one, other])
            for one, other in _pairs_of(counts.present)
        ),
        inverses=inverses.named(graph.relations),
        near_duplicates=near_duplicates.named(graph.relations),
        leaks=tuple(
            given_away[split].leak(split, counts.distinct[split]) for split in held_out if "train" in graph.lines
        ),
        coverage=dict(coverage or {}),
        config=config,
    )


def _pairs_of(splits: Sequence[str]) -> list[tuple[str, str]]:
    return [(one, other) for place, one in enumerate(splits) for other in splits[place + 1 :]]


@dataclass(frozen=True)
class _Rules:
    """Relations `sources` imply `targets`, strongest first: their counterparts, and the share of the source's."""

    sources: Ids
    targets: Ids
    counts: Ids
    shares: NDArray[np.float64]

    def named(self, relations: Sequence[str]) -> tuple[RelationRule, ...]:
        return tuple(
            RelationRule(
                source=relations[int(source)],
                target=relations[int(target)],
                share=float(share),
                num_triples=int(count),
            )
            for source, target, count, share in zip(self.sources, self.targets, self.counts, self.shares, strict=True)
        )

    def hold(self, sources: Ids, targets: Ids, num_relations: int) -> Bools:
        """Return whether each pair of relations is one of the rules."""
        return np.isin(sources * num_relations + targets, self.sources * num_relations + self.targets)


class _Counts:
    """What a first pass over the parts adds up."""

    def __init__(self, graph: AuditedParts) -> None:
        self._graph = graph
        self._size = len(graph.relations)
        self.present = [split for split in SPLITS if split in graph.lines]
        self.distinct = dict.fromkeys(self.present, 0)
        self.overlaps = dict.fromkeys(_pairs_of(self.present), 0)
        self._entities = {split: np.zeros(graph.num_entities, dtype=np.bool_) for split in self.present}
        self._relations = {split: np.zeros(self._size, dtype=np.bool_) for split in self.present}
        self.trained = self._entities.get("train", np.zeros(graph.num_entities, dtype=np.bool_))
        self.trained_relations = self._relations.get("train", np.zeros(self._size, dtype=np.bool_))
        self._sizes = np.zeros(self._size, dtype=np.int64)
        self._num_loops = np.zeros(self._size, dtype=np.int64)
        # Pair of relations as source * R + target, ascending, and how often it was met: reversed, and of the same pair.
        self._met = {turned: (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)) for turned in (True, False)}

    def add(self, groups: PairGroups) -> None:
        """Count a part."""
        within = {split: groups.within(split) for split in self.present}
        for split, here in within.items():
            self.distinct[split] += int(here.sum())
            self._entities[split][groups.heads[here]] = True
            self._entities[split][groups.tails[here]] = True
            self._relations[split][groups.relations[here]] = True
        for one, other in self.overlaps:
            self.overlaps[one, other] += int((within[one] & within[other]).sum())
        self._sizes += np.bincount(groups.relations, minlength=self._size)
        self._num_loops += np.bincount(groups.relations[groups.loops()], minlength=self._size)
        of, other = groups.neighbours(groups.shared())
        pairs = groups.relations[of] * self._size + groups.relations[other]
        reverse = groups.turned[of] != groups.turned[other]
        self._meet(True, pairs[reverse])
        self._meet(False, pairs[~reverse & (of != other)])

    def _meet(self, reverse: bool, pairs: Ids) -> None:
        known, counts = self._met[reverse]
        new, num = np.unique(pairs, return_counts=True)
        together, place = np.unique(np.concatenate([known, new]), return_inverse=True)
        sums = np.bincount(place, weights=np.concatenate([counts, num]), minlength=len(together))
        self._met[reverse] = together, sums.astype(np.int64)

    def inverses(self, config: AuditConfig) -> _Rules:
        """Return which relations are another read backwards; a loop is its own reverse whatever it means."""
        return self._rules(True, self._sizes - self._num_loops, config)

    def near_duplicates(self, config: AuditConfig) -> _Rules:
        """Return which relations are another one written twice."""
        return self._rules(False, self._sizes, config)

    def _rules(self, reverse: bool, sizes: Ids, config: AuditConfig) -> _Rules:
        pairs, counts = self._met[reverse]
        sources, targets = np.divmod(pairs, max(1, self._size))
        shares = counts / sizes[sources]
        kept = np.flatnonzero((shares >= config.threshold) & (counts >= config.min_support))
        order = kept[np.lexsort((targets[kept], sources[kept], -counts[kept], -shares[kept]))]
        return _Rules(sources[order], targets[order], counts[order], shares[order])

    def describe(self, split: str, given_away: "_GivenAway | None") -> SplitAudit:
        """Return the counts of one split."""
        new_relations = np.flatnonzero(self._relations[split] & ~self.trained_relations)
        return SplitAudit(
            num_lines=self._graph.lines[split],
            num_distinct=self.distinct[split],
            num_duplicates=self._graph.lines[split] - self.distinct[split],
            num_skipped_literals=self._graph.skipped_literals.get(split, 0),
            num_unseen_entities=int((self._entities[split] & ~self.trained).sum()),
            num_unseen_triples=0 if given_away is None else given_away.num_unseen,
            unseen_relations=tuple(self._graph.relations[int(row)] for row in new_relations),
        )


class _GivenAway:
    """What a second pass adds up for a split that is not train: triples that train gives away, or never prepares."""

    def __init__(self) -> None:
        self.num_unseen = 0
        self._num_by_inverse = 0
        self._num_by_near_duplicate = 0
        self._num_by_either = 0

    def add(self, groups: PairGroups, split: str, counts: _Counts, inverses: _Rules, near_duplicates: _Rules) -> None:
        """Count a part."""
        here = groups.within(split)
        rows = np.flatnonzero(here)
        seen = counts.trained[groups.heads[rows]] & counts.trained[groups.tails[rows]]
        self.num_unseen += int((~(seen & counts.trained_relations[groups.relations[rows]])).sum())
        of, other = groups.neighbours(rows)
        trained = groups.within("train")[other]
        of, other = of[trained], other[trained]
        sources, targets = groups.relations[other], groups.relations[of]
        reverse = groups.turned[of] != groups.turned[other]
        size, loops = len(counts.trained_relations), groups.loops()[of]
        by_inverse, by_near_duplicate = np.zeros_like(here), np.zeros_like(here)
        by_inverse[of[(reverse | loops) & inverses.hold(sources, targets, size)]] = True
        by_near_duplicate[of[~reverse & near_duplicates.hold(sources, targets, size)]] = True
        self._num_by_inverse += int(by_inverse.sum())
        self._num_by_near_duplicate += int(by_near_duplicate.sum())
        self._num_by_either += int((by_inverse | by_near_duplicate).sum())

    def leak(self, split: str, num_distinct: int) -> Leak:
        """Return the sums."""
        return Leak(
            split=split,
            num_by_inverse=self._num_by_inverse,
            num_by_near_duplicate=self._num_by_near_duplicate,
            num_by_either=self._num_by_either,
            share=self._num_by_either / max(1, num_distinct),
        )
