"""What a task asks of the plant: its batches, its stages, its way through the network of workers, its ranks.

The loop, the engine, the table, checkpoints and telemetry are the same for every task; what differs is in here.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snag_dist.method.facts import GraphFacts
from snag_dist.model.encoder import ModalityFacts
from snag_dist.model.features import ColumnStatistics
from snag_dist.random import Moment
from snag_dist.shard.group import Group
from snag_dist.shard.initial_rows import InitialRows
from snag_dist.shard.partition import Partition
from snag_dist.shard.table import EntityTable
from snag_dist.store.gather import FeatureRows
from snag_dist.store.opened import Store
from snag_dist.store.stream import StreamPlan
from snag_dist.training.checkpoint import Cursor
from snag_dist.training.claim import Claim
from snag_dist.training.engine import DTYPES
from snag_dist.training.recipe import Recipe
from snag_dist.training.run_folder import RunFolder
from snag_dist.training.step import Batch, DistributedTask

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Stage:
    """A part of a run with a schedule and a best checkpoint of its own.

    Attributes:
        name: in pointers, reports and logs.
        epochs: at most.
        lr_factor: on the run's learning rate.
    """

    name: str
    epochs: int
    lr_factor: float = 1.0


@dataclass(frozen=True)
class Drawn:
    """A worker's slice of a global batch, ready for a step.

    Attributes:
        batch: the slice.
        size: examples (triples or pairs) in the global batch.
    """

    batch: Batch
    size: int


@dataclass(frozen=True)
class Workplace:
    """What a worker has at hand when a task is set up.

    Attributes:
        recipe, store, folder: of the run.
        partition: rows over the workers.
        group: the workers.
        features: raw vectors of the rows this worker owns, by modality.
        triples, stream: training triples, in memory or on their way; see `WorkerContext`.
        claim: of the driver.
    """

    recipe: Recipe
    store: Store
    folder: RunFolder
    partition: Partition
    group: Group
    features: Mapping[str, FeatureRows]
    triples: Ids | None = None
    stream: tuple[Iterator[Ids], StreamPlan] | None = None
    claim: Claim | None = None

    def require_claim(self) -> None:
        """Refuse to write what belongs to the run of another driver.

        Raises:
            TakenOver: it has begun with the run.
        """
        if self.claim is not None:
            self.claim.require()

    @property
    def facts(self) -> GraphFacts:
        """What a method must know of the graph."""
        return GraphFacts(
            self.store.num_entities,
            self.store.num_relations,
            {
                name: ModalityFacts(
                    rows.width,
                    ColumnStatistics(torch.from_numpy(rows.mean).float(), torch.from_numpy(rows.std).float()),
                )
                for name, rows in self.features.items()
            },
        )

    @property
    def dtype(self) -> torch.dtype:
        """Number format of a step."""
        return DTYPES[self.recipe.train.engine.precision]

    def build_table(self, width: int, start: InitialRows) -> EntityTable:
        """Draw the learned rows this worker owns; they are float32 at least."""
        return EntityTable(
            self.recipe.table,
            self.partition,
            self.group,
            width=width,
            start=start,
            seed=self.recipe.seed,
            dtype=torch.promote_types(self.dtype, torch.float32),
            scratch=self.folder.scratch,
        )


class Assignment(ABC):
    """A task on a worker.

    Attributes:
        stages: in their order, at least one; the last one gives the run's result.
        unit: what a batch is counted in, for the log.
        num_candidates: that an example of it is scored against; 0 where that is not fixed.
        module: what the engine trains.
        table: the learned rows this worker owns.
    """

    stages: tuple[Stage, ...]
    unit: str
    num_candidates: int = 0
    module: DistributedTask
    table: EntityTable

    def begin_epoch(self, cursor: Cursor) -> Mapping[str, Any]:
        """Prepare what holds for an epoch, and return what is worth a line in the log. A collective."""
        return {}

    @abstractmethod
    def steps_in_epoch(self) -> int:
        """Global batches in the epoch under way."""

    @abstractmethod
    def batches(self, cursor: Cursor) -> Iterator[tuple[Drawn, Moment]]:
        """Yield this worker's slices from the cursor to the end of its epoch, each with its moment."""

    @abstractmethod
    def dev_metrics(self) -> dict[str, float]:
        """Rank the dev split under the current weights; `mrr` among the metrics selects. A collective."""

    @abstractmethod
    def score_split(self, split: str, cursor: Cursor, stage: Stage) -> dict[str, Any]:
        """Rank a split, write its ranks and report, and return the report on every worker. A collective."""

    def after_save(self) -> None:
        """Let go of what a run that goes on from the checkpoint just taken would not have."""
        return

    def state(self) -> Mapping[str, Tensor]:
        """What a checkpoint must keep beside dense parameters and rows, equal on every worker."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take up what `state` gave."""
        return
