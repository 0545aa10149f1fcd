"""Bytes a worker sends in a step, and the seconds that costs between hosts."""

from dataclasses import dataclass
from typing import Self

import torch

from snag_dist.task.alignment import AlignmentTask
from snag_dist.task.completion import CompletionTask
from snag_dist.training.engine import DTYPES
from snag_dist.training.plan.load import StepLoad
from snag_dist.training.plan.memory import build_adversary, count_parameters
from snag_dist.training.plan.sizes import GraphSizes
from snag_dist.training.recipe import Recipe

_ID_BYTES = 8
# Of a query that goes to all owners: row of its answer, how many entities do not count.
_FACT_BYTES = 16
# Numbers of a query that owners sum up, and slopes that its worker sends them.
_STATISTICS, _SLOPES = 4, 3


@dataclass(frozen=True)
class Traffic:
    """Bytes that a worker sends to others in a step, on average.

    What a few numbers a worker take is left out, and the pairs that `mask_known` leaves out of a loss over all
    entities, whose number only the graph tells.

    Attributes:
        ids: to their owners.
        codes: to those who asked, of the batch and of the layers of a structure encoder; fake codes beside them.
        gradients: of the codes, back to the owners.
        queries: of a loss over all entities, to every owner.
        query_gradients: slopes of every query to all owners, and its gradients back from them.
        statistics: four numbers a query, summed over the owners in a ring.
        dense: gradients of dense parameters and of an adversary's generators, in a ring.
    """

    ids: int
    codes: int
    gradients: int
    queries: int
    query_gradients: int
    statistics: int
    dense: int

    @classmethod
    def of(cls, recipe: Recipe, sizes: GraphSizes, load: StepLoad, task: CompletionTask | AlignmentTask) -> Self:
        """Work it out for a recipe; nothing travels where a worker is alone."""
        workers, dtype = recipe.cluster.fewest_workers, DTYPES[recipe.train.engine.precision]
        number = dtype.itemsize
        # Owners are drawn evenly: all but one in W are others.
        away = (workers - 1) / workers
        halo_width = task.encoder.width if isinstance(task, AlignmentTask) else 0
        codes = round(away * number * (load.arrived * load.code_width + load.asked * halo_width))
        parameters, adversary = count_parameters(task), build_adversary(recipe, sizes)
        # Scores are summed up in float32 at least. Every worker tells the other ones of its own share of the queries.
        summed = torch.promote_types(dtype, torch.float32).itemsize
        query_bytes = load.code_width * number
        return cls(
            ids=round(away * _ID_BYTES * (load.arrived + load.asked)),
            codes=codes,
            # The generators' gradient goes its own way, before the model's.
            gradients=codes * (1 if adversary is None else 2),
            queries=round(away * load.queries * (query_bytes + _FACT_BYTES)),
            query_gradients=round(away * load.queries * (query_bytes + _SLOPES * summed)),
            statistics=round(2 * away * load.queries * _STATISTICS * summed),
            # Generators have no bfloat16.
            dense=round(2 * away * number * (parameters + count_parameters(adversary))),
        )

    @property
    def exchanged(self) -> int:
        """What goes from one worker to another: all but what is summed in a ring."""
        return self.ids + self.codes + self.gradients + self.queries + self.query_gradients

    @property
    def total(self) -> int:
        """All of it."""
        return self.exchanged + self.statistics + self.dense

    def seconds(self, bytes_per_second: float, num_hosts: int) -> float:
        """Time on the network; workers of one host talk through its memory."""
        return 0.0 if num_hosts == 1 else self.total / bytes_per_second
