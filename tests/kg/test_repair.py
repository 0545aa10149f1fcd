"""A repaired graph is clean, keeps test, and depends on the seed and the triples alone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from snag_dist.errors import ConfigError, DataError
from snag_dist.kg.audit import audit
from snag_dist.kg.formats import read_openke
from snag_dist.kg.graph import Graph
from snag_dist.kg.repair import RepairManifest, repair_splits


def array(rows: list[tuple[int, int, int]]) -> np.ndarray:
    return np.array(rows, dtype=np.int64).reshape(-1, 3)


def graph_of(num_entities: int, num_relations: int, **splits: np.ndarray) -> Graph:
    entities = tuple(f"e{row}" for row in range(num_entities))
    return Graph(entities, tuple(f"r{row}" for row in range(num_relations)), splits)


def keys(graph: Graph, split: str) -> set[tuple[str, str, str]]:
    rows = graph.split(split).tolist()
    return {(graph.entities[head], graph.relations[relation], graph.entities[tail]) for head, relation, tail in rows}


@pytest.fixture(scope="module")
def dirty() -> Graph:
    """A dense graph, relations of 400, 200, 100 lines and one; valid is in train but for two triples."""
    generator = np.random.default_rng(5)
    sizes = (400, 200, 100)
    relation = np.repeat(np.arange(3), sizes)
    train = np.stack([generator.integers(0, 40, 700), relation, generator.integers(0, 40, 700)], axis=1)
    test = train[::50].copy()
    test[1:] = np.stack([np.arange(13), np.full(13, 2), np.full(13, 41)], axis=1)
    valid = np.concatenate([train[:30], train[:5], test[3:5], array([(0, 1, 40), (1, 1, 40)])])
    train = np.concatenate([train, array([(40, 0, 41), (0, 3, 1)])])
    return graph_of(43, 4, train=train, valid=valid, test=test)


def test_repaired_splits_have_no_problem_and_test_is_kept(dirty: Graph) -> None:
    assert len(audit(dirty).problems()) == 5
    repaired, _ = repair_splits(dirty, dev_share=0.1, seed=0)
    assert audit(repaired).problems() == []
    assert (repaired.split("test") == dirty.split("test")).all()
    assert repaired.entities == dirty.entities


def test_manifest_adds_up(dirty: Graph) -> None:
    repaired, manifest = repair_splits(dirty, dev_share=0.1, seed=0)
    num_distinct = len(np.unique(dirty.split("train"), axis=0))
    assert manifest.before == {"train": 702, "valid": 39, "test": 14}
    assert manifest.after == {split: len(repaired.split(split)) for split in ("train", "valid", "test")}
    assert manifest.duplicates_dropped["train"] == 702 - num_distinct
    # Rows 0..29 of train (row 0 is a test triple), five of them twice, two test triples, two new ones.
    distinct_head = len(np.unique(dirty.split("train")[:30], axis=0))
    assert manifest.duplicates_dropped["valid"] == 35 - distinct_head
    assert (manifest.train_dropped_in_test, manifest.valid_dropped_in_test) == (1, 3)
    assert manifest.valid_dropped_in_train == distinct_head - 1
    assert manifest.valid_kept == 2
    assert manifest.dev_wanted == round(0.1 * (num_distinct - 1 + 2))
    assert manifest.after["valid"] == manifest.valid_kept + manifest.moved_to_dev == manifest.dev_wanted
    assert manifest.after["train"] == num_distinct - 1 - manifest.moved_to_dev
    assert RepairManifest.model_validate_json(manifest.model_dump_json()) == manifest


def test_the_clean_rest_of_valid_stays_dev(dirty: Graph) -> None:
    repaired, _ = repair_splits(dirty, dev_share=0.1, seed=0)
    assert {("e0", "r1", "e40"), ("e1", "r1", "e40")} <= keys(repaired, "valid")


def test_dev_is_stratified_by_relation(dirty: Graph) -> None:
    repaired, manifest = repair_splits(dirty, dev_share=0.1, seed=0)
    dev = np.bincount(repaired.split("valid")[:, 1], minlength=4)
    whole = dev + np.bincount(repaired.split("train")[:, 1], minlength=4)
    # Largest remainder: every relation is within one of its exact share.
    assert (np.abs(dev - 0.1 * whole) < 1).all()
    assert dev.sum() == manifest.dev_wanted


def test_dev_is_never_larger_than_wanted() -> None:
    # 40 triples of each relation in train, and a clean valid of 6 triples, all of relation 0.
    pairs = [(head, tail) for head in range(8) for tail in range(10, 15)]
    train = array([(head, relation, tail) for head, tail in pairs for relation in (0, 1)])
    valid = array([(head, 0, 15) for head in range(6)])
    graph = graph_of(16, 2, train=train, valid=valid)
    # Wanted 12, 6 of each: relation 0 has them already.
    repaired, manifest = repair_splits(graph, dev_share=0.14, seed=0)
    assert manifest.dev_wanted == manifest.after["valid"] == 12
    assert np.bincount(repaired.split("valid")[:, 1]).tolist() == [6, 6]
    # Wanted 9, of which relation 0 should have 5 and has 6: relation 1 gets 3, not the 4 of its quota.
    repaired, manifest = repair_splits(graph, dev_share=0.1, seed=0)
    assert manifest.dev_wanted == manifest.after["valid"] == 9
    assert np.bincount(repaired.split("valid")[:, 1]).tolist() == [6, 3]


def test_draw_depends_on_seed_and_keys_not_on_lines_or_ids(dirty: Graph) -> None:
    repaired, _ = repair_splits(dirty, dev_share=0.1, seed=7)
    generator = np.random.default_rng(1)
    new_entity, new_relation = generator.permutation(43), generator.permutation(4)
    shuffled = {
        split: np.stack([new_entity[rows[:, 0]], new_relation[rows[:, 1]], new_entity[rows[:, 2]]], axis=1)[
            generator.permutation(len(rows))
        ]
        for split, rows in dirty.triples.items()
    }
    entities = tuple(dirty.entities[old] for old in np.argsort(new_entity))
    relations = tuple(dirty.relations[old] for old in np.argsort(new_relation))
    again, _ = repair_splits(Graph(entities, relations, shuffled), dev_share=0.1, seed=7)
    for split in ("train", "valid", "test"):
        assert keys(again, split) == keys(repaired, split)
    other, _ = repair_splits(dirty, dev_share=0.1, seed=8)
    assert keys(other, "valid") != keys(repaired, "valid")


def test_nothing_becomes_unseen(dirty: Graph) -> None:
    # Entities 40 and 41 and relation 3 have one train triple each, entity 42 has none.
    for seed in range(20):
        repaired, manifest = repair_splits(dirty, dev_share=0.5, seed=seed)
        assert set(np.unique(repaired.split("train")[:, 1]).tolist()) == {0, 1, 2, 3}
        assert {40, 41} <= set(np.unique(repaired.split("train")[:, [0, 2]]).tolist())
        assert manifest.untrained_entities_before == manifest.untrained_entities_after == 1


def test_the_only_triple_of_a_relation_stays_in_train() -> None:
    # Its entities are linked by relation 0 many times, so nothing else holds it; its quota is 1 of 1.
    pairs = [(head, 0, tail) for head in range(6) for tail in range(6, 12)]
    for seed in range(5):
        repaired, _ = repair_splits(graph_of(12, 2, train=array([*pairs, (0, 1, 6)])), dev_share=0.9, seed=seed)
        assert ("e0", "r1", "e6") in keys(repaired, "train")


def test_a_star_gives_up_only_what_it_can() -> None:
    # 0 is linked twice to each of 1..10: one link of each may go, half of the triples, whatever is asked for.
    train = array([(0, relation, tail) for tail in range(1, 11) for relation in (0, 1)])
    repaired, manifest = repair_splits(graph_of(11, 2, train=train), dev_share=0.9, seed=0)
    assert manifest.dev_wanted == 18
    assert sorted(repaired.split("train")[:, 2].tolist()) == list(range(1, 11))
    assert manifest.after == {"train": 10, "valid": 10}


def test_a_clean_graph_is_left_as_it_is() -> None:
    train = array([(row, 0, row + 1) for row in range(20)])
    valid = array([(row, 0, row + 2) for row in range(5)])
    repaired, manifest = repair_splits(graph_of(22, 1, train=train, valid=valid), dev_share=0.1, seed=0)
    assert (repaired.split("train") == train).all()
    assert (repaired.split("valid") == valid).all()
    assert (manifest.moved_to_dev, manifest.valid_kept, manifest.dev_wanted) == (0, 5, 2)


def test_plain_lines() -> None:
    train = array([(0, relation, tail) for tail in range(1, 11) for relation in (0, 1)])
    graph = graph_of(12, 2, train=train, valid=train[:3], test=train[:1])
    _, manifest = repair_splits(graph, dev_share=0.1, seed=4)
    assert manifest.lines() == [
        "repaired with seed 4, dev share 0.1: train 20 -> 17, valid 3 -> 2, test 1 -> 1",
        "repeated lines dropped: train 0, valid 0, test 0",
        "train: 1 test triples dropped, 2 moved to dev",
        "valid: 1 test triples and 2 train triples dropped, 0 kept; 2 wanted in all",
        "entities in no train triple: 1 -> 1",
    ]


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, float("nan")])
def test_share_out_of_range(dirty: Graph, share: float) -> None:
    with pytest.raises(ConfigError) as caught:
        repair_splits(dirty, dev_share=share, seed=0)
    assert str(caught.value) == f"dev_share: expected a share between 0 and 1, got {share}; 0.05 is usual"


def test_nothing_to_train_on_or_to_hold_out() -> None:
    chain = array([(0, 0, 1), (2, 0, 3)])
    with pytest.raises(DataError) as caught:
        repair_splits(graph_of(4, 1, train=chain, test=chain), dev_share=0.5, seed=0)
    assert str(caught.value) == (
        "split 'train': no triple is left once test triples are taken out; expected some, "
        "so check that train and test are not the same file"
    )
    with pytest.raises(DataError) as caught:
        repair_splits(graph_of(4, 1, train=chain), dev_share=0.5, seed=0)
    assert str(caught.value) == (
        "split 'train': none of 2 triples can be held out at dev_share 0.5 without making an entity or "
        "relation unseen; raise dev_share or give a valid split of your own"
    )


@pytest.mark.data
def test_db15k(published: Callable[[str], Path]) -> None:
    graph = read_openke(published("DB15K"))
    repaired, manifest = repair_splits(graph, dev_share=0.05, seed=0)
    assert manifest.valid_kept == 73 == 7_481 - 6_584 - 824
    assert manifest.dev_wanted == manifest.after["valid"] == 3_965
    assert manifest.after["train"] == 79_222 - manifest.moved_to_dev == 79_222 - 3_892
    assert manifest.untrained_entities_before == manifest.untrained_entities_after == 57
    assert (repaired.split("test") == graph.split("test")).all()
    report = audit(repaired)
    assert report.problems() == []
    assert report.splits["valid"].num_unseen_triples == 0


@pytest.mark.data
def test_mkg_w_is_left_as_it_is(published: Callable[[str], Path]) -> None:
    graph = read_openke(published("MKG-W"))
    repaired, _ = repair_splits(graph, dev_share=0.05, seed=0)
    for split, triples in graph.triples.items():
        assert (repaired.split(split) == triples).all()
