"""What a step holds on its way forth and back, counted on a few entities and carried over to many.

The real task runs on made-up inputs of two or three small sizes; the difference between them is what one more entity
(or pair) costs. So a method that keeps less is planned for with less, without a table of constants here.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snag_dist.kg.adjacency import Adjacency
from snag_dist.model.aggregation import connect, connect_graph
from snag_dist.model.features import ColumnStatistics, EntityInputs
from snag_dist.random import Moment
from snag_dist.task.adversarial import Adversary
from snag_dist.task.alignment import AlignmentTask, assemble_pairs
from snag_dist.task.completion import CandidateBlock, CompletionBatch, CompletionTask
from snag_dist.training.plan.live_bytes import LiveBytes, Way
from snag_dist.training.plan.sizes import GraphSizes

_FEW = 32


def saved_bytes(run: Callable[[], object]) -> int:
    """Bytes of the distinct tensors that a forward pass keeps for its backward pass."""
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        # Held until the end, so that no address is used twice.
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = run()
    del result
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def bytes_per_entity(task: AlignmentTask, sizes: GraphSizes, dtype: torch.dtype) -> int:
    """Bytes that alignment keeps for each entity that it encodes."""
    task.to(dtype)

    def encode(num: int) -> int:
        inputs = _inputs(task.encoder.width, num, sizes, dtype)
        ring = np.stack([np.arange(num), np.zeros(num, dtype=np.int64), (np.arange(num) + 1) % num], axis=1)
        edges = connect_graph(Adjacency.build(ring, num))
        return saved_bytes(lambda: task.encode_graph(inputs, edges, Moment(0, 0, 0)))

    return max(0, encode(2 * _FEW) - encode(_FEW)) // _FEW


def encoding_each(
    task: CompletionTask, sizes: GraphSizes, dtype: torch.dtype, adversary: Adversary | None = None
) -> Way:
    """Bytes of completion for each entity that is encoded in training, its code and fake one included."""
    task.to(dtype)

    def way(num: int) -> Callable[[], Tensor]:
        task.zero_grad()
        inputs = _inputs(task.encoder.width, num, sizes, dtype)
        if adversary is not None:
            adversary.zero_grad()
        return lambda: _codes(task, adversary, inputs)

    # Enough that noise, which touches a share of them, touches some.
    return Way.of_each(way, 8 * _FEW)[0]


def _codes(task: CompletionTask, adversary: Adversary | None, inputs: EntityInputs) -> Tensor:
    moment = Moment(0, 0, 0)
    if adversary is None:
        return task.codes(inputs, moment)
    fused = task.encode(inputs, moment)
    fakes = adversary.generators.codes(task.encoder.fusion, fused, inputs.ids, moment)
    return torch.cat([fused.codes, fakes], dim=1)


def evaluated_each(task: CompletionTask, sizes: GraphSizes, dtype: torch.dtype) -> int:
    """Most bytes at a time for each entity that completion encodes without a way back."""
    task.to(dtype)

    def encode(num: int) -> int:
        inputs = _inputs(task.encoder.width, num, sizes, dtype)
        with LiveBytes() as live, torch.no_grad():
            task.encode(inputs, None)
        return live.peak

    return max(0, encode(2 * _FEW) - encode(_FEW)) // _FEW


def scoring_ways(
    task: CompletionTask,
    dtype: torch.dtype,
    *,
    candidates: int,
    own: bool,
    codes_each: float,
    adversary: Adversary | None,
) -> tuple[Way, Way]:
    """Bytes of each query of a loss on sampled candidates, and of a pool of candidates beside its queries.

    Args:
        task: of the recipe.
        dtype: of codes.
        candidates: K of a query.
        own: whether they are each query's own, or a pool's.
        codes_each: distinct codes that arrive for each query.
        adversary: that plays on the same batch; None where there is none.
    """
    task.to(dtype)

    def way(num: int) -> Callable[[], Tensor]:
        task.zero_grad()
        count = max(1, round(codes_each * num))
        both = torch.randn(count, task.encoder.width * (1 if adversary is None else 2), dtype=dtype, requires_grad=True)
        batch = _batch(num, count, candidates, own=own)
        return lambda: _lose(task, adversary, both, batch)

    return Way.of_each(way, 2 * _FEW)


def _batch(num: int, count: int, candidates: int, *, own: bool) -> CompletionBatch:
    index = torch.arange(num * candidates).view(num, candidates) if own else torch.arange(candidates)
    nothing = torch.zeros(num, candidates, dtype=torch.bool)
    return CompletionBatch(
        entities=torch.arange(count),
        known=torch.arange(num) % count,
        answer=torch.arange(num) % count,
        relations=torch.zeros(num, dtype=torch.int64),
        find_tail=torch.arange(num) % 2 == 0,
        blocks=(CandidateBlock(0, num, index % count, nothing),),
        share=1.0 / num,
    )


def _lose(task: CompletionTask, adversary: Adversary | None, codes: Tensor, batch: CompletionBatch) -> Tensor:
    if adversary is None:
        return task.loss(codes, batch).loss
    true, fakes = codes.chunk(2, dim=1)
    loss = task.loss(true, batch).loss + adversary.model_loss(task, true, fakes, batch).loss
    return loss + adversary.generator_loss(task, true, fakes, batch).loss


def asking_each(task: CompletionTask, dtype: torch.dtype) -> Way:
    """Bytes of each query of a loss over all entities, from the codes of its batch to its vector."""
    task.to(dtype)

    def way(num: int) -> Callable[[], Tensor]:
        task.zero_grad()
        codes = torch.randn(num, task.encoder.width, dtype=dtype, requires_grad=True)
        batch = _batch(num, num, 1, own=False)
        return lambda: task.queries(codes.index_select(0, batch.known), batch.relations, batch.find_tail)

    return Way.of_each(way, 2 * _FEW)[0]


def kept_pair(task: CompletionTask, dtype: torch.dtype) -> int:
    """Bytes of each kept score of a query with an entity, those included that the scorer needs for the way back."""
    width = task.encoder.width
    scorer = task.scorer.to(dtype)

    def score(num: int) -> int:
        queries, codes = (torch.randn(num, width, dtype=dtype, requires_grad=True) for _ in range(2))
        with LiveBytes() as live:
            scores = scorer.score(queries, codes)
            kept = live.now
            del scores
        return kept

    # Second difference: what grows with the number of pairs alone.
    return max(0, score(3 * _FEW) - 2 * score(2 * _FEW) + score(_FEW)) // (2 * _FEW**2)


def bytes_per_target(task: AlignmentTask, dtype: torch.dtype, *, edges_each: int) -> int:
    """Bytes that a layer of the structure encoder keeps for each entity it encodes, with so many edges into it."""
    task.to(dtype)
    width = task.encoder.width

    def encode(num: int) -> int:
        sources, targets = (torch.randn(count, width, dtype=dtype, requires_grad=True) for count in (_FEW, num))
        ends = torch.arange(num).repeat_interleave(edges_each)
        edges = connect(torch.arange(len(ends)) % _FEW, ends, _FEW, num, torch.ones(len(ends), dtype=dtype))
        return saved_bytes(lambda: task.layer(0, sources, targets, edges))

    return max(0, encode(2 * _FEW) - encode(_FEW)) // _FEW


def bytes_per_link_pair(task: AlignmentTask, dtype: torch.dtype) -> int:
    """Bytes kept for each own pair and pair of the batch by the contrastive terms."""
    task.to(dtype)

    def contrast(num: int) -> int:
        pairs = np.stack([np.arange(num), num + np.arange(num)], axis=1)
        batch = assemble_pairs(pairs, 0, num)
        packed = torch.rand(2 * num, packed_width(task), dtype=dtype, requires_grad=True)
        return saved_bytes(lambda: task.loss(packed, batch))

    # Second difference: what grows with the number of pairs alone, and what does not grow, falls out.
    return max(0, contrast(3 * _FEW) - 2 * contrast(2 * _FEW) + contrast(_FEW)) // (2 * _FEW**2)


def packed_width(task: AlignmentTask) -> int:
    """Numbers of an entity's views on their way to those who compare them; see `EntityViews.pack`."""
    tokens = task.encoder.num_tokens
    layers = 1 if task.encoder.attention is None else 2
    return layers * tokens * task.encoder.width + 2 * tokens


def _inputs(width: int, num: int, sizes: GraphSizes, dtype: torch.dtype) -> EntityInputs:
    rows: Any = torch.randn(num, width, dtype=dtype, requires_grad=True)
    features = {name: torch.randn(num, size.width) for name, size in sizes.modalities.items()}
    present = {name: torch.ones(num, dtype=torch.bool) for name in sizes.modalities}
    statistics = ColumnStatistics(torch.zeros(width), torch.ones(width))
    return EntityInputs(torch.arange(num), rows, features, present, statistics)
