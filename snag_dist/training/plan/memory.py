"""Bytes of one worker: what it holds all the time, and what each phase of a run adds while it lasts.

The phases do not overlap, so the peak is the resident part and the largest of them. Mapped files are told apart: the
system keeps their pages while it has room, and takes them back when it has not.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from snag_dist.method.choices import AlignmentMethod
from snag_dist.shard.first_pass import GATHERED_NUMBERS
from snag_dist.shard.row_optimizers import RowwiseAdagradConfig
from snag_dist.shard.table import BLOCK_NUMBERS
from snag_dist.task.adversarial import Adversary
from snag_dist.task.alignment import AlignmentTask
from snag_dist.task.completion import CompletionTask
from snag_dist.training.engine import DTYPES
from snag_dist.training.plan.activations import bytes_per_entity, evaluated_each
from snag_dist.training.plan.items import Item, Where, total_bytes
from snag_dist.training.plan.load import StepLoad
from snag_dist.training.plan.sizes import GraphSizes
from snag_dist.training.plan.step_memory import EDGE_BYTES, StepItems
from snag_dist.training.recipe import Recipe

PROCESS_BYTES = 350 << 20
"""A worker before it has read anything: Python, torch, Ray and DeepSpeed as measured after import."""

# int64 numbers a triple: two sides of a pair key, its offset and an answer each.
_TRUTH_BYTES = 48
# What sorting takes beside the index that comes of it, as measured.
_SORTING_BYTES = 37
# A triple, as it is read to build an index of several splits.
_TRIPLE_BYTES = 24
# Scores copied at a time where they are counted, and masks of a byte and sums of four beside them.
_COUNTED, _MASKS = 1 << 20, 6
# How often numbers of queries and candidates are there while they are scored again in double: both sides, as they were
# and in double, and what the scorer makes of them.
_TIES = 8
# Rows encoded at a time when all of them are.
_BLOCK = 4096


@dataclass(frozen=True)
class WorkerMemory:
    """All of it.

    Attributes:
        resident: held from beginning to end.
        phases: by name, what is held while one lasts.
    """

    resident: tuple[Item, ...]
    phases: Mapping[str, tuple[Item, ...]]

    def peak(self, where: Where) -> int:
        """Largest number of bytes held in one place at a time."""
        return total_bytes(self.resident, where) + max(total_bytes(items, where) for items in self.phases.values())

    def peak_items(self, where: Where) -> list[Item]:
        """What is held in a place at the peak, the largest first."""
        phase = max(self.phases.values(), key=lambda items: total_bytes(items, where))
        held = [item for item in (*self.resident, *phase) if item.where == where and item.num_bytes]
        return sorted(held, key=lambda item: -item.num_bytes)


def build_task(recipe: Recipe, sizes: GraphSizes) -> CompletionTask | AlignmentTask:
    """Build the network of a recipe for a graph of some sizes; it holds no entity rows."""
    method = recipe.method
    if isinstance(method, AlignmentMethod):
        return method.build_alignment(sizes.facts, recipe.seed)
    return method.build_completion(sizes.facts, recipe.seed)


def build_adversary(recipe: Recipe, sizes: GraphSizes) -> Adversary | None:
    """Build the second player of a recipe, whose generators are no part of the task; None where there is none."""
    if isinstance(recipe.method, AlignmentMethod):
        return None
    return recipe.method.build_adversary(sizes.facts, recipe.seed)


def count_parameters(network: nn.Module | None) -> int:
    """Numbers that are learned; 0 of no network."""
    return 0 if network is None else sum(parameter.numel() for parameter in network.parameters())


def plan_memory(recipe: Recipe, sizes: GraphSizes) -> WorkerMemory:
    """Say what the worker that owns most rows holds."""
    task = build_task(recipe, sizes)
    return _Planner(recipe, sizes, task, StepLoad.of(recipe, sizes, task)).plan()


class _Planner:
    def __init__(self, recipe: Recipe, sizes: GraphSizes, task: CompletionTask | AlignmentTask, load: StepLoad):
        self._recipe, self._sizes, self._task, self._load = recipe, sizes, task, load
        self._dtype = DTYPES[recipe.train.engine.precision]
        self._row_dtype = torch.promote_types(self._dtype, torch.float32)
        self._streams = recipe.streams(sizes.num_triples)
        self._width = recipe.method.encoder.width
        self._num_rows = sizes.most_rows(recipe.cluster.fewest_workers)
        self._adversary = build_adversary(recipe, sizes)
        self._raw = sum(size.width * 4 for size in sizes.modalities.values())
        self._device: Where = "device" if recipe.cluster.use_gpu else "host"
        placed: dict[str, Where] = {"device": self._device, "host": "host", "disk": "mapped"}
        self._placed: Where = placed[recipe.table.placement]
        self._step = StepItems(recipe, sizes, task, load, self._adversary)
        self._state_bytes = sum(
            number.itemsize * (tail[0] if tail else 1)
            for tail, number in recipe.table.build().state_columns(self._width, self._row_dtype).values()
        )

    def plan(self) -> WorkerMemory:
        return WorkerMemory(
            self._resident(),
            {
                "start": self._start(),
                "step": self._step.items(),
                "update of the rows": self._update(),
                "evaluation": self._evaluation(),
                "checkpoint": self._checkpoint(),
                **self._building(),
            },
        )

    def _resident(self) -> tuple[Item, ...]:
        rows, modalities = self._num_rows, self._sizes.modalities
        lighter = "table.kind" if not isinstance(self._recipe.table, RowwiseAdagradConfig) else "table.placement"
        mapped = sum(rows * size.width * size.number_bytes for size in modalities.values())
        parameters = count_parameters(self._task) + count_parameters(self._adversary)
        return (
            Item("process", PROCESS_BYTES, "host", "cluster.num_workers"),
            Item("rows", rows * self._width * self._row_dtype.itemsize, self._placed, "table.placement"),
            Item("row optimiser state", rows * self._state_bytes, self._placed, lighter),
            # Weights, gradients, two moments; bfloat16 has master weights beside them.
            Item("dense parameters", parameters * 16, self._device, "method.encoder.width"),
            Item("features, mapped", mapped, "mapped", "modalities"),
            Item("presence of features", rows * len(modalities), "host", "modalities"),
            *self._graph(),
        )

    def _graph(self) -> tuple[Item, ...]:
        if isinstance(self._recipe.method, AlignmentMethod):
            # Source and value of every edge into an own row, both ways of a triple, and the ends.
            return (Item("edges", self._load.owned_edges * 16 + self._num_rows * 8, "host", "cluster.num_workers"),)
        sizes = self._sizes
        # Train and dev, at most; it stays from the first evaluation on.
        num_dev = min(sizes.num_triples + sizes.num_ranked, sizes.num_filtered)
        if self._streams:
            # Once a host, in the page cache: files that all its workers map.
            every = (sizes.num_triples + num_dev + sizes.num_filtered) * _TRUTH_BYTES
            return (Item("known-true indexes, mapped once a host", every, "mapped", "train.residency.kind"),)
        return (
            Item("known-true index", sizes.num_triples * _TRUTH_BYTES, "host", "train.residency.kind"),
            Item("known-true index of train and dev", num_dev * _TRUTH_BYTES, "host", "train.residency.kind"),
        )

    def _building(self) -> dict[str, tuple[Item, ...]]:
        """The largest index, before anything is ranked under it."""
        if isinstance(self._recipe.method, AlignmentMethod) or self._streams:
            return {}
        num, field = self._sizes.num_filtered, "train.residency.kind"
        return {
            "sorting of the known-true index": (
                Item("known-true index of all splits", num * _TRUTH_BYTES, "host", field),
                Item("triples of all splits", num * _TRIPLE_BYTES, "host", field),
                Item("sorting of them", num * _SORTING_BYTES, "host", field),
            )
        }

    def _start(self) -> tuple[Item, ...]:
        # Random words, uniform numbers and what is made of them, 8 bytes each.
        block = min(BLOCK_NUMBERS, self._num_rows * self._width)
        return (Item("draw of the initial rows", block * 32, "host", "table.placement"),)

    def _update(self) -> tuple[Item, ...]:
        # After the way back, when activations are gone: rows twice, gradients twice, and the state of the rows.
        row = self._width * self._row_dtype.itemsize * 4 + self._state_bytes
        fewer = "train.fanout" if isinstance(self._task, AlignmentTask) else "train.batch_size"
        return (Item("touched rows, gradients and state", self._load.rows * row, self._device, fewer),)

    def _evaluation(self) -> tuple[Item, ...]:
        rows, width, number = self._num_rows, self._width, self._dtype.itemsize
        evaluate = self._recipe.evaluate
        tokens = 1 + len(self._sizes.modalities)
        if isinstance(self._task, AlignmentTask):
            per_entity = bytes_per_entity(self._task, self._sizes, self._dtype)
        else:
            per_entity = evaluated_each(self._task, self._sizes, self._dtype)
        # Blocks end with virtual shards.
        block = min(_BLOCK, rows, -(-self._sizes.num_entities // self._sizes.virtual_shards))
        items = [Item("a block of rows being encoded", block * (per_entity + self._raw), self._device, "")]
        if isinstance(self._task, AlignmentTask):
            codes = rows * tokens * width * number
            layers = 1 + self._task.num_layers
            items.append(Item("graph codes of all rows", rows * width * number * layers, self._device, ""))
            edges = self._load.owned_edges * EDGE_BYTES * self._task.num_layers
            items.append(Item("edges of all layers", edges, "host", ""))
            # Ten arrays of an int64 an edge: targets, sources, values, and what sorting them takes.
            items.append(Item("search of a layer's edges", self._load.owned_edges * 80, "host", ""))
            scores = min(evaluate.budget_bytes, rows * self._sizes.num_entities * number)
        else:
            scored = torch.float64 if evaluate.precision == "float64" else torch.float32
            copies = {scored, *((DTYPES[evaluate.first_pass],) if evaluate.first_pass != "exact" else ())}
            codes = rows * width * (number + sum(copy.itemsize for copy in copies - {self._dtype}))
            questions = 2 * self._sizes.num_ranked
            if evaluate.max_dev_triples and self._sizes.num_ranked == self._sizes.num_triples:
                questions = 2 * evaluate.max_dev_triples
            scores = min(evaluate.budget_bytes, questions * rows * scored.itemsize)
            counted = _COUNTED * (scored.itemsize + _MASKS)
            items.append(Item("scores being counted", counted, self._device, ""))
            if evaluate.first_pass != "exact":
                ties = GATHERED_NUMBERS * 8 * _TIES
                items.append(Item("near ties in double", ties, self._device, "evaluate.first_pass"))
            truth = 0 if self._streams else self._sizes.num_filtered * _TRUTH_BYTES
            items.append(Item("known-true index of all splits", truth, "host", "train.residency.kind"))
        weights = rows * tokens * (number + 1)
        return (
            Item("codes of all rows", codes + weights, self._device, "method.encoder.width"),
            Item("scores of a block of queries", scores, self._device, "evaluate.budget_bytes"),
            *items,
        )

    def _checkpoint(self) -> tuple[Item, ...]:
        # A copy of everything, written behind the steps that follow, unless it lies on disk; a virtual shard at a time
        # becomes bytes of a file.
        shard = -(-self._sizes.num_entities // self._sizes.virtual_shards)
        row = self._width * self._row_dtype.itemsize + self._state_bytes
        lighter = "table.placement" if isinstance(self._recipe.table, RowwiseAdagradConfig) else "table.kind"
        return (
            *self._step.items(),
            Item("copy of rows and state", 0 if self._placed == "mapped" else self._num_rows * row, "host", lighter),
            Item("file of a virtual shard", shard * row, "host", "ingest.virtual_shards"),
        )
