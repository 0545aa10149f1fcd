"""What the audit found: a report that is written as JSON, and the same in plain lines for people."""

from pydantic import Field

from snag_dist.config import Config

# Relation rules printed per kind; the JSON has all of them.
_NUM_RULES_SHOWN = 10
_HEADER = (
    "split",
    "lines",
    "distinct",
    "repeated",
    "unseen entities",
    "unseen relations",
    "triples with unseen",
)


class AuditConfig(Config):
    """What counts as the same relation."""

    threshold: float = Field(default=0.8, gt=0, le=1)
    """Share of a relation's triples that must have a counterpart (Akrami et al., 2020)."""
    min_support: int = Field(default=10, ge=1)
    """Counterparts needed at least, so that a relation of three triples is not called another's inverse."""


class SplitAudit(Config):
    """One split by itself and next to train."""

    num_lines: int
    num_distinct: int
    num_duplicates: int
    """Lines that repeat an earlier line of the same split."""
    num_skipped_literals: int
    """Statements left out by the reader because their object is a literal."""
    num_unseen_entities: int
    """Entities of this split that no train triple has; 0 for train itself."""
    num_unseen_triples: int
    """Distinct triples of this split with an entity or relation that no train triple has."""
    unseen_relations: tuple[str, ...]
    """Keys of the relations of this split that no train triple has."""


class Overlap(Config):
    """Triples that two splits share."""

    first: str
    second: str
    num_triples: int
    """Distinct triples in both."""


class RelationRule(Config):
    """`source` implies `target`: of the same pair (near-duplicate) or of the reversed pair (inverse)."""

    source: str
    target: str
    """The same key as `source`: the relation is symmetric."""
    share: float
    """Share of the triples of `source` whose counterpart is a triple of `target`, over all splits."""
    num_triples: int
    """Triples of `source` with such a counterpart."""


class Leak(Config):
    """Triples of a split that a train triple gives away through a rule."""

    split: str
    num_by_inverse: int
    """Distinct triples whose reverse stands in train under a relation that implies theirs."""
    num_by_near_duplicate: int
    """Distinct triples whose head and tail stand in train under a relation that implies theirs."""
    num_by_either: int
    share: float
    """Of the split's distinct triples, by either."""


class AuditReport(Config):
    """All findings; `model_dump_json` writes them."""

    num_entities: int
    num_relations: int
    num_untrained_entities: int
    """Entities that no train triple has, whether or not another split has them."""
    splits: dict[str, SplitAudit]
    overlaps: tuple[Overlap, ...]
    inverses: tuple[RelationRule, ...]
    """Strongest first."""
    near_duplicates: tuple[RelationRule, ...]
    """Strongest first."""
    leaks: tuple[Leak, ...]
    coverage: dict[str, float]
    """Modality to the share of entities that have it."""
    config: AuditConfig

    def problems(self) -> list[str]:
        """Return one sentence per finding that makes the splits unfit to select or to test on."""
        repeated = [
            f"{split} repeats {counts.num_duplicates:,} of its {counts.num_lines:,} lines"
            for split, counts in self.splits.items()
            if counts.num_duplicates
        ]
        shared: list[str] = []
        for overlap in self.overlaps:
            # Told from the side of the smaller promise: valid must be free of both, test of train.
            sides = (overlap.first, overlap.second)
            of, other = sides if overlap.first == "valid" else sides[::-1]
            if overlap.num_triples:
                share = overlap.num_triples / self.splits[of].num_distinct
                shared.append(
                    f"{overlap.num_triples:,} distinct {of} triples stand in {other} too ({share:.1%} of {of})"
                )
        return repeated + shared

    def lines(self) -> list[str]:
        """Return the report as plain lines."""
        text = [
            f"{self.num_entities:,} entities, {self.num_relations:,} relations; "
            f"{self.num_untrained_entities:,} entities are in no train triple"
        ]
        text += _align([_HEADER, *(_cells(split, counts) for split, counts in self.splits.items())])
        literals = {split: counts.num_skipped_literals for split, counts in self.splits.items()}
        if any(literals.values()):
            text.append("literals left out: " + ", ".join(f"{split} {n:,}" for split, n in literals.items()))
        if self.overlaps:
            pairs = (f"{overlap.first}-{overlap.second} {overlap.num_triples:,}" for overlap in self.overlaps)
            text.append("triples in two splits: " + ", ".join(pairs))
        limit = f"share >= {self.config.threshold:g}, support >= {self.config.min_support}"
        text += _rule_lines(f"inverse relations ({limit})", self.inverses, "reversed")
        text += _rule_lines(f"near-duplicate relations ({limit})", self.near_duplicates, "same pair")
        text += [
            f"{leak.split}: {leak.num_by_either:,} triples ({leak.share:.1%}) can be read off train: "
            f"{leak.num_by_inverse:,} by an inverse, {leak.num_by_near_duplicate:,} by a near-duplicate"
            for leak in self.leaks
        ]
        if self.coverage:
            shares = (f"{modality} {share:.1%}" for modality, share in self.coverage.items())
            text.append("entities that have a modality: " + ", ".join(shares))
        problems = self.problems()
        text += [f"problem: {problem}" for problem in problems]
        return [*text, "a repair would make clean splits"] if problems else text


def _cells(split: str, counts: SplitAudit) -> tuple[str, ...]:
    numbers = (
        counts.num_lines,
        counts.num_distinct,
        counts.num_duplicates,
        counts.num_unseen_entities,
        len(counts.unseen_relations),
        counts.num_unseen_triples,
    )
    return (split, *(f"{number:,}" for number in numbers))


def _align(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
        )
        for row in rows
    ]


def _rule_lines(title: str, rules: tuple[RelationRule, ...], how: str) -> list[str]:
    shown = [
        f"  {rule.share:.3f} of {rule.source} ({rule.num_triples:,} triples) "
        + ("is symmetric" if rule.source == rule.target else f"is {rule.target}, {how}")
        for rule in rules[:_NUM_RULES_SHOWN]
    ]
    more = [f"  and {len(rules) - len(shown)} more"] if len(rules) > len(shown) else []
    return [f"{title}: {len(rules)}", *shown, *more]
