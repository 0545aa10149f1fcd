"""What autograd keeps of a step for its way back, counted on a few entities and carried over to many.

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
from snag_dist.task.alignment import AlignmentTask, assemble_pairs
from snag_dist.task.completion import CompletionTask
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


def bytes_per_entity(task: CompletionTask | AlignmentTask, sizes: GraphSizes, dtype: torch.dtype) -> int:
    """Bytes kept for each encoded entity."""
    task.to(dtype)

    def encode(num: int) -> int:
        inputs = _inputs(task.encoder.width, num, sizes, dtype)
        moment = Moment(0, 0, 0)
        if isinstance(task, CompletionTask):
            completion = task
            return saved_bytes(lambda: completion.encode(inputs, moment))
        alignment = task
        ring = np.stack([np.arange(num), np.zeros(num, dtype=np.int64), (np.arange(num) + 1) % num], axis=1)
        edges = connect_graph(Adjacency.build(ring, num))
        return saved_bytes(lambda: alignment.encode_graph(inputs, edges, moment))

    return max(0, encode(2 * _FEW) - encode(_FEW)) // _FEW


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


def bytes_per_pair(task: CompletionTask, dtype: torch.dtype, *, own: bool) -> int:
    """Bytes kept for each query and candidate by the scorer: `own` candidates of every query, or shared ones."""
    width = task.encoder.width
    scorer = task.scorer.to(dtype)

    def score(num: int) -> int:
        queries, codes = (torch.randn(count, width, dtype=dtype, requires_grad=True) for count in (_FEW, num))
        if own:
            return saved_bytes(lambda: scorer.score_own(queries, codes, torch.arange(num).expand(_FEW, num)))
        return saved_bytes(lambda: scorer.score(queries, codes))

    return max(0, score(2 * _FEW) - score(_FEW) - _FEW * width * dtype.itemsize) // _FEW**2


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
