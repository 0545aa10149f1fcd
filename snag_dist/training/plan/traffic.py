"""Bytes a worker sends in a step, and the seconds that costs between hosts."""

from dataclasses import dataclass
from typing import Self

from snag_dist.task.alignment import AlignmentTask
from snag_dist.task.completion import CompletionTask
from snag_dist.training.engine import DTYPES
from snag_dist.training.plan.load import StepLoad
from snag_dist.training.recipe import Recipe

_ID_BYTES = 8


@dataclass(frozen=True)
class Traffic:
    """Bytes that a worker sends to others in a step, on average.

    Attributes:
        ids: to their owners.
        codes: to those who asked, of the batch and of the layers of a structure encoder.
        gradients: of the codes, back to the owners.
        dense: gradients of dense parameters, in a ring.
    """

    ids: int
    codes: int
    gradients: int
    dense: int

    @classmethod
    def of(cls, recipe: Recipe, load: StepLoad, task: CompletionTask | AlignmentTask) -> Self:
        """Work it out for a recipe; nothing travels where a worker is alone."""
        workers, number = recipe.cluster.fewest_workers, DTYPES[recipe.train.engine.precision].itemsize
        # Owners are drawn evenly: all but one in W are others.
        away = (workers - 1) / workers
        halo_width = task.encoder.width if isinstance(task, AlignmentTask) else 0
        codes = round(away * number * (load.arrived * load.code_width + load.halo * halo_width))
        parameters = sum(parameter.numel() for parameter in task.parameters())
        return cls(
            ids=round(away * _ID_BYTES * (load.arrived + load.halo)),
            codes=codes,
            gradients=codes,
            dense=round(2 * away * number * parameters),
        )

    @property
    def total(self) -> int:
        """All of it."""
        return self.ids + self.codes + self.gradients + self.dense

    def seconds(self, bytes_per_second: float, num_hosts: int) -> float:
        """Time on the network; workers of one host talk through its memory."""
        return 0.0 if num_hosts == 1 else self.total / bytes_per_second
