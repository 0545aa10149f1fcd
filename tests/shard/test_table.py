"""Row optimisers against torch's own and hand numbers, and rows that do not depend on the number of workers."""

from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from snag_dist.shard.group import Group
from snag_dist.shard.initial_rows import InitialRows
from snag_dist.shard.partition import Partition
from snag_dist.shard.row_optimizers import AdamConfig, LazyAdamConfig, RowwiseAdagradConfig, TableConfig
from snag_dist.shard.table import EntityTable

CONFIGS: list[Any] = list(get_args(get_args(TableConfig)[0]))
ROWS, WIDTH = 20, 4


def make(config: Any, rank: int = 0, workers: int = 1) -> EntityTable:
    partition = Partition(ROWS, 8, workers)
    return EntityTable(config, partition, Group(rank, workers), width=WIDTH, start=InitialRows("uniform", 0.5), seed=1)


def gradient(step: int, num: int) -> Tensor:
    return torch.randn(num, WIDTH, generator=torch.Generator().manual_seed(step))


def test_adam_equals_torch_adam_on_the_whole_table() -> None:
    table = make(AdamConfig())
    reference = torch.nn.Parameter(table.rows.clone())
    optimizer = torch.optim.Adam([reference], lr=0.01)
    for step, ids in enumerate([[1, 5], [5, 7], [0], [], [19, 3]]):
        grad = gradient(step, len(ids))
        reference.grad = torch.zeros_like(reference)
        reference.grad[ids] = grad
        optimizer.step()
        table.step(torch.tensor(ids, dtype=torch.int64), grad, 0.01, step)
    torch.testing.assert_close(table.rows, reference.detach(), rtol=1e-6, atol=1e-7)


def test_lazy_adam_gives_each_row_its_own_adam() -> None:
    table = make(LazyAdamConfig())
    start = table.rows.clone()
    touched = {3: [0, 4], 8: [1, 2, 3]}
    for step in range(5):
        ids = torch.tensor([row for row, steps in touched.items() if step in steps])
        grad = torch.stack([gradient(100 * int(row) + step, 1)[0] for row in ids])
        table.step(ids, grad, 0.01, step)
    for row, steps in touched.items():
        reference = torch.nn.Parameter(start[row].clone())
        optimizer = torch.optim.Adam([reference], lr=0.01)
        for step in steps:
            reference.grad = gradient(100 * row + step, 1)[0]
            optimizer.step()
        torch.testing.assert_close(table.rows[row], reference.detach(), rtol=1e-6, atol=1e-7)
    others = [row for row in range(ROWS) if row not in touched]
    assert torch.equal(table.rows[others], start[others])


def test_rowwise_adagrad_hand_number() -> None:
    table = make(RowwiseAdagradConfig(lr_scale=1.0))
    before = table.rows[2].clone()
    grad = torch.tensor([[3.0, 0.0, 4.0, 0.0]])
    table.step(torch.tensor([2]), grad, 0.1, 0)
    # Mean square 25 / 4, so the first step divides by 2.5.
    torch.testing.assert_close(table.rows[2], before - 0.1 * grad[0] / 2.5)
    table.step(torch.tensor([2]), grad, 0.1, 1)
    torch.testing.assert_close(table.rows[2], before - 0.1 * grad[0] / 2.5 - 0.1 * grad[0] / 12.5**0.5)


@pytest.mark.parametrize("config", CONFIGS)
class TestEveryOptimizer:
    def test_rows_are_the_same_at_any_number_of_workers(self, config: Any) -> None:
        whole = make(config()).rows
        for workers in (2, 3, 8):
            parts = [make(config(), rank, workers).rows for rank in range(workers)]
            assert torch.equal(torch.cat(parts), whole)

    def test_updates_are_the_same_at_any_number_of_workers(self, config: Any) -> None:
        ids = torch.tensor([0, 4, 9, 10, 17])
        whole = make(config())
        parts = [make(config(), rank, 3) for rank in range(3)]
        for step in range(3):
            grad = gradient(step, len(ids))
            whole.step(ids, grad, 0.01, step)
            for rank, part in enumerate(parts):
                first, stop = Partition(ROWS, 8, 3).rows(rank)
                mine = (ids >= first) & (ids < stop)
                part.step(ids[mine], grad[mine], 0.01, step)
        assert torch.equal(torch.cat([part.rows for part in parts]), whole.rows)

    def test_shards_carry_rows_and_state_to_another_number_of_workers(self, config: Any) -> None:
        ids = torch.tensor([0, 4, 9, 10, 17])
        source, goal = make(config()), [make(config(), rank, 2) for rank in range(2)]
        source.step(ids, gradient(0, len(ids)), 0.01, 0)
        for rank, table in enumerate(goal):
            for shard in Partition(ROWS, 8, 2).shards(rank):
                table.load_shard_state(shard, source.shard_state(shard))
        grad = gradient(1, len(ids))
        source.step(ids, grad, 0.01, 1)
        goal[0].step(ids[:3], grad[:3], 0.01, 1)
        goal[1].step(ids[3:], grad[3:], 0.01, 1)
        assert torch.equal(torch.cat([table.rows for table in goal]), source.rows)


def test_lookup_hands_out_a_leaf() -> None:
    table = make(AdamConfig())
    rows = table.lookup(torch.tensor([3, 11]))
    (rows * 2).sum().backward()
    assert torch.equal(rows.grad, torch.full((2, WIDTH), 2.0))
    assert not table.rows.requires_grad


def test_column_statistics() -> None:
    table = make(AdamConfig())
    statistics = table.column_statistics()
    torch.testing.assert_close(statistics.mean, table.rows.mean(0))
    torch.testing.assert_close(statistics.std, table.rows.std(0))
