"""Bytes of one worker: what it holds all the time, and what each phase of a run adds while it lasts.

The phases do not overlap, so the peak is the resident part and the largest of them. Mapped files are told apart: the
system keeps their pages while it has room, and takes them back when it has not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from snag_dist.method.choices import AlignmentMethod, CompletionMethod
from snag_dist.objective.all_entities import AllEntitiesConfig
from snag_dist.sampling.negatives import PerTripleConfig
from snag_dist.shard.row_optimizers import RowwiseAdagradConfig
from snag_dist.shard.table import BLOCK_NUMBERS
from snag_dist.task.adversarial import Adversary
from snag_dist.task.alignment import AlignmentTask
from snag_dist.task.completion import CompletionTask
from snag_dist.training import allocator
from snag_dist.training.engine import DTYPES
from snag_dist.training.plan.activations import (
    asking_each,
    bytes_per_entity,
    bytes_per_link_pair,
    bytes_per_target,
    encoding_each,
    evaluated_each,
    kept_pair,
    scoring_ways,
)
from snag_dist.training.plan.load import StepLoad
from snag_dist.training.plan.sizes import GraphSizes
from snag_dist.training.recipe import Recipe

Where = Literal["device", "host", "mapped"]
"""Memory of the GPU, memory of the host (of both where there is no GPU), or files that are mapped."""

PROCESS_BYTES = 460 << 20
"""A worker before it has read anything: Python, torch, Ray and DeepSpeed as measured after import."""

# int64 numbers a triple: two sides of a pair key, its offset and an answer each.
_TRUTH_BYTES = 48
# What sorting takes beside the index that comes of it, as measured.
_SORTING_BYTES = 37
# A triple, as it is read to build an index of several splits.
_TRIPLE_BYTES = 24
# Scores copied at a time where they are counted, and masks of a byte and sums of four beside them.
_COUNTED, _MASKS = 1 << 20, 6
# Numbers of queries and candidates at a time that are scored again in double, and how often: both sides, as they were
# and in double, and what the scorer makes of them.
_GATHERED, _TIES = 1 << 20, 8
# Rows encoded at a time when all of them are.
_BLOCK = 4096
# Ids, ends and orders of an edge of a layer.
_EDGE_BYTES = 56
# Of what is alive in a step, where it comes and goes in one heap. torch asks for blocks that begin at a multiple of 64
# bytes: glibc looks for 96 bytes more and gives the ends back, which small blocks then take. So a block that was freed
# is too small for the next of the same size; it serves a smaller one, or one as large as it and freed neighbours are.
# The heap has nearly stopped growing after three steps. Measured on 128 to 2048 triples, D = 128 and 256: 0.6 to 0.9.
_HOLES = 0.65
# Items of a step that are as long as the table, where a loss looks at all of it.
_TOUCHED, _CACHED = "touched rows", "cached codes of own rows"
# Batches at a time: the one at hand, the next one, and the one that is drawn.
_BATCHES = 3
# What drawing own candidates takes, an int64 each: keys of head, relation and tail, their places, and turns of a sort.
_DRAWN_BYTES = 64
# Scores that a loss over all entities makes at a time, and how many numbers of each: itself, the wider one, differences
# and slopes.
_TILE_SCORES, _TILES = 1 << 20, 4
# On the way back of such a loss, as large as the codes of all own rows: gradients from the scores, those from the
# queries, their sum. Of cached codes: those from the scores, put together, and with the batch's own ones taken out.
_BACK_CODES, _BACK_CACHED = 3, 3


@dataclass(frozen=True)
class Item:
    """Something a worker holds.

    Attributes:
        name: in words.
        num_bytes: of it.
        where: it lies.
        remedy: which field to change to have less of it.
    """

    name: str
    num_bytes: int
    where: Where
    remedy: str


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
        return _sum(self.resident, where) + max(_sum(items, where) for items in self.phases.values())

    def peak_items(self, where: Where) -> list[Item]:
        """What is held in a place at the peak, the largest first."""
        phase = max(self.phases.values(), key=lambda items: _sum(items, where))
        held = [item for item in (*self.resident, *phase) if item.where == where and item.num_bytes]
        return sorted(held, key=lambda item: -item.num_bytes)


def _sum(items: tuple[Item, ...], where: Where) -> int:
    return sum(item.num_bytes for item in items if item.where == where)


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
        self._state_bytes = sum(
            number.itemsize * (tail[0] if tail else 1)
            for tail, number in recipe.table.build().state_columns(self._width, self._row_dtype).values()
        )

    def plan(self) -> WorkerMemory:
        return WorkerMemory(
            self._resident(),
            {
                "start": self._start(),
                "step": self._step(),
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

    def _step(self) -> tuple[Item, ...]:
        live = self._live()
        if self._device != "host":
            return live
        reuses = self._recipe.train.engine.host_memory == "reuse"
        # Small blocks are never given back while steps go on: those of a small batch, and of a loss that goes block by
        # block over all entities, all but what is as long as the table.
        if not reuses and self._tensor_bytes() >= allocator.LARGE_BYTES:
            return live
        in_heap = [item for item in live if reuses or item.name not in (_TOUCHED, _CACHED)]
        holes = round(_HOLES * _sum(tuple(in_heap), "host"))
        remedy = "train.engine.host_memory" if reuses else "train.batch_size"
        return (*live, Item("holes between blocks that are used again", holes, "host", remedy))

    def _tensor_bytes(self) -> int:
        # Of a tensor as most of a step are; under a structure encoder, of the neighbours.
        rows, method = max(self._load.encoded, self._load.rows), self._recipe.method
        if isinstance(method, CompletionMethod) and isinstance(method.loss, AllEntitiesConfig):
            rows = min(method.loss.block, self._num_rows)
        return rows * self._width * self._dtype.itemsize

    def _live(self) -> tuple[Item, ...]:
        if isinstance(self._task, AlignmentTask):
            return self._step_of_alignment(self._task)
        method = self._recipe.method
        assert isinstance(method, CompletionMethod)
        if isinstance(method.loss, AllEntitiesConfig):
            return self._step_over_all(self._task, method.loss)
        return self._step_of_completion(self._task, method)

    def _step_of_alignment(self, task: AlignmentTask) -> tuple[Item, ...]:
        load, width, number = self._load, self._width, self._dtype.itemsize
        per_entity = bytes_per_entity(task, self._sizes, self._dtype)
        # What enters the first layer of the structure encoder and the gradient of that lie beside the rows.
        rows = load.rows * width * self._row_dtype.itemsize * 4
        entities = load.encoded * (per_entity + 2 * self._raw + 2 * load.code_width * number)
        arrived = load.arrived * load.code_width * number * 2
        scores = load.pairs * bytes_per_link_pair(task, self._dtype)
        return (
            Item("touched rows and gradients", rows, self._device, "train.fanout"),
            Item("activations of neighbours", self._neighbours(), self._device, "train.fanout"),
            Item("activations of the encoder", entities, self._device, "train.batch_size"),
            Item("codes of the batch", arrived, self._device, "train.batch_size"),
            Item("scores and negatives", scores, self._device, "train.batch_size"),
        )

    def _step_of_completion(self, task: CompletionTask, method: CompletionMethod) -> tuple[Item, ...]:
        load, negatives = self._load, method.negatives
        encoding = encoding_each(task, self._sizes, self._dtype, self._adversary)
        own = isinstance(negatives, PerTripleConfig)
        queries = load.pairs // negatives.num
        pools = 1 if isinstance(negatives, PerTripleConfig) else -(-queries // negatives.chunk)
        shared = 0 if own else negatives.num * pools
        each, pool = scoring_ways(
            task,
            self._dtype,
            candidates=negatives.num,
            own=own,
            codes_each=max(0, load.arrived - shared) / queries,
            adversary=self._adversary,
        )
        scores = round(queries * each.peak + pools * pool.peak)
        # Of the batch at hand, the next, and the one that is drawn: places of own candidates, and which do not count.
        drawn = load.pairs * (_BATCHES * 9 + _DRAWN_BYTES if own else _BATCHES)
        back = max(0, round(load.encoded * (encoding.peak - encoding.kept)) - scores)
        return (
            Item(_TOUCHED, self._looked_up(load.rows), self._device, "train.batch_size"),
            Item("raw vectors, and the next step's", 2 * load.encoded * self._raw, self._device, "train.batch_size"),
            Item("activations of the encoder", round(load.encoded * encoding.kept), self._device, "train.batch_size"),
            Item("codes of the batch", self._arrived(), self._device, "train.batch_size"),
            Item("scores and negatives", scores, self._device, "train.batch_size"),
            Item("way back through the encoder, beyond them", back, self._device, "train.batch_size"),
            Item("batches", drawn, "host", "train.batch_size"),
        )

    def _step_over_all(self, task: CompletionTask, loss: AllEntitiesConfig) -> tuple[Item, ...]:
        load, number = self._load, self._dtype.itemsize
        encoding = encoding_each(task, self._sizes, self._dtype)
        asking = asking_each(task, self._dtype)
        codes = self._num_rows * self._width * number
        block = min(loss.block, self._num_rows)
        fresh = loss.candidates == "fresh"
        if fresh:
            # Codes of the rows whose inner values stay are among those; for the others there are the codes alone.
            kept_rows = min(loss.kept_rows, self._num_rows) // block * block
            kept_rows = self._num_rows if self._num_rows <= loss.kept_rows else kept_rows
            inner = round(kept_rows * encoding.kept) + (self._num_rows - kept_rows) * self._width * number
            raw = block * self._raw
            back = block * (encoding.peak - (encoding.kept if kept_rows else 0))
        else:
            # Those of the next step are read meanwhile.
            inner, raw = round(load.encoded * encoding.kept), 2 * load.encoded * self._raw
            back = load.encoded * (encoding.peak - encoding.kept)
        pairs = min(loss.kept_scores, load.queries * self._num_rows)
        tile = min(_TILE_SCORES, load.queries * block)
        scores = pairs * kept_pair(task, self._dtype) + tile * self._row_dtype.itemsize * _TILES
        # The scores are used up before the encoder's way back begins.
        most = max(scores + codes, round(back) + codes * (_BACK_CODES if fresh else _BACK_CACHED))
        queries = round(load.queries * asking.peak) + (
            3 * load.queries * self._width * number if self._recipe.cluster.fewest_workers > 1 else 0
        )
        return (
            Item(_TOUCHED, self._looked_up(load.rows), self._device, "cluster.num_workers"),
            Item("raw vectors", raw, self._device, "method.loss.block"),
            Item("activations of the encoder", inner, self._device, "method.loss.kept_rows"),
            Item(_CACHED, 0 if fresh else 2 * codes, self._device, "cluster.num_workers"),
            Item("codes of the batch", self._arrived(), self._device, "train.batch_size"),
            Item("queries", queries, self._device, "train.batch_size"),
            Item("kept scores, or gradients of codes", most, self._device, "method.loss.kept_scores"),
        )

    def _looked_up(self, rows: int) -> int:
        # In the format of the step beside the table's own, where they differ.
        cast = 0 if self._dtype == self._row_dtype else self._dtype.itemsize
        return rows * self._width * (self._row_dtype.itemsize + cast)

    def _arrived(self) -> int:
        # Of several workers: what was sent and what came lie beside the codes of the owners, as do their gradients.
        if self._recipe.cluster.fewest_workers == 1:
            return 0
        return self._load.arrived * self._load.code_width * self._dtype.itemsize * 3

    def _update(self) -> tuple[Item, ...]:
        # After the way back, when activations are gone: rows twice, gradients twice, and the state of the rows.
        row = self._width * self._row_dtype.itemsize * 4 + self._state_bytes
        fewer = "train.fanout" if isinstance(self._task, AlignmentTask) else "train.batch_size"
        return (Item("touched rows, gradients and state", self._load.rows * row, self._device, fewer),)

    def _neighbours(self) -> int:
        """Of the layers of a structure encoder: what they keep of the entities below the last one, and of edges."""
        assert isinstance(self._task, AlignmentTask)
        load = self._load
        one, two = (bytes_per_target(self._task, self._dtype, edges_each=num) for num in (1, 2))
        # Codes from other owners, and their gradients, are copies.
        fetched = 2 * self._width * self._dtype.itemsize if self._recipe.cluster.fewest_workers > 1 else 0
        return load.inner * one + load.edges * (two - one + _EDGE_BYTES) + load.halo * fetched

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
            edges = self._load.owned_edges * _EDGE_BYTES * self._task.num_layers
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
                items.append(Item("near ties in double", _GATHERED * 8 * _TIES, self._device, "evaluate.first_pass"))
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
            *self._step(),
            Item("copy of rows and state", 0 if self._placed == "mapped" else self._num_rows * row, "host", lighter),
            Item("file of a virtual shard", shard * row, "host", "ingest.virtual_shards"),
        )
