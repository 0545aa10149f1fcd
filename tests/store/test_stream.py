import threading

import numpy as np
import pytest

from snag_dist.errors import ConfigError
from snag_dist.random import Stream
from snag_dist.store.ingest import IngestConfig, ingest
from snag_dist.store.opened import Store, open_store
from snag_dist.store.sources import TsvConfig
from snag_dist.store.stream import (
    ResidencyConfig,
    StreamPlan,
    _windows,
    choose_residency,
    iterate_batches,
    load_triples,
    plan_stream,
    read_window,
    stream_data_config,
    stream_triples,
)


@pytest.fixture(scope="module")
def ring_store(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Store:
    """A store of 1,000 train triples in four files; triple i is (e_i, next, e_i+1)."""
    source = tmp_path_factory.mktemp("ring")
    lines = [f"e{i} next e{(i + 1) % 1000}" for i in range(1000)]
    for split, part in (("train", lines), ("valid", lines[:1]), ("test", lines[1:2])):
        (source / f"{split}.tsv").write_text("\n".join(part) + "\n")
    ingest(IngestConfig(source=TsvConfig(folder=source), triples_per_part=300), source / "store")
    return open_store(source / "store")


def global_batches(store: Store, plan: StreamPlan, epochs: range, first_step: int = 0) -> list[np.ndarray]:
    """Read a stream as the workers of a run do: one thread a worker."""
    dataset = stream_triples(store, "train", plan, seed=5, epochs=epochs, first_step=first_step)
    config = stream_data_config()
    shards = config.configure({"train": dataset}, plan.num_workers, None, ["node"] * plan.num_workers)
    batches: list[list[np.ndarray]] = [[] for _ in shards]

    def read(worker: int) -> None:
        shard = shards[worker]["train"]
        batches[worker] += list(iterate_batches(shard, plan, first_step=first_step))

    threads = [threading.Thread(target=read, args=(worker,)) for worker in range(plan.num_workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    return [np.concatenate(slices) for slices in zip(*batches, strict=True)]


@pytest.mark.ray
def test_an_epoch_has_every_triple_once_in_an_order_of_its_own(ring_store: Store):
    plan = plan_stream(1000, global_batch=100, num_workers=1, window_rows=400)
    assert (plan.steps_per_epoch, plan.steps_per_block, plan.window_rows) == (10, 10, 1000)
    batches = global_batches(ring_store, plan, range(2))
    assert [batch.shape for batch in batches] == [(100, 3)] * 20
    triples = load_triples(ring_store, "train")
    for epoch in range(2):
        seen = np.concatenate(batches[10 * epoch : 10 * epoch + 10])
        np.testing.assert_array_equal(seen[np.argsort(seen[:, 0])], triples[np.argsort(triples[:, 0])])
    assert not np.array_equal(np.concatenate(batches[:10]), np.concatenate(batches[10:]))
    assert not np.array_equal(np.concatenate(batches[:10]), triples)


def test_triples_of_one_file_meet_others_in_every_epoch(ring_store: Store):
    plan = StreamPlan(global_batch=10, num_workers=1, steps_per_block=2, steps_per_epoch=30, window_rows=60)
    part = [ring_store.triple_parts("train")[0]]
    found: list[list[set[int]]] = []
    for epoch in range(2):
        windows = _windows(part, np.array([300]), plan, Stream(5, "store/stream", epoch))
        read = [read_window(window, plan=plan, seed=5)["head"].to_pylist() for window in windows]
        assert [len(heads) for heads in read] == [60] * 5
        assert len({head for heads in read for head in heads}) == 300
        found.append([set(heads) for heads in read])
    shared = [max(len(one & other) for other in found[1]) for one in found[0]]
    # Of 60 triples 12 share a window with any given other one by chance; all of them where windows are runs of rows.
    assert max(shared) < 40


@pytest.mark.ray
def test_global_batches_are_the_same_at_any_number_of_workers(ring_store: Store):
    # Windows of 520 rows cut through the files of 300, and the second of an epoch is shorter than the first.
    alone = plan_stream(1000, global_batch=8, num_workers=1, window_rows=520)
    expected = global_batches(ring_store, alone, range(2))
    assert len(expected) == 2 * alone.steps_per_epoch == 250
    for num_workers in (2, 4):
        plan = plan_stream(1000, global_batch=8, num_workers=num_workers, window_rows=520)
        np.testing.assert_array_equal(global_batches(ring_store, plan, range(2)), expected)


@pytest.mark.ray
def test_a_run_resumes_in_the_middle_of_an_epoch(ring_store: Store):
    plan = plan_stream(1000, global_batch=20, num_workers=2, window_rows=200)
    assert (plan.steps_per_epoch, plan.steps_per_block, plan.steps_per_window) == (50, 10, 10)
    whole = global_batches(ring_store, plan, range(2))
    resumed = global_batches(ring_store, plan, range(1, 2), first_step=27)
    np.testing.assert_array_equal(resumed, whole[50 + 27 :])


def test_a_plan_drops_as_little_as_it_can():
    assert plan_stream(79222, 1024, 2, 1 << 20).steps_per_epoch == 77
    # 1009 steps are prime: blocks of 16 drop one of them, blocks of one would drop none.
    plan = plan_stream(1009 * 10, 10, 1, 1)
    assert (plan.steps_per_block, plan.steps_per_epoch, plan.window_rows) == (16, 1008, 160)
    # 265 of FB15k-237: blocks of 5 drop none, blocks of 16 nine.
    plan = plan_stream(272_115, 1024, 1, 65_536)
    assert (plan.steps_per_block, plan.steps_per_epoch, plan.window_rows) == (5, 265, 61_440)
    # 7 steps are too few to drop any.
    assert plan_stream(75, 10, 1, 1).steps_per_epoch == 7


def test_batches_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="batch: expected a multiple of the 3 workers, got 100"):
        plan_stream(1000, 100, 3, 1)
    with pytest.raises(ConfigError, match="batch: expected at most 50 triples, all of the split, got 100"):
        plan_stream(50, 100, 2, 1)


@pytest.mark.parametrize(
    ("kind", "num_triples", "expected"),
    [("memory", 10**9, "memory"), ("stream", 1, "stream"), ("auto", 100, "memory"), ("auto", 101, "stream")],
)
def test_residency_is_decided_by_the_budget(kind: str, num_triples: int, expected: str):
    config = ResidencyConfig(kind=kind, budget_bytes=2400)  # pyright: ignore
    assert choose_residency(config, num_triples) == expected
