from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from snag_dist.errors import DataError
from snag_dist.store.ingest import IngestConfig, RepairConfig, ingest
from snag_dist.store.opened import Store, open_store
from snag_dist.store.parquet_source import ParquetConfig

pytestmark = pytest.mark.ray

TRAIN = [("ann", "likes", "bob"), ("bob", "likes", "cid"), ("cid", "knows", "ann"), ("ann", "knows", "cid")]
SPLITS = {"train": TRAIN, "valid": [("bob", "knows", "ann")], "test": [("cid", "likes", "bob")]}


def write(folder: Path, splits: dict[str, list[tuple[Any, Any, Any]]], **options: Any) -> dict[str, Path]:
    folder.mkdir(exist_ok=True)
    paths = {split: folder / f"{split}.parquet" for split in splits}
    for split, triples in splits.items():
        heads, relations, tails = zip(*triples, strict=True)
        table = pa.table({"head": heads, "relation": relations, "tail": tails})
        pq.write_table(table, paths[split], **options)
    return paths


def tell(store: Store, split: str) -> list[tuple[str, str, str]]:
    keys = store.entities()["key"].to_pylist()
    relations = store.relations()["key"].to_pylist()
    return [(keys[h], relations[r], keys[t]) for h, r, t in store.triples(split)]


def test_keys_of_the_triples_are_numbered_in_sorted_order(tmp_path: Path, local_ray: None):
    paths = write(tmp_path / "source", SPLITS, row_group_size=3)
    # Parts of two rows cut through the row groups of three.
    ingest(IngestConfig(source=ParquetConfig(**paths), triples_per_part=2), tmp_path / "store")
    store = open_store(tmp_path / "store")
    assert {split: tell(store, split) for split in SPLITS} == SPLITS
    assert len(store.triple_parts("train")) == 2
    rows = store.rows_of_source_ids
    keys = store.entities()["key"].to_pylist()
    assert [keys[row] for row in rows] == ["ann", "bob", "cid"]
    assert store.findings().stored is not None


def test_tables_of_keys_give_ids_and_names(tmp_path: Path, local_ray: None):
    paths = write(tmp_path / "source", SPLITS)
    people = pa.table({"key": ["cid", "bob", "ann", "dot"], "name": ["Cid C.", None, "Ann A.", "Dot D."]})
    pq.write_table(people, tmp_path / "people.parquet")
    config = ParquetConfig(**paths, entities=tmp_path / "people.parquet")
    ingest(IngestConfig(source=config), tmp_path / "store")
    store = open_store(tmp_path / "store")
    entities = store.entities().take(pa.array(store.rows_of_source_ids))
    assert entities["key"].to_pylist() == ["cid", "bob", "ann", "dot"]
    assert entities["name"].to_pylist() == ["Cid C.", "bob", "Ann A.", "Dot D."]
    assert tell(store, "train") == TRAIN


def test_ids_of_a_folder_of_files_of_several_integer_types(tmp_path: Path, local_ray: None):
    folder = tmp_path / "train"
    folder.mkdir()
    for name, kind, heads in (("0", pa.int32(), [0, 1]), ("1", pa.int64(), [2])):
        table = pa.table({"h": pa.array(heads, kind), "r": pa.array([0] * len(heads), kind)})
        pq.write_table(table.append_column("t", pa.array([1] * len(heads), kind)), folder / f"{name}.parquet")
    config = ParquetConfig(train=folder, valid=folder, test=folder, head="h", relation="r", tail="t")
    ingest(IngestConfig(source=config, triples_per_part=3), tmp_path / "store")
    store = open_store(tmp_path / "store")
    assert tell(store, "train") == [("0", "0", "1"), ("1", "0", "1"), ("2", "0", "1")]


def test_a_repair_brings_parquet_into_memory(tmp_path: Path, local_ray: None):
    train = [(i, 0, (i + step) % 10) for i in range(10) for step in (1, 2)]
    paths = write(tmp_path / "source", {"train": train, "valid": train[:1], "test": [(1, 0, 7)]})
    config = IngestConfig(source=ParquetConfig(**paths), repair=RepairConfig(dev_share=0.2))
    manifest = ingest(config, tmp_path / "store")
    assert manifest.num_triples["valid"] + manifest.num_triples["train"] == 20
    assert manifest.audit["problems"] == []


@pytest.mark.parametrize(
    ("triples", "message"),
    [
        (
            [(0, 0, 1), (-3, 0, 1)],
            r"test.parquet row 1: column head: expected an entity id in \[0, 3\), got -3",
        ),
        (
            [(0, 0, 1), (0, 0, 1), (0, 0, None)],
            r"test.parquet row 2: column tail: .*, got None; mend the triple",
        ),
    ],
)
def test_an_id_that_is_none_is_found_by_row(tmp_path: Path, local_ray: None, triples: list[Any], message: str):
    train = [(0, 0, 1), (1, 0, 2)]
    paths = write(tmp_path / "source", {"train": train, "valid": train, "test": triples})
    with pytest.raises(DataError, match=message):
        ingest(IngestConfig(source=ParquetConfig(**paths), triples_per_part=2), tmp_path / "store")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


@pytest.mark.parametrize("repair", [None, RepairConfig(dev_share=0.4)])
def test_a_key_that_is_not_in_the_table_is_found_by_row(tmp_path: Path, local_ray: None, repair: RepairConfig | None):
    paths = write(tmp_path / "source", SPLITS)
    pq.write_table(pa.table({"key": ["likes"]}), tmp_path / "relations.parquet")
    config = ParquetConfig(**paths, relations=tmp_path / "relations.parquet")
    with pytest.raises(
        DataError,
        match=r"train.parquet row 2: column relation: expected a key of the 1 relation keys, got 'knows'",
    ):
        ingest(IngestConfig(source=config, repair=repair), tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_keys_that_repeat_or_lack_are_refused(tmp_path: Path, local_ray: None):
    paths = write(tmp_path / "source", SPLITS)
    table = tmp_path / "people.parquet"
    config = IngestConfig(source=ParquetConfig(**paths, entities=table))
    pq.write_table(pa.table({"key": ["ann", "bob", "cid", "bob"]}), table)
    with pytest.raises(DataError, match=r"people.parquet row 3: key 'bob' already stands in row 1"):
        ingest(config, tmp_path / "store")
    pq.write_table(pa.table({"key": ["ann", None, "cid"]}), table)
    with pytest.raises(DataError, match=r"people.parquet row 1: expected a key, got none"):
        ingest(config, tmp_path / "store")
    pq.write_table(pa.table({"id": ["ann"]}), table)
    with pytest.raises(DataError, match=r"people.parquet: expected a column 'key', found id"):
        ingest(config, tmp_path / "store")


def test_columns_that_do_not_fit_are_named(tmp_path: Path, local_ray: None):
    paths = write(tmp_path / "source", SPLITS)
    with pytest.raises(DataError, match=r"expected a column 'subject', found head, relation, tail; set source.head"):
        ingest(IngestConfig(source=ParquetConfig(**paths, head="subject")), tmp_path / "store")
    write(tmp_path / "source", {"train": [(0.5, "likes", 0.5)]})
    with pytest.raises(DataError, match=r"train.parquet: column head: expected keys .*, got double; cast it"):
        ingest(IngestConfig(source=ParquetConfig(**paths)), tmp_path / "store")
    write(tmp_path / "source", {"train": [(0, "likes", "bob")]})
    with pytest.raises(DataError, match=r"columns head and tail: one holds keys, one ids"):
        ingest(IngestConfig(source=ParquetConfig(**paths)), tmp_path / "store")


def test_empty_and_broken_files_are_named(tmp_path: Path, local_ray: None):
    paths = write(tmp_path / "source", SPLITS)
    pq.write_table(pq.read_table(paths["valid"]).slice(0, 0), paths["valid"])
    with pytest.raises(DataError, match=r"valid.parquet: expected triples, found none; an empty split"):
        ingest(IngestConfig(source=ParquetConfig(**paths)), tmp_path / "store")
    paths["valid"].write_text("head relation tail")
    with pytest.raises(DataError, match=r"valid.parquet: expected Parquet, got: .*; convert the file"):
        ingest(IngestConfig(source=ParquetConfig(**paths)), tmp_path / "store")
    paths["valid"].unlink()
    with pytest.raises(DataError, match=r"valid.parquet: expected a Parquet file or a folder"):
        ingest(IngestConfig(source=ParquetConfig(**paths)), tmp_path / "store")
