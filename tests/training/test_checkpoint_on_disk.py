"""Checkpoints of rows that lie on disk: written from there, before the next step may change them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from snag_dist.shard.group import Group
from snag_dist.shard.initial_rows import InitialRows
from snag_dist.shard.partition import Partition
from snag_dist.shard.placement import Placement
from snag_dist.shard.row_optimizers import LazyAdamConfig
from snag_dist.shard.table import EntityTable
from snag_dist.training.checkpoint import Checkpoints
from snag_dist.training.cursor import Cursor

PARTITION = Partition(90, 4, 1)
KEEPER: Any = SimpleNamespace(state=dict, load_state=lambda state: None)


def make(placement: Placement, folder: Path, seed: int) -> Any:
    start = InitialRows("normal", 1.0)
    config = LazyAdamConfig(placement=placement)
    table = EntityTable(config, PARTITION, Group(), width=6, start=start, seed=seed, scratch=folder)
    return SimpleNamespace(table=table, engine=KEEPER, epoch_state=dict, load_epoch_state=lambda state: None)


def test_what_is_saved_is_the_moment_of_saving_in_any_placement(tmp_path: Path) -> None:
    learner, other = make("disk", tmp_path / "scratch", 1), make("device", tmp_path, 2)
    ids, grad = torch.tensor([3, 50]), torch.ones(2, 6)
    learner.table.step(ids, grad, 0.1, 0)
    saved = learner.table.rows.clone()
    checkpoints = Checkpoints(tmp_path / "checkpoints", PARTITION, Group(), "store")
    checkpoints.save(Cursor(step=1), learner, KEEPER, best=True)
    assert not checkpoints.is_writing
    learner.table.step(ids, grad, 0.1, 1)
    checkpoints.settle()
    assert checkpoints.load("BEST", other, KEEPER) == Cursor(step=1)
    assert torch.equal(other.table.rows, saved)
    assert other.table.shard_state(0)["num_updates"][3] == 1
