"""The audit of a graph small enough to count by hand, and of the published ones."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from snag_dist.kg.audit import AuditConfig, AuditReport, audit
from snag_dist.kg.formats import read_openke
from snag_dist.kg.graph import Graph

PARENT, CHILD, SPOUSE, MOTHER, OTHER = range(5)
RELATIONS = ("parent", "child", "spouse", "mother", "other")
FAMILY = {
    "train": [
        *[(0, PARENT, 1), (1, PARENT, 2), (2, PARENT, 3), (3, PARENT, 4)],
        *[(1, CHILD, 0), (2, CHILD, 1), (3, CHILD, 2), (5, CHILD, 6)],
        *[(7, SPOUSE, 8), (8, SPOUSE, 7), (9, SPOUSE, 10), (11, SPOUSE, 11)],
        *[(0, MOTHER, 1), (1, MOTHER, 2), (12, MOTHER, 13)],
    ],
    # The first repeats; the last is a train triple.
    "valid": [(12, PARENT, 13), (12, PARENT, 13), (0, PARENT, 1)],
    # The first is the reverse of a train triple; the second has a new entity and a new relation.
    "test": [(4, CHILD, 3), (14, OTHER, 0)],
}
CONFIG = AuditConfig(threshold=0.8, min_support=2)


def family(**changes: list[tuple[int, int, int]]) -> Graph:
    splits = {name: np.array(rows, dtype=np.int64) for name, rows in (FAMILY | changes).items()}
    # Entity 15 is in no triple at all.
    return Graph(tuple(f"e{row}" for row in range(16)), RELATIONS, splits)


@pytest.fixture(scope="module")
def report() -> AuditReport:
    return audit(family(), {"text": 1.0, "vision": 0.75}, CONFIG)


def test_lines_and_duplicates(report: AuditReport) -> None:
    counts = {
        name: (split.num_lines, split.num_distinct, split.num_duplicates) for name, split in report.splits.items()
    }
    assert counts == {"train": (15, 15, 0), "valid": (3, 2, 1), "test": (2, 2, 0)}


def test_overlaps(report: AuditReport) -> None:
    pairs = {(overlap.first, overlap.second): overlap.num_triples for overlap in report.overlaps}
    assert pairs == {("train", "valid"): 1, ("train", "test"): 0, ("valid", "test"): 0}


def test_unseen(report: AuditReport) -> None:
    unseen = {
        name: (split.num_unseen_entities, split.unseen_relations, split.num_unseen_triples)
        for name, split in report.splits.items()
    }
    assert unseen == {"train": (0, (), 0), "valid": (0, (), 0), "test": (1, ("other",), 1)}
    assert report.num_untrained_entities == 2


def test_inverse_relations_by_hand(report: AuditReport) -> None:
    # Parent has 5 distinct triples over all splits, 4 with a child triple reversed; child has 5, 4 of them
    # with a parent triple. Mother has 3, 2 of them reversed under child: 0.67. Spouse has 3 that are no
    # loop, of which 2 are each other's reverse: 0.67.
    assert [(rule.source, rule.target, rule.share, rule.num_triples) for rule in report.inverses] == [
        ("parent", "child", 0.8, 4),
        ("child", "parent", 0.8, 4),
    ]


def test_near_duplicate_relations_by_hand(report: AuditReport) -> None:
    # All 3 mothers are parents, 3 of the 5 parents are mothers.
    assert [(rule.source, rule.target, rule.share, rule.num_triples) for rule in report.near_duplicates] == [
        ("mother", "parent", 1.0, 3)
    ]


def test_threshold_and_support_are_respected() -> None:
    loose = audit(family(), config=AuditConfig(threshold=0.6, min_support=2))
    rules = {(rule.source, rule.target): round(rule.share, 3) for rule in loose.inverses}
    assert rules == {
        ("parent", "child"): 0.8,
        ("child", "parent"): 0.8,
        ("mother", "child"): 0.667,
        ("spouse", "spouse"): 0.667,
    }
    assert [(rule.source, rule.target) for rule in loose.near_duplicates] == [
        ("mother", "parent"),
        ("parent", "mother"),
    ]
    assert [rule.source for rule in audit(family(), config=AuditConfig(min_support=4)).inverses] == [
        "parent",
        "child",
    ]
    assert audit(family(), config=AuditConfig(min_support=5)).inverses == ()


def test_leaks_by_hand(report: AuditReport) -> None:
    found = {
        leak.split: (leak.num_by_inverse, leak.num_by_near_duplicate, leak.num_by_either, leak.share)
        for leak in report.leaks
    }
    # Valid (12 parent 13) is a mother triple of train; (0 parent 1) is that too, and a child triple reversed.
    # Test (4 child 3) is a parent triple reversed.
    assert found == {"valid": (1, 2, 2, 1.0), "test": (1, 0, 1, 0.5)}


def test_a_rule_leaks_in_its_own_direction_only() -> None:
    # Every mother is a parent, 3 of 5 parents are mothers: a parent in train does not give a mother away.
    train = [triple for triple in FAMILY["train"] if triple != (1, MOTHER, 2)]
    report = audit(family(train=train, test=[(2, MOTHER, 3)]), config=CONFIG)
    assert [(rule.source, rule.target) for rule in report.near_duplicates] == [("mother", "parent")]
    assert report.leaks[1].num_by_near_duplicate == 0


def test_plain_lines(report: AuditReport) -> None:
    assert report.lines() == [
        "16 entities, 5 relations; 2 entities are in no train triple",
        "split  lines  distinct  repeated  unseen entities  unseen relations  triples with unseen",
        "train     15        15         0                0                 0                    0",
        "valid      3         2         1                0                 0                    0",
        "test       2         2         0                1                 1                    1",
        "triples in two splits: train-valid 1, train-test 0, valid-test 0",
        "inverse relations (share >= 0.8, support >= 2): 2",
        "  0.800 of parent (4 triples) is child, reversed",
        "  0.800 of child (4 triples) is parent, reversed",
        "near-duplicate relations (share >= 0.8, support >= 2): 1",
        "  1.000 of mother (3 triples) is parent, same pair",
        "valid: 2 triples (100.0%) can be read off train: 1 by an inverse, 2 by a near-duplicate",
        "test: 1 triples (50.0%) can be read off train: 1 by an inverse, 0 by a near-duplicate",
        "entities that have a modality: text 100.0%, vision 75.0%",
        "problem: valid repeats 1 of its 3 lines",
        "problem: 1 distinct valid triples stand in train too (50.0% of valid)",
        "a repair would make clean splits",
    ]


def test_json_round_trip(report: AuditReport) -> None:
    text = report.model_dump_json()
    assert AuditReport.model_validate_json(text) == report
    assert json.loads(text)["splits"]["valid"]["num_duplicates"] == 1


def test_a_graph_of_train_alone() -> None:
    graph = Graph(("a", "b"), ("r",), {"train": np.array([[0, 0, 1], [1, 0, 0]])}, skipped_literals={"train": 7})
    report = audit(graph, config=CONFIG)
    assert report.overlaps == ()
    assert report.leaks == ()
    assert [(rule.source, rule.target, rule.share) for rule in report.inverses] == [("r", "r", 1.0)]
    assert report.problems() == []
    assert "literals left out: train 7" in report.lines()
    assert "  1.000 of r (2 triples) is symmetric" in report.lines()


@pytest.mark.data
def test_db15k(published: Callable[[str], Path]) -> None:
    report = audit(read_openke(published("DB15K")))
    assert report.splits["valid"].num_duplicates == 2_423
    assert report.splits["valid"].num_distinct == 7_481
    assert {(overlap.first, overlap.second): overlap.num_triples for overlap in report.overlaps} == {
        ("train", "valid"): 6_584,
        ("train", "test"): 0,
        ("valid", "test"): 824,
    }
    assert report.problems() == [
        "valid repeats 2,423 of its 9,904 lines",
        "6,584 distinct valid triples stand in train too (88.0% of valid)",
        "824 distinct valid triples stand in test too (11.0% of valid)",
    ]
    assert ("associatedMusicalArtist>", "associatedBand>") in {
        (rule.source.split("/")[-1], rule.target.split("/")[-1]) for rule in report.near_duplicates
    }


@pytest.mark.data
def test_mkg_w_is_clean_and_has_test_triples_with_unseen_entities(published: Callable[[str], Path]) -> None:
    report = audit(read_openke(published("MKG-W")))
    assert report.problems() == []
    assert report.splits["test"].num_unseen_triples == 306
    assert report.splits["test"].unseen_relations == ()


@pytest.mark.data
def test_fb15k_237_leaks_nothing(published: Callable[[str], Path]) -> None:
    # Its makers took every valid and test triple out whose pair is linked in train (Toutanova and Chen,
    # 2015), although many relations that are left are symmetric.
    report = audit(read_openke(published("FB15k-237")))
    assert report.problems() == []
    assert len(report.inverses) == 32
    assert [leak.num_by_either for leak in report.leaks] == [0, 0]
