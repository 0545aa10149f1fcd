"""Structure encoders: golden numbers of the published code, and what every one of them promises."""

from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from snag_dist.errors import ShapeError
from snag_dist.kg.adjacency import Adjacency
from snag_dist.model.aggregation import Edges, connect, connect_graph
from snag_dist.model.structure import Gat, GatConfig, Gcn, GcnConfig, StructureConfig, StructureEncoder

CONFIGS: list[Any] = list(get_args(get_args(StructureConfig)[0]))
# G9.
TRIPLES = np.array([[0, 0, 1], [1, 1, 2], [0, 5, 1], [2, 1, 2]])
CODES = torch.tensor([[1.0, 2], [0, -1], [3, 1]])


def random_graph(num: int = 12, triples: int = 20) -> Edges:
    return connect_graph(Adjacency.build(np.random.default_rng(5).integers(num, size=(triples, 3)), num))


@pytest.mark.parametrize(
    ("layers", "heads", "expected"),
    [
        (1, 1, [[0.710949, 1.132848], [1.244631, 0.820214], [1.425062, -0.049958]]),
        (2, 2, [[0.860821, 0.587782], [1.024153, 0.399047], [1.318832, 0.295262]]),
    ],
)
def test_gat_golden_numbers(layers: int, heads: int, expected: list[list[float]]) -> None:
    encoder = GatConfig(num_layers=layers, num_heads=heads).build(2)
    assert isinstance(encoder, Gat)
    both = torch.tensor([[0.1, 0.2, 0.3, -0.4], [-0.2, 0.1, 0, 0.3]])
    with torch.no_grad():
        encoder.attention.copy_(both[:heads].expand(layers, heads, 4))
    found = encoder(CODES, connect_graph(Adjacency.build(TRIPLES, 3)))
    torch.testing.assert_close(found, torch.tensor(expected), atol=2e-6, rtol=0)


def test_gcn_hand_numbers() -> None:
    # One layer, W = [[1, 1], [0, 2]], b = [0, 10]: entity 0 mixes 1/3 [1, 2] + .577350 [0, -1] = [.333333, .089317].
    encoder = GcnConfig(num_layers=1).build(2)
    assert isinstance(encoder, Gcn)
    with torch.no_grad():
        encoder.weight.copy_(torch.tensor([[[1.0, 1], [0, 2]]]))
        encoder.bias.copy_(torch.tensor([[0.0, 10]]))
    found = encoder(CODES, connect_graph(Adjacency.build(TRIPLES, 3)))[0]
    torch.testing.assert_close(found, torch.tensor([0.333333, 10.511966]), atol=1e-5, rtol=0)


def test_gcn_needs_values() -> None:
    edges = connect(torch.tensor([0]), torch.tensor([0]), 1, 1)
    with pytest.raises(ShapeError, match=r"edges of a GCN: expected \(L,\) values, got none; take them from"):
        GcnConfig().build(2)(torch.zeros(1, 2), edges)


@pytest.mark.parametrize("config", CONFIGS)
class TestEveryStructureEncoder:
    def build(self, config: Any, width: int = 3) -> StructureEncoder:
        torch.manual_seed(0)
        return config().build(width).double()

    def test_gradients_are_right(self, config: Any) -> None:
        encoder, edges = self.build(config), random_graph()
        codes = torch.randn(12, 3, dtype=torch.float64, requires_grad=True)
        parameters = [parameter.detach().requires_grad_() for parameter in encoder.parameters()]
        names = [name for name, _ in encoder.named_parameters()]

        def run(codes: Tensor, *values: Tensor) -> Tensor:
            return torch.func.functional_call(encoder, dict(zip(names, values, strict=True)), (codes, edges))

        assert torch.autograd.gradcheck(run, (codes, *parameters))

    def test_a_block_with_fetched_codes_equals_the_whole_graph(self, config: Any) -> None:
        # Entities 4 to 8 have an owner that fetches the neighbours it lacks, in an order of its own.
        encoder, edges = self.build(config), random_graph()
        codes, own = torch.randn(12, 3, dtype=torch.float64), torch.arange(4, 9)
        mine = (edges.target >= 4) & (edges.target < 9)
        halo = torch.unique(edges.source[mine]).flip(0)
        halo = torch.cat([own, halo[(halo < 4) | (halo >= 9)]])
        place = torch.full((12,), -1)
        place[halo] = torch.arange(len(halo))
        assert edges.value is not None
        block = connect(place[edges.source[mine]], edges.target[mine] - 4, len(halo), 5, edges.value[mine])
        for index in range(encoder.num_layers):
            whole = encoder.layer(index, codes, codes, edges)
            assert torch.equal(encoder.layer(index, codes[halo], codes[own], block), whole[own])
            codes = whole

    def test_the_order_of_the_triples_changes_nothing(self, config: Any) -> None:
        encoder, codes = self.build(config, 2), CODES.double()
        turned = connect_graph(Adjacency.build(TRIPLES[::-1, ::-1], 3))
        assert torch.equal(encoder(codes, connect_graph(Adjacency.build(TRIPLES, 3))), encoder(codes, turned))

    def test_nothing_of_edges_by_width_or_entities_squared_is_kept(self, config: Any) -> None:
        num, width = 60, 20
        edges, sizes = random_graph(num, 300), [0]
        codes = torch.randn(num, width, dtype=torch.float64, requires_grad=True)

        def note(tensor: Tensor) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            self.build(config, width)(codes, edges).sum().backward()
        assert len(edges.source) * width > num * num > num * width
        assert max(sizes) <= max(num * width, 2 * len(edges.source))

    def test_codes_that_do_not_fit_the_edges_are_refused(self, config: Any) -> None:
        with pytest.raises(ShapeError, match=r"sources of a structure layer: expected shape \(12, -1\)"):
            self.build(config)(torch.zeros(11, 3, dtype=torch.float64), random_graph())

    def test_low_precision_codes_stay_low(self, config: Any) -> None:
        out = self.build(config)(torch.randn(12, 3, dtype=torch.bfloat16), random_graph())
        assert out.dtype == torch.bfloat16
