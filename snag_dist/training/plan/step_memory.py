"""Bytes that a step of one worker holds on its way forth and back, by what the task is."""

from functools import cached_property

import torch

from snag_dist.method.choices import CompletionMethod
from snag_dist.objective.all_entities import TILE_SCORES, AllEntitiesConfig
from snag_dist.sampling.negatives import PerTripleConfig
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
    kept_pair,
    scoring_ways,
)
from snag_dist.training.plan.items import Item, Where, total_bytes
from snag_dist.training.plan.live_bytes import Way
from snag_dist.training.plan.load import StepLoad
from snag_dist.training.plan.sizes import GraphSizes
from snag_dist.training.recipe import Recipe

EDGE_BYTES = 56
"""Ids, ends and orders of an edge of a layer."""
# Of what is alive in a step, where it comes and goes in one heap. torch asks for blocks that begin at a multiple of 64
# bytes: glibc looks for 96 bytes more and gives the ends back, which small blocks then take. So a block that was freed
# is too small for the next of the same size; it serves a smaller one, or one as large as it and freed neighbours are.
# The heap has nearly stopped growing after three steps. Fitted, not derived: 0.5 to 0.7 where most blocks are small,
# and 0.2 to 0.4 where most are large and a step uses them again; D was 128 and 256.
_HOLES, _HOLES_OF_LARGE = 0.65, 0.3
_TOUCHED, _CODES = "touched rows", "codes of own rows"
# Batches at a time: the one at hand, the next one, and the one that is drawn.
_BATCHES = 3
# What drawing own candidates takes, an int64 each: keys of head, relation and tail, their places, and turns of a sort.
_DRAWN_BYTES = 64
# Numbers of each score of a tile: itself, the wider one, differences and slopes.
_TILES = 4
# On the way back of such a loss, as large as the codes of all own rows: gradients from the scores, those from the
# queries, their sum. Of cached codes: those from the scores, put together, and with the batch's own ones taken out.
_BACK_CODES, _BACK_CACHED = 3, 3


class StepItems:
    """What the steps of a recipe hold, on the worker that owns most rows.

    Args:
        recipe: of the run.
        sizes: of the graph.
        task: network of the recipe.
        load: of a step.
        adversary: second player, where there is one.
    """

    def __init__(
        self,
        recipe: Recipe,
        sizes: GraphSizes,
        task: CompletionTask | AlignmentTask,
        load: StepLoad,
        adversary: Adversary | None,
    ):
        self._recipe, self._sizes, self._task, self._load = recipe, sizes, task, load
        self._adversary = adversary
        self._dtype = DTYPES[recipe.train.engine.precision]
        self._row_dtype = torch.promote_types(self._dtype, torch.float32)
        self._width = recipe.method.encoder.width
        self._num_rows = sizes.most_rows(recipe.cluster.fewest_workers)
        self._raw = sum(size.width * 4 for size in sizes.modalities.values())
        self._device: Where = "device" if recipe.cluster.use_gpu else "host"
        method = recipe.method
        loss = method.loss if isinstance(method, CompletionMethod) else None
        self._loss = loss if isinstance(loss, AllEntitiesConfig) else None

    def items(self) -> tuple[Item, ...]:
        """Items that a step holds at its peak."""
        live = self._live()
        if self._device != "host":
            return live
        if self._recipe.train.engine.host_memory == "reuse":
            remedy = "train.engine.host_memory"
            # What is as long as the table comes once.
            short = tuple(item for item in live if self._loss is None or item.name not in (_TOUCHED, _CODES))
            holes = (_HOLES if self._is_small() else _HOLES_OF_LARGE) * total_bytes(short, "host")
        else:
            remedy, holes = "train.batch_size", _HOLES * self._small_bytes(live)
        return (*live, Item("holes between blocks that are used again", round(holes), "host", remedy))

    @cached_property
    def _encoding(self) -> Way:
        assert not isinstance(self._task, AlignmentTask)
        return encoding_each(self._task, self._sizes, self._dtype, self._adversary)

    def _small_bytes(self, live: tuple[Item, ...]) -> int:
        # Small blocks are never given back while steps go on: those of a small batch, and those of a loss that goes
        # block by block over all entities.
        if not self._is_small():
            return 0
        if self._loss is None:
            return total_bytes(tuple(item for item in live if item.name != _TOUCHED), "host")
        encoding = self._encoding
        block, kept_rows = self._block(self._loss), self._kept_rows(self._loss)
        if self._loss.candidates == "cached":
            return round(block * encoding.peak)
        # Inner values that stay; once they are used up, gradients of the codes of each block, put together.
        sums = self._num_rows * self._width * self._dtype.itemsize
        return round(max(kept_rows * self._inner(encoding), sums) + block * (encoding.peak - self._inner(encoding)))

    def _is_small(self) -> bool:
        # A tensor as most of a step are; under a structure encoder, of the neighbours.
        rows = max(self._load.encoded, self._load.rows) if self._loss is None else self._block(self._loss)
        return rows * self._width * self._dtype.itemsize < allocator.LARGE_BYTES

    def _block(self, loss: AllEntitiesConfig) -> int:
        return min(loss.block, self._num_rows)

    def _kept_rows(self, loss: AllEntitiesConfig) -> int:
        """Rows whose inner values stay: whole blocks, or all."""
        if self._num_rows <= loss.kept_rows:
            return self._num_rows
        return loss.kept_rows // self._block(loss) * self._block(loss)

    def _inner(self, encoding: Way) -> float:
        # Beside the codes, which are copied into one tensor.
        return encoding.kept - self._width * self._dtype.itemsize

    def _live(self) -> tuple[Item, ...]:
        if isinstance(self._task, AlignmentTask):
            return self._step_of_alignment(self._task)
        if self._loss is not None:
            return self._step_over_all(self._task, self._loss)
        method = self._recipe.method
        assert isinstance(method, CompletionMethod)
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
        encoding = self._encoding
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
        encoding = self._encoding
        asking = asking_each(task, self._dtype)
        codes = self._num_rows * self._width * number
        block, kept_rows = self._block(loss), self._kept_rows(loss)
        fresh = loss.candidates == "fresh"
        if fresh:
            inner, raw = round(kept_rows * self._inner(encoding)), block * self._raw
            back = block * (encoding.peak - (encoding.kept if kept_rows else 0))
        else:
            # Those of the next step are read meanwhile.
            inner, raw = round(load.encoded * encoding.kept), 2 * load.encoded * self._raw
            back = load.encoded * (encoding.peak - encoding.kept)
        pairs = min(loss.kept_scores, load.queries * self._num_rows)
        tile = min(TILE_SCORES, load.queries * block)
        scores = pairs * kept_pair(task, self._dtype) + tile * self._row_dtype.itemsize * _TILES
        # Beside all scores lie the gradients of codes; scores are used up before the encoder's way back begins.
        most = max(scores + codes, round(back) + codes * (_BACK_CODES if fresh else _BACK_CACHED))
        queries = round(load.queries * asking.peak) + (
            3 * load.queries * self._width * number if self._recipe.cluster.fewest_workers > 1 else 0
        )
        return (
            Item(_TOUCHED, self._looked_up(load.rows), self._device, "cluster.num_workers"),
            Item("raw vectors", raw, self._device, "method.loss.block"),
            Item("activations of the encoder", inner, self._device, "method.loss.kept_rows"),
            # Cached ones are there with and without those of the batch.
            Item(_CODES, codes if fresh else 2 * codes, self._device, "cluster.num_workers"),
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

    def _neighbours(self) -> int:
        """Of the layers of a structure encoder: what they keep of the entities below the last one, and of edges."""
        assert isinstance(self._task, AlignmentTask)
        load = self._load
        one, two = (bytes_per_target(self._task, self._dtype, edges_each=num) for num in (1, 2))
        # Codes from other owners, and their gradients, are copies.
        fetched = 2 * self._width * self._dtype.itemsize if self._recipe.cluster.fewest_workers > 1 else 0
        return load.inner * one + load.edges * (two - one + EDGE_BYTES) + load.halo * fetched
