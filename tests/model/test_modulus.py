"""All implementations of the modulus distance against the plain formula, in value and gradient."""

import logging
import sys
from importlib import import_module, util

import pytest
import torch
from torch import Tensor

from snag_dist.model import modulus


def plain(queries: Tensor, candidates: Tensor) -> Tensor:
    difference = queries[:, None] - candidates
    return torch.hypot(*difference.chunk(2, dim=-1)).sum(-1)


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the fused version run without a GPU, in Triton's interpreter (see conftest.py)."""
    if util.find_spec("triton") is None:
        pytest.skip("triton is not installed")
    if torch.cuda.is_available():
        pytest.skip("the kernels run on the GPU that is here")
    fused = import_module("snag_dist.model.modulus_triton")
    monkeypatch.setattr(modulus, "_find_fused", lambda: fused)


@pytest.fixture(params=["compiled", "blocked", "fused"])
def implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "fused":
        request.getfixturevalue("interpreted")
    monkeypatch.setattr(modulus, "pick", lambda _queries: request.param)
    return request.param


def draw(rows: int, width: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(7 * rows + width)
    return torch.randn(rows, width, dtype=dtype, generator=generator).requires_grad_()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
@pytest.mark.parametrize(("num_queries", "num_candidates", "width"), [(1, 1, 2), (3, 5, 8), (70, 130, 64)])
def test_all_pairs_equal_the_plain_formula(
    implementation: str, dtype: torch.dtype, tolerance: float, num_queries: int, num_candidates: int, width: int
) -> None:
    if implementation == "fused" and dtype == torch.float64:
        pytest.skip("the fused version computes in float32 and is never picked for float64")
    queries, candidates = draw(num_queries, width, dtype), draw(num_candidates + 1, width, dtype)[1:]
    grad = torch.linspace(-1, 1, num_queries * num_candidates, dtype=dtype).view(num_queries, num_candidates)
    expected = plain(queries, candidates[None])
    wanted = torch.autograd.grad(expected, (queries, candidates), grad)
    found = modulus.modulus_distance(queries, candidates)
    got = torch.autograd.grad(found, (queries, candidates), grad)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    for have, want in zip(got, wanted, strict=True):
        torch.testing.assert_close(have, want, rtol=tolerance * 10, atol=tolerance * 10)


@pytest.mark.parametrize("implementation", ["compiled", "blocked"], indirect=True)
def test_own_pairs_equal_the_plain_formula(implementation: str) -> None:
    queries, candidates = draw(6, 8, torch.float64), draw(9, 8, torch.float64)
    # An entity that occurs twice in a list, and in several lists, collects all its gradients.
    index = torch.randint(0, 9, (6, 4), generator=torch.Generator().manual_seed(0))
    index[0] = 3
    expected = plain(queries, candidates[index])
    wanted = torch.autograd.grad(expected.square().sum(), (queries, candidates))
    found = modulus.modulus_distance_own(queries, candidates, index)
    got = torch.autograd.grad(found.square().sum(), (queries, candidates))
    torch.testing.assert_close(found, expected)
    for have, want in zip(got, wanted, strict=True):
        torch.testing.assert_close(have, want)


def test_gradient_is_zero_where_points_coincide(implementation: str) -> None:
    queries = torch.tensor([[1.0, 2.0, 3.0, 4.0]], requires_grad=True)
    candidates = queries.detach().clone().requires_grad_()
    modulus.modulus_distance(queries, candidates).sum().backward()
    assert torch.equal(queries.grad, torch.zeros(1, 4))
    assert torch.equal(candidates.grad, torch.zeros(1, 4))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_run_repeats_bit_for_bit(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        queries, candidates = draw(50, 16, torch.float32), draw(40, 16, torch.float32)
        runs = [
            torch.autograd.grad(modulus.modulus_distance(queries, candidates).sum(), (queries, candidates))
            for _ in range(3)
        ]
    finally:
        torch.set_num_threads(before)
    for later in runs[1:]:
        assert all(torch.equal(one, two) for one, two in zip(runs[0], later, strict=True))


def test_no_queries_or_no_candidates(implementation: str) -> None:
    assert modulus.modulus_distance(torch.zeros(0, 4), torch.ones(3, 4)).shape == (0, 3)
    assert modulus.modulus_distance(torch.zeros(2, 4), torch.ones(0, 4)).shape == (2, 0)


def test_bfloat16_goes_through_the_blocked_version() -> None:
    queries, candidates = draw(4, 8, torch.float32), draw(5, 8, torch.float32)
    assert modulus.pick(queries.bfloat16()) == "blocked"
    rough = modulus.modulus_distance(queries.bfloat16(), candidates.bfloat16()).float()
    torch.testing.assert_close(rough, plain(queries, candidates[None]), rtol=0.03, atol=0.03)


@pytest.mark.usefixtures("interpreted")
def test_fused_bfloat16_is_computed_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modulus, "pick", lambda _queries: "fused")
    queries, candidates = (draw(rows, 8, torch.float32).bfloat16().detach().requires_grad_() for rows in (4, 5))
    exact = plain(queries.float(), candidates.float()[None])
    found = modulus.modulus_distance(queries, candidates)
    # One rounding to bfloat16 at the end, and no more.
    assert torch.equal(found, exact.bfloat16())
    got = torch.autograd.grad(found.sum(), (queries, candidates))
    wanted = torch.autograd.grad(exact.sum(), (queries, candidates))
    for have, want in zip(got, wanted, strict=True):
        torch.testing.assert_close(have, want, rtol=0.01, atol=0.01)


def test_what_is_picked() -> None:
    assert modulus.choose("cpu", torch.float32) == modulus.choose("cpu", torch.float64) == "compiled"
    assert modulus.choose("cpu", torch.bfloat16) == modulus.choose("cuda", torch.float64) == "blocked"


@pytest.mark.usefixtures("interpreted")
def test_cuda_is_fused_where_triton_is_there() -> None:
    assert {modulus.choose("cuda", dtype) for dtype in (torch.float32, torch.bfloat16, torch.float16)} == {"fused"}


def test_without_triton_cuda_falls_back_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "snag_dist.model.modulus_triton", raising=False)
    modulus._find_fused.cache_clear()
    with caplog.at_level(logging.WARNING, "snag_dist"):
        assert [modulus.choose("cuda", torch.bfloat16) for _ in range(2)] == ["blocked"] * 2
    modulus._find_fused.cache_clear()
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("modulus distance: Triton cannot be imported")
    assert caplog.messages[0].endswith("the slower blocked version is used")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize(("num_queries", "num_candidates", "width"), [(3, 5, 8), (500, 300, 256), (1024, 2000, 100)])
def test_fused_on_a_gpu_equals_double(num_queries: int, num_candidates: int, width: int) -> None:
    queries, candidates = draw(num_queries, width, torch.float32), draw(num_candidates + 1, width, torch.float32)[1:]
    left, right = (part.detach().cuda().requires_grad_() for part in (queries, candidates))
    assert modulus.pick(left) == "fused"
    exact_queries, exact_candidates = (part.detach().double().requires_grad_() for part in (queries, candidates))
    exact = modulus.modulus_distance(exact_queries, exact_candidates)
    grad = torch.linspace(-1, 1, exact.numel(), dtype=torch.float64).view_as(exact)
    wanted = torch.autograd.grad(exact, (exact_queries, exact_candidates), grad)
    found = modulus.modulus_distance(left, right)
    got = torch.autograd.grad(found, (left, right), grad.float().cuda())
    torch.testing.assert_close(found.cpu().double(), exact, rtol=1e-5, atol=1e-5)
    for have, want in zip(got, wanted, strict=True):
        torch.testing.assert_close(have.cpu().double(), want, rtol=1e-4, atol=1e-4)
