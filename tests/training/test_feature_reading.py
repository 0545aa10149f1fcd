"""Features of the next step, read while this one computes: the same training, and errors where they belong."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_run import NUM_ENTITIES, NUM_STEPS, STEPS_PER_EPOCH, SmallRun, same, stop_after

from snag_dist.shard.group import Group
from snag_dist.store.gather import FeatureRows
from snag_dist.training import loop
from snag_dist.training.feature_reading import FeatureReader
from snag_dist.training.step import Stepper, StepResult

CPU = torch.device("cpu")


class Watched(FeatureRows):
    """Features that tell which thread read which rows."""

    reads: list[tuple[bool, list[int]]]

    def gather(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Keep whether the main thread asks, and for what, and read."""
        self.reads.append((threading.current_thread() is threading.main_thread(), rows.tolist()))
        return super().gather(rows)


def map_features(folder: Path, width: int) -> Watched:
    """Vectors of all entities in two mapped files; some have none."""
    draw = np.random.default_rng(width)
    vectors = draw.standard_normal((NUM_ENTITIES, width)).astype(np.float16)
    present = draw.random(NUM_ENTITIES) < 0.8
    vectors[~present] = 0.0
    bounds = np.array([0, 25, NUM_ENTITIES])
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(2):
        np.save(folder / f"{width}-{number}.npy", vectors[bounds[number] : bounds[number + 1]])
    shards = tuple(np.load(folder / f"{width}-{number}.npy", mmap_mode="r") for number in range(2))
    mean, std = vectors[present].astype(np.float64).mean(0), vectors[present].astype(np.float64).std(0, ddof=1)
    rows = Watched(0, NUM_ENTITIES, width, mean, std, bounds, shards, present)
    object.__setattr__(rows, "reads", [])
    return rows


def train(folder: Path, group: Group, **options: Any) -> tuple[SmallRun, dict[str, Watched]]:
    features = {"text": map_features(folder / "features", 6), "vision": map_features(folder / "features", 10)}
    return SmallRun(folder, group, features=features, **options).train(), features


def by_main_thread(rows: Watched) -> list[bool]:
    return [here for here, _ in rows.reads]


@pytest.fixture(scope="module")
def ahead(group: Group, tmp_path_factory: pytest.TempPathFactory) -> tuple[SmallRun, dict[str, Watched]]:
    """A run as it is, with batches and features ahead of time."""
    return train(tmp_path_factory.mktemp("ahead"), group)


def test_nothing_ahead_of_time_trains_to_the_same_bits(
    ahead: tuple[SmallRun, dict[str, Watched]], group: Group, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Stepper.step

    def step(self: Stepper, *arguments: Any, following: object = None) -> StepResult:
        return real(self, *arguments)

    def one_after_another(items: Iterator[Any]) -> Iterator[Any]:
        yield from items

    monkeypatch.setattr(Stepper, "step", step)
    monkeypatch.setattr(loop, "prefetch", one_after_another)
    plain, features = train(tmp_path, group)
    assert same(ahead[0], plain)
    assert ahead[0].losses() == plain.losses()
    for name, rows in features.items():
        assert by_main_thread(rows) == [True] * NUM_STEPS
        assert [ids for _, ids in rows.reads] == [ids for _, ids in ahead[1][name].reads]


def test_the_features_of_every_step_but_an_epochs_first_are_read_beside(
    ahead: tuple[SmallRun, dict[str, Watched]],
) -> None:
    for rows in ahead[1].values():
        assert by_main_thread(rows) == [number % STEPS_PER_EPOCH == 0 for number in range(NUM_STEPS)]


def test_a_run_that_stops_between_is_the_same(
    ahead: tuple[SmallRun, dict[str, Watched]], group: Group, tmp_path: Path
) -> None:
    train(tmp_path, group, notices=stop_after(STEPS_PER_EPOCH + 2))
    resumed, _ = train(tmp_path, group)
    assert same(resumed, ahead[0])


def test_what_was_announced_is_read_once_and_anything_else_at_once(tmp_path: Path) -> None:
    rows = map_features(tmp_path, 6)
    reader = FeatureReader({"text": rows}, CPU)
    first, second = torch.tensor([3, 24, 25, 59]), torch.tensor([1, 2])
    for announced, asked in ((first, first), (first, second)):
        reader.announce(announced)
        vectors, present = reader.read(asked)
        wanted, known = FeatureRows.gather(rows, asked.numpy())
        assert np.array_equal(vectors["text"].numpy(), wanted)
        assert np.array_equal(present["text"].numpy(), known)
    reader._thread.shutdown()
    assert sorted(rows.reads) == [(False, first.tolist()), (False, first.tolist()), (True, second.tolist())]


def test_a_step_that_encodes_nothing_of_its_own_starts_no_thread(tmp_path: Path) -> None:
    rows = map_features(tmp_path, 6)
    reader = FeatureReader({"text": rows}, CPU)
    none = torch.zeros(0, dtype=torch.int64)
    reader.announce(none)
    vectors, present = reader.read(none)
    assert (vectors["text"].shape, present["text"].shape) == ((0, 6), (0,))
    assert by_main_thread(rows) == [True]


def test_what_goes_wrong_is_raised_where_the_features_were_expected() -> None:
    class Broken:
        def gather(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            raise OSError("the disk is gone")

    broken: Any = {"text": Broken()}
    reader = FeatureReader(broken, CPU)
    ids = torch.tensor([1])
    reader.announce(ids)
    with pytest.raises(OSError, match="the disk is gone"):
        reader.read(ids)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_gets_the_same_features_from_pinned_memory(tmp_path: Path) -> None:
    rows = map_features(tmp_path, 6)
    reader = FeatureReader({"text": rows}, torch.device("cuda"))
    ids = torch.tensor([3, 24, 25, 59])
    reader.announce(ids)
    vectors, present = reader.read(ids)
    wanted, known = FeatureRows.gather(rows, ids.numpy())
    assert vectors["text"].device.type == "cuda"
    assert np.array_equal(vectors["text"].cpu().numpy(), wanted)
    assert np.array_equal(present["text"].cpu().numpy(), known)
