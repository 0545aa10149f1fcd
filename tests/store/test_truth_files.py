"""The known-true index in files: equal to the one in memory, made once, made anew when damaged, by several at once."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from snag_dist.errors import DataError
from snag_dist.kg.truth import TruthIndex
from snag_dist.kg.world import WorldConfig
from snag_dist.store.holdout import HoldoutConfig, NewEntities, without_held
from snag_dist.store.ingest import IngestConfig, ingest
from snag_dist.store.manifest import TruthManifest, read_manifest
from snag_dist.store.opened import Store, open_store
from snag_dist.store.truth_files import TruthPlace, make_truth, open_truth, truth_of_new, truth_of_splits

ARRAYS = [f"{side}.{name}.npy" for side in ("by_head", "by_tail") for name in ("pairs", "offsets", "codes")]


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a small world, its training triples in several files."""
    path = tmp_path_factory.mktemp("known_true") / "store"
    ingest(IngestConfig(source=WorldConfig(num_entities=300), triples_per_part=500), path)
    return path


@pytest.fixture
def store(ingested: Path, tmp_path: Path) -> Store:
    return open_store(shutil.copytree(ingested, tmp_path / "world"))


def place_of(triples: np.ndarray, num_entities: int, num_relations: int, folder: Path) -> TruthPlace:
    """A place without a store; triples come in pieces of three."""
    pieces = [triples[i : i + 3] for i in range(0, len(triples), 3)]
    return TruthPlace(folder, "of a test", ("train",), num_entities, num_relations, lambda: iter(pieces))


def assert_same(found: TruthIndex, expected: TruthIndex) -> None:
    for side in ("by_head", "by_tail"):
        for name in ("pairs", "offsets", "codes"):
            np.testing.assert_array_equal(getattr(getattr(found, side), name), getattr(getattr(expected, side), name))
    assert found.num_triples == expected.num_triples
    np.testing.assert_array_equal(found.bernoulli_tail_share(), expected.bernoulli_tail_share())


@pytest.mark.parametrize("seed", range(10))
def test_answers_as_the_index_in_memory(seed: int, tmp_path: Path) -> None:
    generator = np.random.default_rng(seed)
    num, entities, relations, block = (int(x) for x in generator.integers([0, 1, 1, 1], [300, 30, 6, 100]))
    limits = (entities, relations, entities)
    triples, queries = (
        np.stack([generator.integers(0, limit, size) for limit in limits], axis=1) for size in (num, 200)
    )
    expected = TruthIndex.build(triples, entities, relations)
    place = place_of(triples, entities, relations, tmp_path / "index")
    make_truth(place, verify=True, records_at_a_time=block)
    found = open_truth(place)
    assert_same(found, expected)
    assert found.contains(*queries.T).tolist() == expected.contains(*queries.T).tolist()
    find_tail = generator.random(len(queries)) < 0.5
    answers = [truth.answers(queries, find_tail) for truth in (found, expected)]
    np.testing.assert_array_equal(answers[0].offsets, answers[1].offsets)
    np.testing.assert_array_equal(answers[0].values, answers[1].values)


@pytest.mark.parametrize("num", [0, 1])
def test_of_no_triple_and_of_one(num: int, tmp_path: Path) -> None:
    last = 90_999_999
    triples = np.array([[last, 1399, last - 1]], dtype=np.int64)[:num]
    place = place_of(triples, last + 1, 1400, tmp_path / "index")
    make_truth(place, verify=True)
    assert_same(open_truth(place), TruthIndex.build(triples, last + 1, 1400))


def test_a_foreign_triple_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    triples = np.array([[0, 0, 1], [1, 0, 1], [2, 0, 1], [3, 0, 1], [0, 0, 5]], dtype=np.int64)
    with pytest.raises(DataError, match="triple 4: tail id 5 is not in the graph of 5 entities and 3 relations"):
        make_truth(place_of(triples, 5, 3, tmp_path / "index"), verify=True)
    assert not list(tmp_path.iterdir())


def test_of_the_splits_of_a_store(store: Store) -> None:
    for splits in (("train",), ("train", "valid"), ("train", "valid", "test")):
        place = truth_of_splits(store, splits)
        with pytest.raises(DataError, match="expected a manifest, found none"):
            open_truth(place)
        make_truth(place, verify=True, records_at_a_time=100)
        triples = np.concatenate([store.triples(split) for split in splits])
        expected = TruthIndex.build(triples, store.num_entities, store.num_relations)
        assert_same(open_truth(place), expected)
        assert place.folder == store.path / "known_true" / "+".join(splits)
        assert sorted(path.name for path in place.folder.iterdir()) == sorted([*ARRAYS, "manifest.json"])
        manifest = read_manifest(place.folder, TruthManifest, remedy="")
        assert (manifest.splits, manifest.num_triples) == (splits, expected.num_triples)
    store.verify()


def test_of_a_whole_store_in_the_ids_that_new_entities_have_with_known_ones(store: Store) -> None:
    config = HoldoutConfig(share=0.1, seed=4)
    known = without_held(store, config)
    new = NewEntities.of(store, config)
    place = truth_of_new(known, new)
    make_truth(place, verify=True, records_at_a_time=200)
    triples = new.triples("train", "valid", "test")
    assert_same(open_truth(place), TruthIndex.build(triples, store.num_entities, store.num_relations))
    assert place.folder == known.path / "known_true" / "with_new"
    assert truth_of_new(without_held(store, HoldoutConfig(share=0.1, seed=5)), new).identity != place.identity


def test_splits_are_read_in_pieces_as_they_are_read_whole(store: Store) -> None:
    assert len(store.triple_parts("train")) > 1
    np.testing.assert_array_equal(np.concatenate(list(store.iter_triples("train"))), store.triples("train"))
    part = store.triple_parts("train")[1]
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(DataError, match=rf"{part.name}: expected Parquet, got: .*: remove the store and make it anew"):
        list(store.iter_triples("train"))


def test_what_is_whole_is_made_once(store: Store) -> None:
    place = truth_of_splits(store, ["train"])
    make_truth(place, verify=True)
    stamp = (place.folder / "manifest.json").stat().st_mtime_ns
    make_truth(place, verify=True)
    assert (place.folder / "manifest.json").stat().st_mtime_ns == stamp


def cut_short(folder: Path) -> None:
    file = folder / ARRAYS[2]
    file.write_bytes(file.read_bytes()[:-8])


def flip(folder: Path) -> None:
    file = folder / ARRAYS[2]
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut short": (cut_short, "expected .* bytes, found"),
    "lost": (lambda folder: (folder / ARRAYS[4]).unlink(), "expected .* bytes, found none"),
    "unfinished": (lambda folder: (folder / "manifest.json").unlink(), "expected a manifest, found none"),
    "manifest cut short": (
        lambda folder: (folder / "manifest.json").write_bytes((folder / "manifest.json").read_bytes()[:50]),
        "expected the manifest of a store",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_is_damaged_is_refused_and_made_anew(kind: str, store: Store) -> None:
    place = truth_of_splits(store, ["train"])
    make_truth(place, verify=False)
    damage, message = DAMAGE[kind]
    damage(place.folder)
    with pytest.raises(DataError, match=message):
        open_truth(place)
    make_truth(place, verify=False)
    expected = TruthIndex.build(store.triples("train"), store.num_entities, store.num_relations)
    assert_same(open_truth(place), expected)
    assert [path.name for path in place.folder.parent.iterdir()] == ["train"]


def test_a_flipped_bit_is_seen_by_its_hash(store: Store) -> None:
    place = truth_of_splits(store, ["train"])
    make_truth(place, verify=True)
    flip(place.folder)
    with pytest.raises(DataError, match=r"by_head\.codes\.npy: expected sha256 .* the next run that streams makes it"):
        store.verify()
    make_truth(place, verify=True)
    expected = TruthIndex.build(store.triples("train"), store.num_entities, store.num_relations)
    assert_same(open_truth(place), expected)
    store.verify()


def test_the_index_of_another_store_is_refused_and_made_anew(store: Store) -> None:
    place = truth_of_splits(store, ["train"])
    make_truth(place, verify=True)
    other = replace(place, identity="f" * 64)
    with pytest.raises(DataError, match=r"expected the known-true index of ffffffffffff, found that of .*: the store"):
        open_truth(other)
    make_truth(other, verify=True)
    open_truth(other)


def test_remains_of_killed_processes_go_and_others_stay(store: Store) -> None:
    place = truth_of_splits(store, ["train"])
    host = os.uname().nodename
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    names = {f"train.{host}.{int(gone.stdout)}.partial": False, f"train.{host}.{os.getppid()}.partial": True}
    names["train.elsewhere.1.partial"] = True
    for name in names:
        (place.folder.parent / name).mkdir(parents=True)
    make_truth(place, verify=True)
    for name, stays in names.items():
        assert (place.folder.parent / name).exists() == stays
    store.verify()


MAKE = """
import sys
from pathlib import Path
from snag_dist.store.opened import open_store
from snag_dist.store.truth_files import make_truth, open_truth, truth_of_splits

place = truth_of_splits(open_store(Path(sys.argv[1])), ["train"])
sys.stdin.readline()
make_truth(place, verify=True, records_at_a_time=50)
print(open_truth(place).num_triples)
"""


@pytest.mark.parametrize("damaged", [False, True])
def test_several_processes_that_want_it_at_once(damaged: bool, store: Store) -> None:
    place = truth_of_splits(store, ["train"])
    if damaged:
        make_truth(place, verify=True)
        cut_short(place.folder)
    command = [sys.executable, "-c", MAKE, str(store.path)]
    makers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for maker in makers:
        assert maker.stdin is not None
        maker.stdin.write("\n")
        maker.stdin.flush()
    expected = TruthIndex.build(store.triples("train"), store.num_entities, store.num_relations)
    for maker in makers:
        out, err = maker.communicate(timeout=120)
        assert (out.strip(), maker.returncode) == (str(expected.num_triples), 0), err
    assert_same(open_truth(place), expected)
    assert [path.name for path in place.folder.parent.iterdir()] == ["train"]
