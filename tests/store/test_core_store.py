"""The k-core of a store is a store: the graph that ingest would make of it alone, with the vectors of who is left."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from snag_dist.errors import ConfigError, DataError
from snag_dist.store.array_features import ArrayConfig
from snag_dist.store.core import core_of_degree, core_of_share
from snag_dist.store.extract import ExtractOptions, extract
from snag_dist.store.gather import FeatureRows
from snag_dist.store.ingest import IngestConfig, ingest
from snag_dist.store.missing import MissingConfig, make_overlays
from snag_dist.store.opened import Store, open_store
from snag_dist.store.schema import CORES
from snag_dist.store.sources import TsvConfig
from snag_dist.store.world_features import WorldPixelsConfig

pytestmark = pytest.mark.ray

INSIDE = {
    "train": ["a likes b", "b likes c", "c knows a", "a likes d", "d knows b"],
    "valid": ["d likes c"],
    "test": ["b knows a", "c likes d"],
}
"""Entities a to d with at least two training triples each."""
OUTSIDE = {
    "train": ["d likes x", "x likes y", "z knows z", "z likes z"],
    "valid": ["x likes a", "x knows y"],
    "test": ["z likes a"],
}
"""x hangs off the core by y and d, but y has one triple; z is next to nobody else."""


def ingest_lines(folder: Path, *graphs: dict[str, list[str]]) -> Store:
    folder.mkdir()
    for split in ("train", "valid", "test"):
        lines = [line for graph in graphs for line in graph[split]]
        (folder / f"{split}.tsv").write_text("".join("\t".join(line.split()) + "\n" for line in lines))
    ingest(IngestConfig(source=TsvConfig(folder=folder), seed=5, virtual_shards=3, licence="CC0"), folder / "store")
    return open_store(folder / "store")


@pytest.fixture
def store(world_store: Store, tmp_path: Path) -> Store:
    """A copy of the store of the small world, whose vision has gaps."""
    return open_store(shutil.copytree(world_store.path, tmp_path / "world"))


def by_key(store: Store, modality: str) -> dict[str, list[float] | None]:
    vectors, present = FeatureRows.open(store, modality, 0, store.num_entities).gather(np.arange(store.num_entities))
    keys = store.entities()["key"].to_pylist()
    return {key: vector.tolist() if has else None for key, vector, has in zip(keys, vectors, present, strict=True)}


def facts(store: Store, split: str) -> list[tuple[str, str, str]]:
    entities, relations = store.entities()["key"].to_pylist(), store.relations()["key"].to_pylist()
    return [(entities[head], relations[relation], entities[tail]) for head, relation, tail in store.triples(split)]


def test_the_core_is_the_store_that_ingest_makes_of_it_alone(tmp_path: Path, local_ray: None) -> None:
    whole = ingest_lines(tmp_path / "whole", INSIDE, OUTSIDE)
    alone = ingest_lines(tmp_path / "alone", INSIDE)
    core = core_of_degree(whole, 2)
    assert core.path == whole.path / "cores" / "k-2"
    assert core.fingerprint == alone.fingerprint
    assert core.manifest.num_triples == {"train": 5, "valid": 1, "test": 2}
    assert core.entities() == alone.entities()
    for split, lines in INSIDE.items():
        assert facts(core, split) == [tuple(line.split()) for line in lines]
    core.verify()
    record = core.manifest.core
    assert record is not None
    assert (record.k, record.parent_fingerprint, record.parent_entities) == (2, whole.fingerprint, 7)
    assert record.parent_triples == {"train": 9, "valid": 3, "test": 3}
    assert core.manifest.licence == "CC0"
    assert core.manifest.source == f"2-core of {whole.manifest.source}"
    assert core.findings() == whole.findings()
    # The store itself is as it was.
    whole.verify()
    assert open_store(whole.path).manifest == whole.manifest


def test_every_entity_of_a_core_keeps_k_triples_and_the_vectors_it_had(store: Store) -> None:
    core = core_of_share(store, 0.5)
    record = core.manifest.core
    assert record is not None
    assert 0.5 <= core.num_entities / store.num_entities < 1.0
    deeper = core_of_degree(store, record.k + 1)
    assert deeper.num_entities < 0.5 * store.num_entities
    triples = core.triples("train")
    apart = triples[triples[:, 0] != triples[:, 2]]
    assert np.bincount(apart[:, [0, 2]].ravel(), minlength=core.num_entities).min() == record.k
    for modality in ("text", "vision"):
        before, after = by_key(store, modality), by_key(core, modality)
        assert after == {key: before[key] for key in after}
        rows = FeatureRows.open(core, modality, 0, core.num_entities)
        kept = np.array([vector for vector in after.values() if vector is not None])
        assert len(kept) == core.feature(modality).num_present
        np.testing.assert_allclose(rows.mean, kept.mean(axis=0), rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(rows.std, kept.std(axis=0, ddof=1), rtol=1e-10, atol=1e-12)
    assert None in by_key(core, "vision").values()
    assert core.feature("text").encoder == store.feature("text").encoder
    core.verify()
    make_overlays(core, {"vision": MissingConfig(ratio=0.4)})


def test_a_core_is_kept_and_gets_what_the_store_has_got_since(store: Store) -> None:
    core = core_of_degree(store, 3)
    written = {path: path.stat().st_mtime_ns for path in core.path.rglob("*") if path.is_file()}
    assert core_of_degree(store, 3) == core
    assert written == {path: path.stat().st_mtime_ns for path in core.path.rglob("*") if path.is_file()}
    extract({"small": WorldPixelsConfig(pool=8)}, store.path)
    extract({"vision": WorldPixelsConfig(pool=8)}, store.path, options=ExtractOptions(overwrite=True))
    again = core_of_degree(store, 3)
    assert again.modalities() == ("small", "text", "vision")
    assert by_key(again, "vision") == by_key(again, "small")
    assert again.fingerprint == core.fingerprint
    (core.path / "entities.parquet").unlink()
    assert core_of_degree(store, 3).fingerprint == core.fingerprint


def test_a_core_is_there_whole_or_not_at_all(store: Store) -> None:
    shutil.rmtree(store.feature_folder("vision") / "hot")
    with pytest.raises(DataError, match=r"features/vision/hot/.*expected \d+ bytes, found none"):
        core_of_degree(store, 3)
    assert list((store.path / CORES).iterdir()) == []


def test_a_core_that_nobody_is_in_is_told(letter_store: Store) -> None:
    # The triangle a, b, c is the deepest core of the letters.
    assert sorted(core_of_degree(letter_store, 2).entities()["key"].to_pylist()) == ["a", "b", "c"]
    with pytest.raises(ConfigError, match=r"letters_store: expected k of at most 2, the deepest core, got 3; lower k$"):
        core_of_degree(letter_store, 3)


def test_a_share_that_only_the_whole_has_is_the_store_itself(tmp_path: Path, local_ray: None) -> None:
    lonely = {"train": ["a likes b", "z likes z"], "valid": ["a likes z"], "test": ["b likes z"]}
    whole = ingest_lines(tmp_path / "lonely", lonely)
    assert core_of_share(whole, 1.0) is whole
    assert core_of_share(whole, 0.6).num_entities == 2


def test_a_modality_that_nobody_in_the_core_has_is_told(letter_store: Store, tmp_path: Path) -> None:
    vectors = np.zeros((6, 2), dtype=np.float32)
    vectors[3] = 1.0
    np.save(tmp_path / "x.npy", vectors)
    extract({"x": ArrayConfig(path=tmp_path / "x.npy", zero_is_missing=True)}, letter_store.path)
    with pytest.raises(
        DataError, match=r"features/x: expected entities of the part that have it, found none of 3; take"
    ):
        core_of_degree(letter_store, 2)
    assert core_of_degree(letter_store, 1).feature("x").num_present == 1


def test_two_graphs_have_no_core(pair_store: Store) -> None:
    for make in (lambda: core_of_degree(pair_store, 1), lambda: core_of_share(pair_store, 0.5)):
        with pytest.raises(ConfigError, match=r"expected a store of one graph, got two with links: .*; use the whole"):
            make()
