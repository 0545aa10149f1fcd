"""The split doctor: what makes a benchmark's figures mean something else than they seem to.

Lines that repeat, triples that stand in two splits, relations that are another relation read backwards or
written twice (so that a test triple can be read off a train triple), entities and relations never trained.

Source: Toutanova and Chen, "Observed versus latent features" (2015), which made FB15k-237 of FB15k for this
reason; Akrami et al., "Realistic re-evaluation of knowledge graph completion methods" (SIGMOD 2020), which
set the threshold of 0.8.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from snag_dist.kg.audit_report import AuditConfig, AuditReport, Leak, Overlap, RelationRule, SplitAudit
from snag_dist.kg.graph import SPLITS, Graph, encode_triples

__all__ = ["AuditConfig", "AuditReport", "audit"]

Ids = NDArray[np.int64]


def audit(graph: Graph, coverage: Mapping[str, float] | None = None, config: AuditConfig | None = None) -> AuditReport:
    """Examine the splits of a graph. Sorting only: seconds for millions of triples.

    Args:
        graph: any splits may be absent.
        coverage: modality to the share of entities that have it, in [0, 1]; stated in the report as given.
        config: thresholds; the defaults if None.
    """
    config = config or AuditConfig()
    present = [split for split in SPLITS if split in graph.triples]
    codes = encode_triples(graph)
    # Distinct triples by split, and the rows they first stand in.
    distinct = {split: graph.split(split)[np.unique(codes[split], return_index=True)[1]] for split in present}
    everything = graph.all_triples()[np.unique(np.concatenate(list(codes.values())), return_index=True)[1]]
    inverses = _find_rules(graph, everything, config, reverse=True)
    near_duplicates = _find_rules(graph, everything, config, reverse=False)
    return AuditReport(
        num_entities=graph.num_entities,
        num_relations=graph.num_relations,
        num_untrained_entities=int((~_trained_entities(graph)).sum()),
        splits={split: _audit_split(graph, split, distinct[split]) for split in present},
        overlaps=tuple(
            Overlap(first=one, second=other, num_triples=len(np.intersect1d(codes[one], codes[other])))
            for position, one in enumerate(present)
            for other in present[position + 1 :]
        ),
        inverses=_name_rules(graph, inverses),
        near_duplicates=_name_rules(graph, near_duplicates),
        leaks=tuple(
            _find_leaks(graph, split, distinct, inverses, near_duplicates)
            for split in ("valid", "test")
            if split in distinct and "train" in distinct
        ),
        coverage=dict(coverage or {}),
        config=config,
    )


def _trained_entities(graph: Graph) -> NDArray[np.bool_]:
    trained = np.zeros(graph.num_entities, dtype=np.bool_)
    trained[graph.split("train")[:, [0, 2]].ravel()] = True
    return trained


def _audit_split(graph: Graph, split: str, distinct: Ids) -> SplitAudit:
    new_entity = ~_trained_entities(graph)
    new_relation = np.ones(graph.num_relations, dtype=np.bool_)
    new_relation[graph.split("train")[:, 1]] = False
    touches = new_entity[distinct[:, 0]] | new_entity[distinct[:, 2]] | new_relation[distinct[:, 1]]
    entities = np.unique(distinct[:, [0, 2]])
    new_relations = np.unique(distinct[new_relation[distinct[:, 1]], 1])
    return SplitAudit(
        num_lines=len(graph.split(split)),
        num_distinct=len(distinct),
        num_duplicates=len(graph.split(split)) - len(distinct),
        num_skipped_literals=graph.skipped_literals.get(split, 0),
        num_unseen_entities=int(new_entity[entities].sum()),
        num_unseen_triples=int(touches.sum()),
        unseen_relations=tuple(graph.relations[int(row)] for row in new_relations),
    )


# A rule inside this module: (source relation, target relation, counterparts, share).
_Rules = tuple[Ids, Ids, Ids, NDArray[np.float64]]


def _find_rules(graph: Graph, triples: Ids, config: AuditConfig, *, reverse: bool) -> _Rules:
    """Count, for every pair of relations, the triples of one with a counterpart in the other.

    Args:
        triples: (T, 3) distinct.
        reverse: the counterpart of (h, r, t) is (t, s, h), else (h, s, t) with s other than r.
    """
    if reverse:
        # A loop is its own reverse whatever the relation means.
        triples = triples[triples[:, 0] != triples[:, 2]]
    of, target = _match(graph, triples, triples, reverse=reverse)
    source = triples[of, 1]
    if not reverse:
        source, target = source[source != target], target[source != target]
    pairs, counts = np.unique(source * graph.num_relations + target, return_counts=True)
    sizes = np.bincount(triples[:, 1], minlength=graph.num_relations)
    sources, targets = pairs // graph.num_relations, pairs % graph.num_relations
    shares = counts / sizes[sources]
    kept = (shares >= config.threshold) & (counts >= config.min_support)
    sources, targets, counts, shares = sources[kept], targets[kept], counts[kept], shares[kept]
    order = np.lexsort((targets, sources, -counts, -shares))
    return sources[order], targets[order], counts[order].astype(np.int64, copy=False), shares[order]


def _match(graph: Graph, queries: Ids, triples: Ids, *, reverse: bool) -> tuple[Ids, Ids]:
    """Join triples on their (head, tail).

    Returns:
        For every match, the row in `queries` and the relation of the triple in `triples` that has the same
        head and tail (with `reverse`, the two exchanged).
    """
    size = graph.num_entities
    head, tail = (2, 0) if reverse else (0, 2)
    wanted = queries[:, head] * size + queries[:, tail]
    codes = triples[:, 0] * size + triples[:, 2]
    order = np.argsort(codes, kind="stable")
    codes = codes[order]
    starts = np.searchsorted(codes, wanted, side="left")
    lengths = np.searchsorted(codes, wanted, side="right") - starts
    of = np.repeat(np.arange(len(queries), dtype=np.int64), lengths)
    within = np.arange(len(of), dtype=np.int64) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return of, triples[order[np.repeat(starts, lengths) + within], 1]


def _name_rules(graph: Graph, rules: _Rules) -> tuple[RelationRule, ...]:
    return tuple(
        RelationRule(
            source=graph.relations[int(source)],
            target=graph.relations[int(target)],
            share=float(share),
            num_triples=int(count),
        )
        for source, target, count, share in zip(*rules, strict=True)
    )


def _find_leaks(
    graph: Graph, split: str, distinct: Mapping[str, Ids], inverses: _Rules, near_duplicates: _Rules
) -> Leak:
    triples = distinct[split]
    leaked = {
        reverse: _leaked_rows(graph, triples, distinct["train"], rules, reverse=reverse)
        for reverse, rules in ((True, inverses), (False, near_duplicates))
    }
    num_by_either = int((leaked[True] | leaked[False]).sum())
    return Leak(
        split=split,
        num_by_inverse=int(leaked[True].sum()),
        num_by_near_duplicate=int(leaked[False].sum()),
        num_by_either=num_by_either,
        share=num_by_either / max(1, len(triples)),
    )


def _leaked_rows(graph: Graph, triples: Ids, train: Ids, rules: _Rules, *, reverse: bool) -> NDArray[np.bool_]:
    """Return (T,) whether a train triple implies the triple: the train triple is the source of the rule."""
    of, source = _match(graph, triples, train, reverse=reverse)
    known = rules[0] * graph.num_relations + rules[1]
    leaked = np.zeros(len(triples), dtype=np.bool_)
    leaked[of[np.isin(source * graph.num_relations + triples[of, 1], known)]] = True
    return leaked
