import shutil
from pathlib import Path

import numpy as np
import pytest

from snag_dist.errors import DataError
from snag_dist.kg.formats import read_tsv
from snag_dist.kg.world import World, WorldConfig
from snag_dist.store.ingest import IngestConfig, RepairConfig, ingest
from snag_dist.store.opened import Store, open_store, rows_of_source_ids
from snag_dist.store.sources import OpenkeConfig, TsvConfig

pytestmark = pytest.mark.ray


def test_rows_are_a_permutation_and_triples_follow_it(letter_store: Store, letters: Path):
    graph = read_tsv(letters, with_ids=False)
    rows = rows_of_source_ids(0, 6)
    assert sorted(rows) == [0, 1, 2, 3, 4, 5]
    assert list(rows) != [0, 1, 2, 3, 4, 5]
    entities = letter_store.entities()
    assert entities["row"].to_pylist() == [0, 1, 2, 3, 4, 5]
    keys = entities["key"].to_pylist()
    assert [keys[row] for row in rows] == list(graph.entities)
    relations = letter_store.relations()["key"].to_pylist()
    told = [f"{keys[h]} {relations[r]} {keys[t]}" for h, r, t in letter_store.triples("train")]
    assert told == ["a likes b", "b likes c", "c knows a", "d knows e", "e likes f", "f likes a"]


def test_counts_and_provenance(letter_store: Store, letters: Path):
    manifest = letter_store.manifest
    assert (manifest.num_entities, manifest.num_relations) == (6, 2)
    assert manifest.num_triples == {"train": 6, "valid": 1, "test": 2}
    assert manifest.source == f"tsv {letters}"
    assert manifest.audit["problems"] == []
    assert list(letter_store.shard_bounds) == [0, 2, 4, 6]


def test_a_world_of_many_parts_comes_back_in_order(world: WorldConfig, world_store: Store):
    graph = World(world).graph()
    rows = world_store.rows_of_source_ids
    for split in ("train", "valid", "test"):
        expected = graph.split(split).copy()
        expected[:, [0, 2]] = rows[expected[:, [0, 2]]]
        np.testing.assert_array_equal(world_store.triples(split), expected)
    assert len(world_store.triple_parts("train")) == -(-len(graph.split("train")) // 500) > 1


def test_the_bytes_of_the_files_do_not_depend_on_scheduling(world: WorldConfig, world_store: Store, tmp_path: Path):
    again = ingest(IngestConfig(source=world, seed=3, virtual_shards=8, triples_per_part=500), tmp_path / "again")
    assert again.files == world_store.manifest.files
    assert again.fingerprint == world_store.fingerprint


def test_the_fingerprint_is_of_the_content_not_of_the_parts(world: WorldConfig, world_store: Store, tmp_path: Path):
    other_parts = ingest(IngestConfig(source=world, seed=3, virtual_shards=8, triples_per_part=90), tmp_path / "parts")
    assert other_parts.files != world_store.manifest.files
    assert other_parts.fingerprint == world_store.fingerprint
    other_seed = ingest(IngestConfig(source=world, seed=4, virtual_shards=8), tmp_path / "seed")
    assert other_seed.fingerprint != world_store.fingerprint


def test_the_same_store_is_kept_and_another_is_refused(letter_store: Store, letters: Path, tmp_path: Path):
    config = IngestConfig(source=TsvConfig(folder=letters), virtual_shards=3)
    before = (letter_store.path / "manifest.json").stat().st_mtime_ns
    assert ingest(config, letter_store.path) == letter_store.manifest
    assert (letter_store.path / "manifest.json").stat().st_mtime_ns == before

    moved = tmp_path / "elsewhere" / letters.name
    shutil.copytree(letters, moved)
    same_files = IngestConfig(source=TsvConfig(folder=moved), virtual_shards=3)
    assert ingest(same_files, letter_store.path) == letter_store.manifest

    (moved / "test.tsv").write_text("d likes a\n")
    with pytest.raises(DataError, match=r"made from another source or config .*; remove the folder, or give"):
        ingest(same_files, letter_store.path)
    with pytest.raises(DataError, match="made from another source or config"):
        ingest(config.model_copy(update={"seed": 1}), letter_store.path)


def test_a_folder_that_is_no_store_is_left_alone(letters: Path, tmp_path: Path, local_ray: None):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("...")
    with pytest.raises(DataError, match=r"mine/manifest.json: expected a manifest, found none"):
        ingest(IngestConfig(source=TsvConfig(folder=letters)), tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_a_wrong_source_leaves_nothing(tmp_path: Path, local_ray: None):
    source = tmp_path / "source"
    source.mkdir()
    for split in ("train", "valid", "test"):
        (source / f"{split}.tsv").write_text("a likes b\n")
    (source / "valid.tsv").write_text("a likes\n")
    with pytest.raises(DataError, match=r"valid.tsv line 1: expected head, relation, tail"):
        ingest(IngestConfig(source=TsvConfig(folder=source)), tmp_path / "store")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_a_missing_source_file_is_named(tmp_path: Path, local_ray: None):
    with pytest.raises(DataError, match=r"entity2id.txt: expected a file, found none"):
        ingest(IngestConfig(source=OpenkeConfig(folder=tmp_path)), tmp_path / "store")


def test_what_an_interrupted_ingest_left_is_no_hindrance(letters: Path, tmp_path: Path, local_ray: None):
    (tmp_path / "store.partial").mkdir()
    (tmp_path / "store.partial" / "entities.parquet").write_text("half")
    ingest(IngestConfig(source=TsvConfig(folder=letters)), tmp_path / "store")
    open_store(tmp_path / "store").verify()
    assert not (tmp_path / "store.partial").exists()


def test_a_repair_stores_clean_splits_and_says_so(tmp_path: Path, local_ray: None):
    source = tmp_path / "source"
    source.mkdir()
    train = [f"e{i} likes e{(i + step) % 10}" for i in range(10) for step in (1, 2)]
    (source / "train.tsv").write_text("\n".join(train) + "\n")
    # One line twice, one of train, and one that is clean.
    (source / "valid.tsv").write_text(f"e0 likes e5\ne0 likes e5\n{train[0]}\n")
    (source / "test.tsv").write_text("e1 likes e7\n")
    manifest = ingest(
        IngestConfig(source=TsvConfig(folder=source), repair=RepairConfig(dev_share=0.04)), tmp_path / "store"
    )
    store = open_store(tmp_path / "store")
    assert manifest.num_triples == {"train": 20, "valid": 1, "test": 1}
    findings = store.findings()
    assert findings.repair is not None and findings.repair.valid_dropped_in_train == 1
    assert findings.source is not None and len(findings.source.problems()) == 2
    assert findings.stored is not None and findings.stored.problems() == []
    assert manifest.audit["source_problems"] == findings.source.problems()
    assert [line for line in findings.lines() if line.endswith(":")] == ["source:", "repair:", "store:"]


@pytest.mark.data
def test_db15k_is_audited_and_repaired(data_root: Path, tmp_path: Path, local_ray: None):
    source = OpenkeConfig(folder=data_root / "DB15K")
    ingest(IngestConfig(source=source, repair=RepairConfig(dev_share=0.05)), tmp_path / "store")
    findings = open_store(tmp_path / "store").findings()
    assert findings.source is not None
    assert findings.source.splits["valid"].num_duplicates == 2423
    overlaps = {(o.first, o.second): o.num_triples for o in findings.source.overlaps}
    assert overlaps == {("train", "valid"): 6584, ("train", "test"): 0, ("valid", "test"): 824}
    assert findings.stored is not None and findings.stored.problems() == []
    assert findings.stored.splits["test"].num_distinct == 9902
