"""Slices by hand on a graph of seven entities, and that every group holds every query once."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from snag_dist.evaluation.slices import EntityFacts, Slice, cut, degree_names
from snag_dist.ranking.metrics import RankMetrics
from snag_dist.ranking.ranks import RankTable
from snag_dist.store.array_features import ArrayConfig
from snag_dist.store.extract import extract
from snag_dist.store.ingest import IngestConfig, ingest
from snag_dist.store.opened import open_store
from snag_dist.store.sources import TsvConfig

# Entity 4 is in no train triple; entities 0 and 4 have no picture.
FACTS = EntityFacts(
    degree=np.array([1, 2, 3, 1001, 0]),
    present={"vision": np.array([False, True, True, True, False])},
    relations=("likes", "knows"),
)


def make_table() -> RankTable:
    """Triples (0, likes, 3) and (4, knows, 2), both ways; realistic ranks 1, 2, 4 and 10."""
    return RankTable(
        head=np.array([0, 0, 4, 4]),
        relation=np.array([0, 0, 1, 1]),
        tail=np.array([3, 3, 2, 2]),
        find_tail=np.array([True, False, True, False]),
        better=np.array([0, 1, 3, 9]),
        equal=np.array([0, 0, 0, 0]),
    )


def by_name(slices: list[Slice]) -> dict[str, dict[str, tuple[int, float]]]:
    found: dict[str, dict[str, tuple[int, float]]] = defaultdict(dict)
    for piece in slices:
        found[piece.group][piece.name] = (piece.metrics.count, piece.metrics.mean_rank)
    return dict(found)


def test_slices_by_hand() -> None:
    assert by_name(cut(make_table(), FACTS)) == {
        "direction": {"head": (2, 6.0), "tail": (2, 2.5)},
        # Known entities 0, 3, 4, 2; answers 3, 0, 2, 4.
        "train degree of known entity": {"0": (1, 4.0), "1-2": (1, 1.0), "3-5": (1, 10.0), "over 1000": (1, 2.0)},
        "train degree of answer": {"0": (1, 10.0), "1-2": (1, 2.0), "3-5": (1, 4.0), "over 1000": (1, 1.0)},
        "unseen in train": {"neither entity": (2, 1.5), "an entity": (2, 7.0)},
        "vision of known entity": {"missing": (2, 2.5), "present": (2, 6.0)},
        "vision of answer": {"missing": (2, 6.0), "present": (2, 2.5)},
        "relation": {"likes": (2, 1.5), "knows": (2, 7.0)},
    }


def test_every_group_adds_up_to_the_whole() -> None:
    draw = np.random.default_rng(0)
    entities, size = 50, 400
    table = RankTable(
        *(draw.integers(0, limit, size) for limit in (entities, 7, entities)),
        find_tail=draw.random(size) < 0.5,
        better=draw.integers(0, 30, size),
        equal=draw.integers(0, 3, size),
    )
    present = {name: draw.random(entities) < 0.6 for name in ("text", "vision")}
    facts = EntityFacts(draw.integers(0, 2000, entities) // 40, present, tuple("abcdefg"))
    whole = RankMetrics.of(table)
    groups: dict[str, list[RankMetrics]] = defaultdict(list)
    for piece in cut(table, facts):
        groups[piece.group].append(piece.metrics)
    assert len(groups) == 9
    for parts in groups.values():
        added = sum(parts[1:], parts[0])
        assert added.count == size
        assert added.realistic.hits_at == whole.realistic.hits_at
        assert added.mrr == pytest.approx(whole.mrr, rel=1e-12)
        assert added.pessimistic.mean_rank == whole.pessimistic.mean_rank


def test_degree_buckets_have_no_gaps() -> None:
    assert degree_names() == ("0", "1-2", "3-5", "6-10", "11-20", "21-50", "51-100", "101-1000", "over 1000")
    for degree, name in ((0, "0"), (2, "1-2"), (3, "3-5"), (1000, "101-1000"), (1001, "over 1000")):
        facts = EntityFacts(np.full(5, degree), {}, ("likes", "knows"))
        assert set(by_name(cut(make_table(), facts))["train degree of answer"]) == {name}


@pytest.mark.ray
def test_facts_of_a_store_by_hand(tmp_path: Path, local_ray: None) -> None:
    splits = {
        "train": ["a likes b", "a likes c", "c knows a", "d knows d"],
        "valid": ["a likes d"],
        "test": ["e knows b"],
    }
    for split, lines in splits.items():
        (tmp_path / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    ingest(IngestConfig(source=TsvConfig(folder=tmp_path), virtual_shards=2), tmp_path / "store")
    vectors = pa.table({"key": ["b", "e"], "vector": [[1.0, 2.0], [3.0, 4.0]]})
    pq.write_table(vectors, tmp_path / "vectors.parquet")
    extract({"vision": ArrayConfig(path=tmp_path / "vectors.parquet", keys="key")}, tmp_path / "store")
    store = open_store(tmp_path / "store")
    facts = EntityFacts.of_store(store, ("vision",))
    keys = store.entities()["key"].to_pylist()
    assert dict(zip(keys, facts.degree.tolist(), strict=True)) == {"a": 3, "b": 1, "c": 2, "d": 2, "e": 0}
    assert {key for key, has in zip(keys, facts.present["vision"], strict=True) if has} == {"b", "e"}
    assert sorted(facts.relations) == ["knows", "likes"]
