"""A byte of a store is another one than was written: the run is refused before its first step, and says which file."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from desk import copy_desk, hold_ray_out, write_desk
from distributed import run_distributed

import snag_dist
from snag_dist.errors import DataError
from snag_dist.shard.group import Group
from snag_dist.store.opened import open_store
from snag_dist.training.recipe import Recipe, load_recipe
from snag_dist.training.run_folder import RunFolder
from snag_dist.training.worker import Worker, WorkerContext

MISSING = "missing.numbers=0.5"
OVERLAY = "missing/numbers-0.5-all-seed0"
FEATURES = "features/numbers"
FILES = {
    "vectors": (f"{FEATURES}/hot/shard-00001.npy", "remove the folder of the modality and extract it again"),
    "statistics": (f"{FEATURES}/statistics.npz", "remove the folder of the modality and extract it again"),
    "triples": ("triples/train/part-000000-0.parquet", "remove the store and make it anew with jobs/ingest.py"),
    "entities": ("entities.parquet", "remove the store and make it anew with jobs/ingest.py"),
    "presence under an overlay": (f"{OVERLAY}/hot/shard-00000.present.npy", "remove the folder of the overlay"),
    "statistics of an overlay": (f"{OVERLAY}/statistics.npz", "remove the folder of the overlay"),
}


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with a store, and an overlay in it."""
    folder = tmp_path_factory.mktemp("stored")
    write_desk(folder)
    with pytest.MonkeyPatch.context() as patch:
        hold_ray_out(patch)
        patch.chdir(folder)
        snag_dist.extract(load_recipe(Path("mine.toml"), [MISSING]))
    return folder


@pytest.fixture
def desk(stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of it, in which the test works."""
    copy_desk(stored, tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def flip(path: Path) -> None:
    """Change one bit that no reader but a hash sees: of the last number, or at the end of an archive."""
    content = bytearray(path.read_bytes())
    content[-1 if path.suffix == ".npy" else -2] ^= 1
    path.write_bytes(content)


def recipe(*overrides: str) -> Recipe:
    return load_recipe(Path("mine.toml"), [MISSING, *overrides])


def worker_of(recipe: Recipe, group: Group) -> Worker:
    return Worker(recipe, WorkerContext(group, lambda _metrics: None))


@pytest.mark.parametrize("kind", FILES)
def test_a_flipped_byte_is_refused(kind: str, group: Group, desk: Path) -> None:
    name, remedy = FILES[kind]
    worker_of(recipe(), group)
    flip(desk / "store" / name)
    with pytest.raises(DataError) as caught:
        worker_of(recipe(), group)
    said = str(caught.value)
    assert said.startswith(f"{desk / 'store' / name}: expected sha256 ")
    assert f"the file was changed; restore the file from a copy, or {remedy}" in said
    with pytest.raises(DataError, match="the file was changed"):
        open_store(desk / "store").verify()


def test_a_run_that_is_told_so_does_not_look(group: Group, desk: Path) -> None:
    vectors = desk / "store" / FILES["vectors"][0]
    flip(vectors)
    worker = worker_of(recipe("train.verify_store=false"), group)
    mapped = np.concatenate([np.asarray(shard) for shard in worker.features["numbers"].shards])
    assert np.array_equal(mapped[-len(np.load(vectors)) :], np.load(vectors), equal_nan=True)


def test_what_a_run_does_not_read_does_not_matter(group: Group, desk: Path) -> None:
    flip(next((desk / "store" / FEATURES / "table").iterdir()))
    worker_of(recipe(), group)
    # The overlay is not laid over the run without `missing`.
    flip(desk / "store" / FILES["statistics of an overlay"][0])
    worker_of(load_recipe(Path("mine.toml")), group)


def test_the_job_refuses_before_it_trains(desk: Path, monkeypatch: pytest.MonkeyPatch, group: Group) -> None:
    hold_ray_out(monkeypatch)
    flip(desk / "store" / FILES["vectors"][0])
    with pytest.raises(DataError, match=r"hot/shard-00001\.npy: expected sha256"):
        snag_dist.train(recipe())
    folder = RunFolder(desk / "runs" / "done")
    assert not folder.log.exists() and not folder.checkpoints.exists()


def open_one(group: Group, folder: Path, damaged: str) -> str:
    # The second worker of a node looks at its own shard alone; both are told what it finds.
    try:
        worker_of(recipe(f"store={folder}/{damaged}", f"runs={folder}/runs"), group)
    except DataError as error:
        return str(error)
    return "no error"


@pytest.mark.distributed
def test_damage_of_one_workers_shard_is_told_by_all(desk: Path) -> None:
    shutil.copytree(desk / "store", desk / "other")
    flip(desk / "other" / FILES["vectors"][0])
    first, second = run_distributed(open_one, 2, desk, "other")
    assert first == second
    assert f"{FILES['vectors'][0]}: expected sha256 " in first
