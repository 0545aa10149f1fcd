"""Sources told in rows, block by block: the same as readers that hold the whole graph, and no more held than blocks."""

import os
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from snag_dist.errors import DataError
from snag_dist.kg.audit import AuditConfig, audit
from snag_dist.kg.formats import read_ntriples, read_tsv
from snag_dist.kg.graph import SPLITS, Graph
from snag_dist.kg.world import World, WorldConfig
from snag_dist.store.auditing import audit_store
from snag_dist.store.blocks import Block, InOrder
from snag_dist.store.ingest import IngestConfig, RepairConfig, ingest
from snag_dist.store.keys import keys_in_order
from snag_dist.store.opened import open_store
from snag_dist.store.parquet_source import ParquetConfig
from snag_dist.store.pipeline import Threads, threads
from snag_dist.store.reading import Reading, read_source
from snag_dist.store.sources import NtriplesConfig, OpenkeConfig, Source, TsvConfig, open_source
from snag_dist.store.text_source import read_ntriples_blocks, read_tsv_blocks

WORDS = ["ann", "bob", "Zoë", "語", "🎨 x", "a b", "http://x/ann", "http://x/bob", "e\u0301", "é"]
RELATIONS = ["likes", "kennt", "知る"]


@pytest.fixture
def pool() -> Iterator[Threads]:
    with threads() as pool:
        yield pool


def draw_triples(seed: int, sizes: dict[str, int]) -> dict[str, list[tuple[str, str, str]]]:
    """Draw triples, some of them twice; the later a split, the more of its keys are its own."""
    draw = np.random.default_rng(seed)
    splits: dict[str, list[tuple[str, str, str]]] = {}
    for split, size in sizes.items():
        words = [*WORDS, *(f"{split} {word}" for word in WORDS)] if split != "train" else WORDS * 2
        relations = [*RELATIONS, f"in {split}"]
        rows = zip(draw.integers(0, 20, size), draw.integers(0, 4, size), draw.integers(0, 20, size), strict=True)
        splits[split] = [(words[head], relations[relation], words[tail]) for head, relation, tail in rows]
    return splits


def write_tsv(folder: Path, splits: dict[str, list[tuple[str, str, str]]], end: str = "\n") -> Path:
    folder.mkdir()
    for split, triples in splits.items():
        text = end.join("\t".join(triple) for triple in triples)
        (folder / f"{split}.tsv").write_bytes(text.encode() + (end.encode() if split != "test" else b""))
    return folder


def tell(reading: Reading) -> dict[str, list[tuple[str, str, str]]]:
    """Read all triples back as keys."""
    keys = [key for table in keys_in_order(reading.entities, reading.rows) for key in table["key"].to_pylist()]
    places = InOrder(reading.relations.num)
    relations = [key for table in keys_in_order(reading.relations, places) for key in table["key"].to_pylist()]
    told: dict[str, list[tuple[str, str, str]]] = {}
    for task in reading.blocks():
        for split, table in task():
            rows = zip(*(table[name].to_pylist() for name in ("head", "relation", "tail")), strict=True)
            told.setdefault(split, []).extend((keys[h], relations[r], keys[t]) for h, r, t in rows)
    return told


def source_ids(reading: Reading) -> list[str]:
    """Return the keys of entities in the order of their source ids."""
    keys = [key for table in keys_in_order(reading.entities, reading.rows) for key in table["key"].to_pylist()]
    return [keys[row] for row in reading.rows.of(np.arange(reading.rows.num))]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(("block", "most"), [(1 << 20, 1 << 20), (40, 8)])
@pytest.mark.parametrize("seed", range(3))
def test_text_in_blocks_is_what_the_reader_of_the_whole_reads(
    seed: int, block: int, most: int, end: str, tmp_path: Path, pool: Threads
) -> None:
    splits = draw_triples(seed, {"train": 60, "valid": 12, "test": 9})
    folder = write_tsv(tmp_path / "source", splits, end)
    graph = read_tsv(folder, with_ids=False)
    source = open_source(TsvConfig(folder=folder), 1000)
    files = {split: folder / f"{split}.tsv" for split in SPLITS}
    source = replace(source, blocks=lambda: _alone(read_tsv_blocks(files, block)))
    reading = read_source(source, 3, tmp_path, pool, keys_per_partition=most)
    assert source_ids(reading) == list(graph.entities)
    assert tell(reading) == splits
    assert reading.relations.num == graph.num_relations


def _alone(tasks: Iterator[Callable[[], Block]]) -> Iterator[Callable[[], list[Block]]]:
    for task in tasks:
        yield partial(_list, task)


def _list(task: Callable[[], Block]) -> list[Block]:
    return [task()]


def test_blanks_around_keys_blank_lines_and_a_byte_order_mark_do_not_count(tmp_path: Path) -> None:
    lines = {
        "plain": "a\tr\tb\nc d\tr\ta\n",
        "loose": "\ufeffa \tr\t b\n\n \t \nc d\tr\ta",
        "mixed": "a r b\nc d\tr\ta\n",
    }
    told = {}
    for name, text in lines.items():
        (tmp_path / name).write_text(text)
        blocks = [task() for task in read_tsv_blocks({"train": tmp_path / name}, 7)]
        told[name] = [row for block in blocks for row in zip(*(c.to_pylist() for c in block.columns), strict=True)]
    assert told["plain"] == [("a", "r", "b"), ("c d", "r", "a")] == told["loose"] == told["mixed"]


@pytest.mark.parametrize("block", [10, 1 << 20])
def test_a_wrong_line_is_named_whatever_the_blocks(block: int, tmp_path: Path) -> None:
    path = tmp_path / "train.tsv"
    path.write_text("a\tr\tb\n" * 20 + "a\tr\n" + "a\tr\tb\n")
    with pytest.raises(DataError, match=r"train.tsv line 21: expected head, relation, tail separated by tabs, got"):
        [task() for task in read_tsv_blocks({"train": path}, block)]
    path.write_bytes(b"a\tr\tb\n" * 9 + b"a\tr\t\xff\n")
    with pytest.raises(DataError, match=r"train.tsv line 10: expected UTF-8, got byte 0xff"):
        [task() for task in read_tsv_blocks({"train": path}, block)]
    path.write_text("<a> <r> <b> .\n" * 7 + "<a> <r> .\n")
    with pytest.raises(DataError, match=r"train.tsv line 8: expected '<subject> <predicate> <object> .'"):
        [task() for task in read_ntriples_blocks({"train": path}, block)]


def test_literals_are_left_out_and_counted(tmp_path: Path, pool: Threads) -> None:
    text = '<a> <r> <b> .\n<a> <r> "x" .\n# no triple\n<b> <q> <a> .\n<a> <r> "y"@en .\n'
    for split in SPLITS:
        (tmp_path / f"{split}.nt").write_text(text)
    source = open_source(NtriplesConfig(folder=tmp_path), 1000)
    files = {split: tmp_path / f"{split}.nt" for split in SPLITS}
    (tmp_path / "scratch").mkdir()
    reading = read_source(
        replace(source, blocks=lambda: _alone(read_ntriples_blocks(files, 20))), 0, tmp_path / "scratch", pool
    )
    graph = read_ntriples(tmp_path)
    assert reading.num_literals == graph.skipped_literals == dict.fromkeys(SPLITS, 2)
    assert tell(reading)["valid"] == [("a", "r", "b"), ("b", "q", "a")]


def test_a_split_of_literals_only_is_empty(tmp_path: Path) -> None:
    for split in SPLITS:
        (tmp_path / f"{split}.nt").write_text("<a> <r> <b> .\n" if split == "train" else '<a> <r> "x" .\n')
    with pytest.raises(DataError, match=r"valid.nt: expected triples, found none; an empty split"):
        ingest(IngestConfig(source=NtriplesConfig(folder=tmp_path)), tmp_path / "store")
    assert not (tmp_path / "store.partial").exists()


def test_the_same_graph_has_one_fingerprint_in_text_of_keys_and_of_ids(tmp_path: Path) -> None:
    splits = draw_triples(0, {"train": 60, "valid": 12, "test": 9})
    folder = write_tsv(tmp_path / "keys", splits)
    graph = read_tsv(folder, with_ids=False)
    (tmp_path / "openke").mkdir()
    for name, keys in (("entity", graph.entities), ("relation", graph.relations)):
        lines = [f"{key}\t{number}" for number, key in enumerate(keys)]
        (tmp_path / "openke" / f"{name}2id.txt").write_text("\n".join([str(len(lines)), *lines]) + "\n")
    for split in SPLITS:
        lines = [f"{head} {tail} {relation}" for head, relation, tail in graph.split(split)]
        (tmp_path / "openke" / f"{split}2id.txt").write_text("\n".join([str(len(lines)), *lines]) + "\n")
    tables = {}
    for name, keys in (("entities", graph.entities), ("relations", graph.relations)):
        pq.write_table(pa.table({"key": list(keys)}), tmp_path / f"{name}.parquet")
        tables[name] = tmp_path / f"{name}.parquet"
    for split, triples in splits.items():
        columns = dict(zip(("head", "relation", "tail"), zip(*triples, strict=True), strict=True))
        pq.write_table(
            pa.table({name: list(column) for name, column in columns.items()}), tmp_path / f"{split}.parquet"
        )
    sources = [
        TsvConfig(folder=folder),
        OpenkeConfig(folder=tmp_path / "openke"),
        ParquetConfig(**{split: tmp_path / f"{split}.parquet" for split in SPLITS}, **tables),
    ]
    made = [
        ingest(IngestConfig(source=source, seed=4, triples_per_part=part), tmp_path / f"store-{number}-{part}")
        for number, source in enumerate(sources)
        for part in (7, 1000)
    ]
    assert len({manifest.fingerprint for manifest in made}) == 1
    assert made[0].num_entities == graph.num_entities


def test_a_repair_does_not_depend_on_the_parts(tmp_path: Path) -> None:
    source = WorldConfig(num_entities=400)
    config = IngestConfig(source=source, repair=RepairConfig(dev_share=0.3), triples_per_part=100)
    parted = ingest(config, tmp_path / "parted")
    whole = ingest(config.model_copy(update={"triples_per_part": 100_000}), tmp_path / "whole")
    assert parted.fingerprint == whole.fingerprint
    assert len(open_store(tmp_path / "parted").triple_parts("train")) > 1


def count_blocks(source: Source, most_held: list[int]) -> Source:
    """Watch how many blocks of a source are alive at a time."""
    alive: weakref.WeakSet[Block] = weakref.WeakSet()

    def watch(task: Callable[[], list[Block]]) -> list[Block]:
        blocks = [_Watched(block.split, block.columns, block.explain, block.num_literals) for block in task()]
        for block in blocks:
            alive.add(block)
        most_held[0] = max(most_held[0], len(alive))
        return list(blocks)

    return replace(source, blocks=lambda: (partial(watch, task) for task in source.blocks()))


class _Watched(Block):
    __hash__ = object.__hash__


def test_no_more_blocks_are_held_than_threads_work_on(tmp_path: Path, pool: Threads) -> None:
    splits = draw_triples(0, {"train": 3000, "valid": 300, "test": 300})
    folder = write_tsv(tmp_path / "source", splits)
    files = {split: folder / f"{split}.tsv" for split in SPLITS}
    source = open_source(TsvConfig(folder=folder), 1000)
    most_held = [0]
    watched = count_blocks(replace(source, blocks=lambda: _alone(read_tsv_blocks(files, 500))), most_held)
    assert len(list(watched.blocks())) > 100
    reading = read_source(watched, 0, tmp_path, pool, keys_per_partition=50)
    for _ in pool.in_order(reading.blocks()):
        pass
    assert 1 <= most_held[0] <= 2 * len(os.sched_getaffinity(0)) + 1


def test_a_world_in_blocks_is_the_world(tmp_path: Path, pool: Threads) -> None:
    config = WorldConfig(num_entities=700, density=40.0)
    graph = World(config).graph()
    reading = read_source(open_source(config, 100), 2, tmp_path, pool)
    expected = {
        split: [(graph.entities[h], graph.relations[r], graph.entities[t]) for h, r, t in graph.split(split)]
        for split in SPLITS
    }
    assert tell(reading) == expected


@pytest.mark.parametrize("per_part", [40, 100_000])
def test_the_audit_in_parts_is_that_of_the_whole(per_part: int, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    triples = {
        split: np.stack([draw.integers(0, 12, size), draw.integers(0, 3, size), draw.integers(0, 12, size)], axis=1)
        for split, size in (("train", 300), ("valid", 60), ("test", 50))
    }
    graph = Graph(tuple(f"e{i}" for i in range(12)), ("r0", "r1", "r2"), triples)
    (tmp_path / "openke").mkdir()
    for name, keys in (("entity", graph.entities), ("relation", graph.relations)):
        lines = [f"{key}\t{number}" for number, key in enumerate(keys)]
        (tmp_path / "openke" / f"{name}2id.txt").write_text("\n".join([str(len(lines)), *lines]) + "\n")
    for split, rows in triples.items():
        lines = [f"{head} {tail} {relation}" for head, relation, tail in rows]
        (tmp_path / "openke" / f"{split}2id.txt").write_text("\n".join([str(len(lines)), *lines]) + "\n")
    config = AuditConfig(threshold=0.3, min_support=2)
    store = tmp_path / "store"
    manifest = ingest(
        IngestConfig(source=OpenkeConfig(folder=tmp_path / "openke"), triples_per_part=64, audit=config), store
    )
    report = audit_store(store, 12, manifest.num_triples, {}, config, tmp_path / "parts", per_part)
    assert report == audit(graph, config=config) == open_store(store).findings().stored
    assert report.inverses and report.near_duplicates and report.leaks[0].num_by_either
    assert (tmp_path / "parts").exists() == (per_part == 40)
