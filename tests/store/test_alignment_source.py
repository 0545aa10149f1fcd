"""Two graphs become one store: sides, links, triples for training only, and the ids of the files."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from snag_dist.config import validate
from snag_dist.errors import ConfigError, DataError
from snag_dist.kg.alignment_formats import read_alignment
from snag_dist.store.alignment_source import AlignmentConfig
from snag_dist.store.ingest import IngestConfig, ingest
from snag_dist.store.modality import match_keys
from snag_dist.store.opened import Store, open_store

pytestmark = pytest.mark.ray


def test_both_graphs_are_in_one_space_of_rows(pair_store: Store):
    keys = pair_store.entities()["key"].to_pylist()
    assert pair_store.manifest.num_triples == {"train": 4}
    assert dict(zip(keys, pair_store.sides().tolist(), strict=True)) == {
        "http://x/a_one": 0,
        "http://x/b": 0,
        "http://x/c": 0,
        "http://y/a": 1,
        "http://y/b_two": 1,
    }
    # Source ids are the places of the files' ids in ascending order.
    by_id = [keys[row] for row in pair_store.rows_of_source_ids]
    assert by_id == ["http://x/a_one", "http://y/a", "http://x/b", "http://y/b_two", "http://x/c"]
    relations = pair_store.relations()["key"].to_pylist()
    triples = [(keys[head], relations[relation], keys[tail]) for head, relation, tail in pair_store.triples("train")]
    assert sorted(triples) == [
        ("http://x/a_one", "3", "http://x/a_one"),
        ("http://x/a_one", "7", "http://x/b"),
        ("http://x/b", "7", "http://x/c"),
        ("http://y/a", "7", "http://y/b_two"),
    ]
    assert set(pair_store.entities()["name"].to_pylist()) == {"a one", "b", "c", "a", "b two"}


def test_links_are_rows_in_the_order_of_the_source(pair_store: Store):
    keys = pair_store.entities()["key"].to_pylist()
    links = pair_store.links()
    assert links.dtype == np.int64 and pair_store.manifest.num_links == 2
    assert [(keys[left], keys[right]) for left, right in links] == [
        ("http://x/b", "http://y/b_two"),
        ("http://x/a_one", "http://y/a"),
    ]
    assert {"links.parquet", "source_ids.parquet"} <= pair_store.manifest.files.keys()
    pair_store.verify()


def test_ids_of_features_are_those_of_the_files(pair_store: Store):
    ids = pa.array(["50", "20", "1", "99"])
    matches = match_keys(pair_store, ids, are_ids=True, place=str)
    keys = pair_store.entities()["key"].to_pylist()
    found = {ids[int(at)].as_py(): keys[row] for row, at in zip(matches.rows, matches.positions, strict=True)}
    assert found == {"50": "http://x/c", "20": "http://y/a"}
    # Neither a source id nor a number beyond the last is one of the files.
    assert matches.unknown == ("1", "99")


def test_the_audit_of_a_graph_for_training_only_can_be_read(pair_store: Store):
    assert any("train" in line for line in pair_store.findings().lines())


def store_of(folder: Path, path: Path) -> str:
    """Ingest a pair; return the fingerprint."""
    return ingest(IngestConfig(source=AlignmentConfig(folder=folder), seed=1, virtual_shards=3), path).fingerprint


def test_sides_and_links_enter_the_fingerprint(pair_folder: Path, ingested_pair: Path, tmp_path: Path):
    first = open_store(ingested_pair).fingerprint
    assert store_of(pair_folder, tmp_path / "same") == first
    folder = shutil.copytree(pair_folder, tmp_path / "pair")
    (folder / "ill_ent_ids").write_text("30\t40\n")
    assert store_of(folder, tmp_path / "fewer") != first
    # The entity c has neither triple nor link now, and moves to the other graph: the same keys, triples and links.
    (folder / "triples_1").write_text("10\t7\t30\n10\t3\t10\n")
    left = store_of(folder, tmp_path / "left")
    (folder / "ent_ids_1").write_text("10\thttp://x/a_one\n30\thttp://x/b\n")
    (folder / "ent_ids_2").write_text("20\thttp://y/a\n40\thttp://y/b_two\n50\thttp://x/c\n")
    assert store_of(folder, tmp_path / "right") != left


def test_a_store_of_one_graph_has_no_links_and_one_side(letter_store: Store):
    assert letter_store.manifest.num_links == 0 and not letter_store.sides().any()
    with pytest.raises(
        DataError,
        match=r"letters_store: expected a store of two graphs with links, found one of tsv .*; ingest a source of "
        "kind 'alignment'",
    ):
        letter_store.links()


def test_fingerprints_of_one_graph_stay_what_they_were(letter_store: Store):
    # Of the six letters before there were links: runs and feature tables of that time still open.
    assert letter_store.fingerprint == "64bf9895beb159c90cebe00b119940eba733cdb2409b42618dea459ce4575b77"


def test_a_repair_of_two_graphs_is_refused(pair_folder: Path):
    tree = {"source": {"kind": "alignment", "folder": str(pair_folder)}, "repair": {"dev_share": 0.1}}
    with pytest.raises(ConfigError, match="expected no repair beside an alignment source, .*; remove repair"):
        validate(IngestConfig, tree, "recipe")


def test_a_folder_that_lacks_a_file_is_told_by_it(pair_folder: Path, tmp_path: Path):
    with pytest.raises(DataError, match=r"nowhere/ent_ids_1: expected a file, found none; check source.folder"):
        ingest(IngestConfig(source=AlignmentConfig(folder=tmp_path / "nowhere")), tmp_path / "store")
    folder = shutil.copytree(pair_folder, tmp_path / "pair")
    (folder / "ill_ent_ids").unlink()
    with pytest.raises(DataError, match=r"pair: expected links in ill_ent_ids, ref_ent_ids or ent_links, found none"):
        ingest(IngestConfig(source=AlignmentConfig(folder=folder)), tmp_path / "store")
    assert not (tmp_path / "store").exists()


@pytest.mark.data
def test_zh_en_is_stored_whole(published: Callable[[str], Path], tmp_path: Path, local_ray: None):
    folder = published("DBP15K") / "zh_en"
    ingest(IngestConfig(source=AlignmentConfig(folder=folder)), tmp_path / "store")
    store, pair = open_store(tmp_path / "store"), read_alignment(folder)
    assert (store.num_entities, store.num_relations) == (38960, 3024)
    assert store.manifest.num_triples == {"train": 165556} and store.manifest.num_links == 15000
    rows = store.rows_of_source_ids
    assert np.array_equal(store.sides()[rows], pair.graph)
    assert np.bincount(store.sides()).tolist() == [19388, 19572]
    assert np.array_equal(store.links(), rows[pair.links])
    assert np.array_equal(store.rows_of_file_ids(pair.ids), rows)
    triples = pair.triples.copy()
    triples[:, [0, 2]] = rows[triples[:, [0, 2]]]
    assert np.array_equal(store.triples("train"), triples)
    names = store.entities()["name"].to_pylist()
    assert [names[row] for row in rows[:100]] == list(pair.names[:100])
