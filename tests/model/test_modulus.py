"""All implementations of the modulus distance against the plain formula, in value and gradient."""

import logging
import sys
from importlib import import_module, util
from types import SimpleNamespace
from typing import Any

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


def assert_near(found: Tensor, truth: Tensor, share: float) -> None:
    """Expect every number within a share of the largest one of the truth."""
    assert found.shape == truth.shape
    away = (found.double().cpu() - truth).abs().max().item()
    assert away <= share * truth.abs().max().item()


def truth_of(queries: Tensor, candidates: Tensor, grad: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Distances and gradients of the numbers as they are, by the plain formula in double."""
    left, right = (part.detach().cpu().double().requires_grad_() for part in (queries, candidates))
    distances = plain(left, right[None])
    return distances.detach(), torch.autograd.grad(distances, (left, right), grad.cpu().double())


@pytest.mark.parametrize(("dtype", "share"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
@pytest.mark.parametrize(("num_queries", "num_candidates", "width"), [(1, 1, 2), (3, 5, 8), (70, 130, 64)])
def test_all_pairs_equal_the_plain_formula(
    implementation: str, dtype: torch.dtype, share: float, num_queries: int, num_candidates: int, width: int
) -> None:
    if implementation == "fused" and dtype == torch.float64:
        pytest.skip("the fused version computes in float32 and is never picked for float64")
    queries, candidates = draw(num_queries, width, dtype), draw(num_candidates + 1, width, dtype)[1:]
    grad = torch.linspace(-1, 1, num_queries * num_candidates, dtype=dtype).view(num_queries, num_candidates)
    expected, wanted = truth_of(queries, candidates, grad)
    found = modulus.modulus_distance(queries, candidates)
    got = torch.autograd.grad(found, (queries, candidates), grad)
    assert_near(found, expected, share)
    for have, want in zip(got, wanted, strict=True):
        assert_near(have, want, share)


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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_formats_are_computed_in_float32_and_rounded_once(implementation: str, dtype: torch.dtype) -> None:
    queries, candidates = (draw(rows, 64, torch.float32).to(dtype).detach().requires_grad_() for rows in (40, 50))
    grad = torch.linspace(-1, 1, 40 * 50).view(40, 50).to(dtype)
    found = modulus.modulus_distance(queries, candidates)
    got = torch.autograd.grad(found, (queries, candidates), grad)
    assert {part.dtype for part in (found, *got)} == {dtype}
    expected, wanted = truth_of(queries, candidates, grad)
    # Half of the distance to the next number, and what float32 may be off.
    rounding = torch.finfo(dtype).eps / 2
    for have, want in zip((found, *got), (expected, *wanted), strict=True):
        slack = 1e-5 * want.abs().max().item()
        torch.testing.assert_close(have.double(), want, rtol=rounding, atol=slack)


@pytest.mark.parametrize("implementation", ["compiled", "blocked"], indirect=True)
def test_own_pairs_of_bfloat16_are_rounded_once(implementation: str) -> None:
    queries, candidates = (draw(rows, 64, torch.float32).bfloat16().detach().requires_grad_() for rows in (6, 9))
    index = torch.randint(0, 9, (6, 40), generator=torch.Generator().manual_seed(0))
    left, right = (part.detach().double().requires_grad_() for part in (queries, candidates))
    exact = plain(left, right[index])
    found = modulus.modulus_distance_own(queries, candidates, index)
    got = torch.autograd.grad(found.sum(), (queries, candidates))
    for have, want in zip((found, *got), (exact, *torch.autograd.grad(exact.sum(), (left, right))), strict=True):
        slack = 1e-5 * want.abs().max().item()
        torch.testing.assert_close(have.double(), want, rtol=2**-8, atol=slack)


def test_what_is_picked() -> None:
    every = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
    assert {modulus.choose("cpu", dtype) for dtype in every} == {"compiled"}
    assert modulus.choose("cuda", torch.float64) == modulus.choose("mps", torch.float32) == "blocked"


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


def test_without_a_c_compiler_cuda_falls_back_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    launches: list[torch.device] = []

    def launch(_fused: Any, device: torch.device) -> None:
        # The first launch is on the GPU, which is not here; the kernel's way to fail is Triton's own.
        launches.append(device)
        real(broken, torch.device("cpu"))

    def fail(*_tensors: Tensor) -> Tensor:
        raise RuntimeError("Failed to find C compiler. Please specify via CC environment variable.\nMore of it.")

    real = modulus._launch_once
    broken = SimpleNamespace(forward=fail, backward=fail)
    monkeypatch.setitem(sys.modules, "snag_dist.model.modulus_triton", broken)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(modulus, "_launch_once", launch)
    modulus._find_fused.cache_clear()
    with caplog.at_level(logging.WARNING, "snag_dist"):
        assert [modulus.choose("cuda", torch.float32) for _ in range(2)] == ["blocked"] * 2
    modulus._find_fused.cache_clear()
    assert launches == [torch.device("cuda")]
    assert caplog.messages == [
        "modulus distance: Triton cannot launch a kernel here (RuntimeError: Failed to find C compiler. Please specify "
        "via CC environment variable.); the slower blocked version is used; it needs a C compiler at run time"
    ]


@pytest.mark.usefixtures("interpreted")
def test_the_trial_launches_every_kernel() -> None:
    fused = import_module("snag_dist.model.modulus_triton")
    called: list[str] = []

    def spy(name: str) -> Any:
        def run(*tensors: Tensor) -> Any:
            called.append(name)
            return getattr(fused, name)(*tensors)

        return run

    modulus._launch_once(SimpleNamespace(forward=spy("forward"), backward=spy("backward")), torch.device("cpu"))
    assert called == ["forward", "backward"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize(("num_queries", "num_candidates", "width"), [(3, 5, 8), (500, 300, 256), (1024, 2000, 100)])
def test_fused_on_a_gpu_equals_double(num_queries: int, num_candidates: int, width: int) -> None:
    queries, candidates = draw(num_queries, width, torch.float32), draw(num_candidates + 1, width, torch.float32)[1:]
    left, right = (part.detach().cuda().requires_grad_() for part in (queries, candidates))
    assert modulus.pick(left) == "fused"
    grad = torch.linspace(-1, 1, num_queries * num_candidates).view(num_queries, num_candidates)
    exact, wanted = truth_of(queries, candidates, grad)
    found = modulus.modulus_distance(left, right)
    got = torch.autograd.grad(found, (left, right), grad.cuda())
    for have, want in zip((found, *got), (exact, *wanted), strict=True):
        assert_near(have, want, 1e-5)
