"""Rows on the device, on the host and on disk: the same numbers, and what becomes of mapped files."""

import errno
import mmap
import os
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from snag_dist.config import validate
from snag_dist.errors import ConfigError, ResourceError
from snag_dist.random import Stream
from snag_dist.shard.group import Group
from snag_dist.shard.initial_rows import InitialRows
from snag_dist.shard.partition import Partition
from snag_dist.shard.placement import DiskColumns, Placement, page_runs
from snag_dist.shard.row_optimizers import AdamConfig, LazyAdamConfig, RowwiseAdagradConfig, TouchedRows
from snag_dist.shard.table import EntityTable

ROWS, WIDTH = 3000, 24
PARTITION = Partition(ROWS, 8, 2)
LAZY: list[Any] = [LazyAdamConfig, RowwiseAdagradConfig]


def make(config: Any, folder: Path, rank: int = 1) -> EntityTable:
    return EntityTable(
        config, PARTITION, Group(rank, 2), width=WIDTH, start=InitialRows("normal", 0.5), seed=1, scratch=folder
    )


def train(table: EntityTable, steps: int) -> None:
    draw = torch.Generator().manual_seed(0)
    first, stop = PARTITION.rows(1)
    for step in range(steps):
        # Some steps far apart, some rows often, some never.
        ids = first + torch.randperm(stop - first, generator=draw)[: 40 * (1 + step % 3)].sort().values
        if table.reads_ahead:
            table.prefetch(ids)
        rows = table.lookup(ids)
        (rows * torch.randn(rows.shape, generator=draw)).sum().backward()
        assert rows.grad is not None
        table.step(ids, rows.grad, 0.01, step)


@pytest.mark.parametrize(
    ("kind", "placement"),
    [(AdamConfig, "host"), *((kind, placement) for kind in LAZY for placement in ("host", "disk"))],
)
def test_every_placement_gives_the_same_bits(kind: Any, placement: Placement, tmp_path: Path) -> None:
    decay = {} if kind is RowwiseAdagradConfig else {"weight_decay": 0.1}
    here = make(kind(**decay), tmp_path)
    there = make(kind(placement=placement, **decay), tmp_path)
    train(here, 30)
    train(there, 30)
    for shard in PARTITION.shards(1):
        one, two = here.shard_state(shard), there.shard_state(shard)
        assert one.keys() == two.keys()
        assert all(torch.equal(one[name], two[name]) for name in one)
    statistics = [table_.column_statistics() for table_ in (alone(here), alone(there))]
    assert torch.equal(statistics[0].mean, statistics[1].mean)
    assert torch.equal(statistics[0].std, statistics[1].std)


def alone(table: EntityTable) -> EntityTable:
    # Its share of the sums is what is compared: no second worker is there to add the rest.
    table._group = Group(1, 1)
    return table


@pytest.mark.parametrize("kind", LAZY)
@pytest.mark.parametrize("placements", [("disk", "device"), ("device", "disk"), ("host", "disk")])
def test_a_checkpoint_of_one_placement_opens_in_another(kind: Any, placements: Any, tmp_path: Path) -> None:
    source, goal = (make(kind(placement=placement), tmp_path) for placement in placements)
    train(source, 5)
    for shard in PARTITION.shards(1):
        goal.load_shard_state(shard, source.shard_state(shard))
    train(source, 9)
    train(goal, 9)
    assert torch.equal(source.rows, goal.rows)


def test_irregular_rows_under_lazy_adam_equal_their_own_dense_adam(tmp_path: Path) -> None:
    """Each row against a dense table of that row alone, stepped at the row's own times only."""
    table = make(LazyAdamConfig(placement="disk", betas=(0.8, 0.95)), tmp_path)
    first = table.first_row
    schedule = {first + 2: [0, 1, 7, 30], first + 900: [3, 4, 5, 29], first + 1499: [31]}
    start = {row: table.rows[row - first].clone() for row in schedule}
    grads = {(row, step): torch.randn(WIDTH) for row, steps in schedule.items() for step in steps}
    for step in range(32):
        ids = torch.tensor([row for row, steps in schedule.items() if step in steps], dtype=torch.int64)
        if len(ids):
            table.step(ids, torch.stack([grads[int(row), step] for row in ids]), 0.02, step)
    for row, steps in schedule.items():
        one = Partition(1, 1, 1)
        dense = EntityTable(
            AdamConfig(betas=(0.8, 0.95)), one, Group(), width=WIDTH, start=InitialRows("uniform", 1.0), seed=0
        )
        dense.rows.copy_(start[row])
        for count, step in enumerate(steps):
            dense.step(torch.tensor([0]), grads[row, step].unsqueeze(0), 0.02, count)
        torch.testing.assert_close(table.rows[row - first], dense.rows[0], rtol=1e-5, atol=1e-7)
    assert int(table.shard_state(PARTITION.num_shards - 1)["num_updates"][-1]) == 1


@pytest.mark.parametrize("placement", ["device", "disk"])
def test_initial_rows_are_those_of_one_draw(placement: Placement, tmp_path: Path) -> None:
    rows = 50_000  # more than a block of the draw, at this width
    partition = Partition(rows, 4, 1)
    start = InitialRows("uniform", 0.5)
    table = EntityTable(
        LazyAdamConfig(placement=placement), partition, Group(), width=32, start=start, seed=3, scratch=tmp_path
    )
    whole = start.draw(Stream(3, "init/rows"), torch.arange(rows), 32).float()
    assert torch.equal(table.rows, whole)
    assert not table.shard_state(3)["exp_avg"].any()
    statistics = table.column_statistics()
    torch.testing.assert_close(statistics.mean, whole.double().mean(0).float())
    torch.testing.assert_close(statistics.std, whole.double().std(0).float())
    assert torch.equal(table.rows, whole)


def test_statistics_leave_float64_rows_as_they_are(tmp_path: Path) -> None:
    partition = Partition(64, 4, 1)
    table = EntityTable(
        LazyAdamConfig(), partition, Group(), width=8, start=InitialRows("normal", 1.0), seed=0, dtype=torch.float64
    )
    before = table.rows.clone()
    table.column_statistics()
    assert torch.equal(table.rows, before)


def test_mapped_files_have_no_names(tmp_path: Path) -> None:
    table = make(RowwiseAdagradConfig(placement="disk", scratch=tmp_path / "own"), tmp_path / "run")
    train(table, 2)
    assert list((tmp_path / "own").iterdir()) == []
    assert not (tmp_path / "run").exists()


def test_released_pages_are_read_again(tmp_path: Path) -> None:
    columns = DiskColumns(5000, torch.device("cpu"), tmp_path)
    values = columns.add("rows", (64,), torch.float32)
    values.copy_(torch.arange(5000 * 64).view(5000, 64))
    expected = values.clone()
    columns.release(0, 5000)
    columns.release(7, 7)
    assert torch.equal(values, expected)


def test_a_worker_without_rows_has_empty_columns(tmp_path: Path) -> None:
    columns = DiskColumns(0, torch.device("cpu"), tmp_path)
    columns.add("rows", (4,), torch.float32)
    assert columns.read(torch.zeros(0, dtype=torch.int64))["rows"].shape == (0, 4)


def test_page_runs_by_hand() -> None:
    page = mmap.PAGESIZE
    assert page_runs(np.zeros(0, dtype=np.int64), page) == []
    # Rows of a quarter page: 0 and 3 share a page, 1000 is far away.
    assert page_runs(np.array([3, 0, 1000]), page // 4) == [(0, page), (250 * page, 251 * page)]
    # Rows of a page and a half: row 1 lies on pages 1 and 2.
    assert page_runs(np.array([1]), page * 3 // 2) == [(page, 3 * page)]
    # Up to four pages between are read along.
    assert page_runs(np.array([0, 4]), page) == [(0, 5 * page)]
    assert page_runs(np.array([0, 5]), page) == [(0, page), (5 * page, 6 * page)]


def test_a_read_ahead_that_failed_is_raised_at_the_next(tmp_path: Path) -> None:
    columns = DiskColumns(100, torch.device("cpu"), tmp_path)
    columns.add("rows", (4,), torch.float32)
    columns._files["0"]._file.close()
    columns.prefetch(torch.tensor([1]))
    with pytest.raises(ValueError, match="closed file"):
        columns.prefetch(torch.tensor([1]))


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: int, start: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(ResourceError) as caught:
        make(LazyAdamConfig(placement="disk"), tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}: expected {ROWS // 2 * WIDTH * 4} bytes for a file of the table, found ")
    assert "No space left on device" in message
    assert message.endswith("set table.scratch to a larger disk, or table.placement=host")


def test_dense_adam_refuses_the_disk() -> None:
    with pytest.raises(ConfigError, match="adam moves every row in every step") as caught:
        validate(AdamConfig, {"placement": "disk"}, "recipe")
    assert "set table.kind to lazy_adam or rowwise_adagrad" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_scratch_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert LazyAdamConfig(scratch=Path("x")).scratch == tmp_path / "x"


def test_every_lazy_optimizer_is_one() -> None:
    assert all(isinstance(kind().build(), TouchedRows) for kind in LAZY)
    assert not isinstance(AdamConfig().build(), TouchedRows)
    assert get_args(Placement) == ("device", "host", "disk")
