"""An engine, a table and what a task keeps, small enough to be saved and damaged often."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from snag_dist.shard.group import Group
from snag_dist.shard.partition import Partition
from snag_dist.shard.table import EntityTable, InitialRows, LazyAdamConfig
from snag_dist.training.checkpoint import CheckpointConfig, Checkpoints
from snag_dist.training.cursor import Cursor
from snag_dist.training.engine import Engine, EngineConfig

ROWS = 30


class Parts:
    """An engine and a table, and where their checkpoints go."""

    def __init__(
        self, folder: Path, group: Group, seed: int, fingerprint: str = "f" * 64, keep: int = 2, zero_stage: int = 0
    ):
        torch.manual_seed(seed)
        self.partition = partition = Partition(ROWS, 4, group.size)
        self.engine = Engine(nn.Linear(3, 2), EngineConfig(zero_stage=zero_stage), group, 1)
        self.table = EntityTable(
            LazyAdamConfig(), partition, group, width=6, start=InitialRows("uniform", 0.5), seed=seed
        )
        self.warnings: list[str] = []
        config = CheckpointConfig(keep=keep)
        self.checkpoints = Checkpoints(folder, partition, group, fingerprint, config, warn=self.warnings.append)
        self.kept = Kept()
        self.of_epoch: dict[str, torch.Tensor] = {}

    def learn(self, step: int) -> None:
        self.engine.backward(self.engine(torch.ones(1, 3)).square().sum())
        self.engine.step(0.01, 1.0)
        first = self.table.first_row
        self.table.step(torch.tensor([first, first + 2]), torch.ones(2, 6), 0.01, step)

    def epoch_state(self) -> dict[str, torch.Tensor]:
        return self.of_epoch

    def load_epoch_state(self, state: Mapping[str, torch.Tensor]) -> None:
        self.of_epoch = dict(state)

    def save(self, step: int, best: bool = False, **cursor: Any) -> None:
        self.checkpoints.save(Cursor(epoch=1, step=step, **cursor), self, self.kept, best=best)
        self.checkpoints.settle()

    def load(self, pointer: str) -> Cursor | None:
        return self.checkpoints.load(pointer, self, self.kept)


class Kept:
    """What a task keeps."""

    def __init__(self) -> None:
        self.value = torch.zeros(0)

    def state(self) -> dict[str, torch.Tensor]:
        return {"kept": self.value} if len(self.value) else {}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        self.value = state.get("kept", torch.zeros(0))
