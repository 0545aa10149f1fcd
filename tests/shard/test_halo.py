"""Codes through a structure encoder over many workers against the whole graph in one place, with gradients."""

from dataclasses import replace
from itertools import product
from typing import Any, get_args

import numpy as np
import pytest
import torch
from distributed import run_distributed
from numpy.typing import NDArray
from torch import Tensor

from snag_dist.kg.adjacency import Adjacency
from snag_dist.model.aggregation import connect_graph
from snag_dist.model.structure import GcnConfig, StructureConfig, StructureEncoder
from snag_dist.random import Stream
from snag_dist.shard.exchange import Exchange
from snag_dist.shard.group import Group
from snag_dist.shard.halo import plan_halo, run_halo
from snag_dist.shard.neighbours import OwnedEdges
from snag_dist.shard.partition import Partition

pytestmark = pytest.mark.distributed
NUM, WIDTH, SHARDS = 60, 5, 8
# Every structure encoder there is, and one that looks further.
ENCODERS: dict[str, Any] = {
    **{config.model_fields["kind"].default: config() for config in get_args(get_args(StructureConfig)[0])},
    "three layers": GcnConfig(num_layers=3),
}
# Over all workers, and on the first of four alone: then the others only serve.
WANTED: dict[str, NDArray[np.int64]] = {"spread": np.arange(1, NUM, 4), "first worker": np.array([0, 3, 11])}
FANOUTS: tuple[int | None, ...] = (None, 2)


def draw_triples() -> NDArray[np.int64]:
    # Sparse, so that the halo of a few targets is not the whole graph.
    return np.random.default_rng(0).integers(0, (NUM, 3, NUM), size=(70, 3))


def build(kind: str) -> StructureEncoder:
    torch.manual_seed(0)
    encoder = ENCODERS[kind].build(WIDTH).double()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return encoder


def draw_numbers(seed: int) -> Tensor:
    return torch.randn(NUM, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def spread(values: Tensor, ids: Tensor) -> NDArray[np.float64]:
    """(NUM, WIDTH) with values (n, WIDTH) in rows `ids`, 0 elsewhere."""
    return torch.zeros(NUM, WIDTH, dtype=torch.float64).index_copy(0, ids, values.detach()).numpy()


def encode(group: Group) -> dict[Any, dict[str, Any]]:
    """Encode what is wanted of this worker's rows in every case, and differentiate a product with fixed numbers."""
    partition = Partition(NUM, SHARDS, group.size)
    first_row, stop = partition.rows(group.rank)
    owned = OwnedEdges.build(draw_triples(), NUM, first_row, stop)
    exchange = Exchange(group, partition)
    found: dict[Any, dict[str, Any]] = {}
    for kind, wanted, fanout in product(ENCODERS, WANTED, FANOUTS):
        encoder = build(kind)
        rows = WANTED[wanted]
        targets = torch.from_numpy(rows[(rows >= first_row) & (rows < stop)])
        halo = plan_halo(
            targets,
            owned,
            exchange,
            num_layers=encoder.num_layers,
            device=group.device,
            fanout=fanout,
            stream=None if fanout is None else Stream(1, "neighbours"),
        )
        leaf = draw_numbers(1)[halo.rows].requires_grad_()
        codes = run_halo(halo, leaf, encoder.layer, exchange)
        (codes * draw_numbers(2)[targets]).sum().backward()
        assert leaf.grad is not None
        found[kind, wanted, fanout] = {
            "targets": len(targets),
            "rows": halo.rows.tolist(),
            "owned": (first_row, stop),
            "codes": spread(codes, targets),
            "row_grads": spread(leaf.grad, halo.rows),
            "grads": {
                name: group.sum(torch.zeros_like(value) if value.grad is None else value.grad).numpy()
                for name, value in encoder.named_parameters()
            },
        }
    return found


def encode_whole(kind: str, wanted: str) -> dict[str, Any]:
    """The same of the whole graph in one place."""
    encoder, ids = build(kind), torch.from_numpy(WANTED[wanted])
    adjacency = Adjacency.build(draw_triples(), NUM)
    # In double as the halo has them; `connect_graph` rounds to float32.
    edges = replace(connect_graph(adjacency), value=torch.from_numpy(adjacency.normalised()))
    leaf = draw_numbers(1).requires_grad_()
    codes = encoder(leaf, edges)[ids]
    (codes * draw_numbers(2)[ids]).sum().backward()
    assert leaf.grad is not None
    grads = {name: value.grad.numpy() for name, value in encoder.named_parameters() if value.grad is not None}
    return {"codes": spread(codes, ids), "row_grads": leaf.grad.numpy(), "grads": grads}


@pytest.fixture(scope="module")
def runs() -> dict[int, list[dict[Any, dict[str, Any]]]]:
    return {1: [encode(Group())]} | {size: run_distributed(encode, size) for size in (2, 4)}


def check(workers: list[dict[str, Any]], expected: dict[str, Any]) -> None:
    for name in ("codes", "row_grads"):
        np.testing.assert_allclose(sum(worker[name] for worker in workers), expected[name], rtol=1e-11, atol=1e-13)
    for worker in workers:
        assert worker["grads"].keys() == expected["grads"].keys()
        for name, value in expected["grads"].items():
            np.testing.assert_allclose(worker["grads"][name], value, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("wanted", WANTED)
@pytest.mark.parametrize("kind", ENCODERS)
def test_equals_the_whole_graph(runs: Any, kind: str, wanted: str, size: int) -> None:
    expected = encode_whole(kind, wanted)
    assert np.abs(expected["row_grads"]).sum() > 0
    check([worker[kind, wanted, None] for worker in runs[size]], expected)


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("wanted", WANTED)
@pytest.mark.parametrize("kind", ENCODERS)
def test_sampled_neighbours_are_the_same_at_any_number_of_workers(runs: Any, kind: str, wanted: str, size: int) -> None:
    alone = runs[1][0][kind, wanted, 2]
    check([worker[kind, wanted, 2] for worker in runs[size]], alone)
    assert not np.allclose(alone["codes"], runs[1][0][kind, wanted, None]["codes"])


@pytest.mark.parametrize("size", [2, 4])
def test_workers_without_targets_serve_their_rows(runs: Any, size: int) -> None:
    workers = [worker["three layers", "first worker", None] for worker in runs[size]]
    assert [worker["targets"] for worker in workers] == [3] + [0] * (size - 1)
    assert any(worker["rows"] for worker in workers[1:])
    for worker in workers:
        first_row, stop = worker["owned"]
        assert worker["rows"] == sorted({row for row in worker["rows"] if first_row <= row < stop})
    # Three layers below three targets do not reach everything.
    assert 3 < sum(len(worker["rows"]) for worker in workers) < NUM
