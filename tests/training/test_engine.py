"""The engine against a bare torch optimiser, at every ZeRO stage, through clipping, saving and loading."""

import sys

import pytest
import torch
from distributed import run_distributed
from torch import nn

from snag_dist.config import validate
from snag_dist.errors import ConfigError
from snag_dist.model.structure import Gcn, GcnConfig
from snag_dist.shard.group import Group
from snag_dist.training.engine import Engine, EngineConfig, deepspeed_options

STAGES = [0, 1, 2]


def make_module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


def loss_of(outputs: torch.Tensor, step: int) -> torch.Tensor:
    return (outputs - step).square().sum()


def inputs_at(step: int) -> torch.Tensor:
    return torch.randn(4, 6, generator=torch.Generator().manual_seed(step))


def train(engine: Engine, steps: range, clip_norm: float = 0.0) -> list[float]:
    norms = []
    for step in steps:
        engine.backward(loss_of(engine(inputs_at(step)), step))
        norm = float(engine.squared_norm().sqrt())
        norms.append(norm)
        engine.step(0.01, min(1.0, clip_norm / norm) if clip_norm else 1.0)
    return norms


def weights(engine: Engine) -> dict[str, torch.Tensor]:
    return {name: value for name, value in engine.state().items() if name.startswith("weight/")}


@pytest.mark.parametrize("clip_norm", [0.0, 0.5])
@pytest.mark.parametrize("stage", STAGES)
def test_equals_torch_adamw(stage: int, clip_norm: float, group: Group) -> None:
    engine = Engine(make_module(), EngineConfig(zero_stage=stage, weight_decay=0.1), group, 4)
    norms = train(engine, range(5), clip_norm)
    reference = make_module()
    named = list(reference.named_parameters())
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for _, p in named if p.ndim >= 2], "weight_decay": 0.1},
            {"params": [p for _, p in named if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=0.01,
    )
    for step in range(5):
        optimizer.zero_grad()
        loss_of(reference(inputs_at(step)), step).backward()
        norm = torch.nn.utils.get_total_norm([p.grad for _, p in named])
        assert norms[step] == pytest.approx(float(norm), rel=1e-5)
        if clip_norm:
            torch.nn.utils.clip_grad_norm_(reference.parameters(), clip_norm)
        optimizer.step()
    for name, parameter in named:
        torch.testing.assert_close(weights(engine)[f"weight/{name}"], parameter.detach(), rtol=1e-5, atol=1e-6)


def test_biases_do_not_decay_whatever_their_shape(group: Group) -> None:
    # The biases of a GCN's layers are one tensor (L, D).
    torch.manual_seed(0)
    module = Gcn(GcnConfig(num_layers=2), 4)
    engine = Engine(module, EngineConfig(weight_decay=0.5), group, 4)
    before = weights(engine)
    engine.backward(sum((0.0 * p.sum() for p in module.parameters()), torch.zeros(())))
    engine.step(0.1, 1.0)
    after = weights(engine)
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == {name for name in after if not name.endswith("bias")} != set(after)


@pytest.mark.parametrize(("before", "after"), [(0, 0), (0, 1), (1, 2), (2, 0)])
def test_state_moves_between_stages(before: int, after: int, group: Group) -> None:
    first = Engine(make_module(), EngineConfig(zero_stage=before), group, 4)
    train(first, range(3))
    saved = first.state()
    second = Engine(make_module(), EngineConfig(zero_stage=after), group, 4)
    train(second, range(1))
    second.load_state(saved)
    for name, value in saved.items():
        torch.testing.assert_close(second.state()[name], value, msg=name)
    train(first, range(3, 5))
    train(second, range(3, 5))
    for name, value in weights(first).items():
        torch.testing.assert_close(weights(second)[name], value, rtol=1e-5, atol=1e-6)


def test_float64_is_kept(group: Group) -> None:
    engine = Engine(make_module().double(), EngineConfig(precision="float64"), group, 4)
    engine.backward(loss_of(engine(inputs_at(0).double()), 0))
    engine.step(0.01, 1.0)
    assert all(value.dtype == torch.float64 for value in weights(engine).values())


@pytest.mark.parametrize(("precision", "stage"), [("bfloat16", 0), ("float64", 1)])
def test_a_precision_no_stage_serves_is_refused(precision: str, stage: int) -> None:
    with pytest.raises(ConfigError, match=rf"engine: {precision} .*set zero_stage to"):
        validate(EngineConfig, {"precision": precision, "zero_stage": stage}, "engine")


def test_options_name_only_keys_deepspeed_knows() -> None:
    from deepspeed.runtime.config import DeepSpeedConfig

    known = set(vars(DeepSpeedConfig(deepspeed_options(EngineConfig(), 8))))
    assert {"train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "zero_allow_untested_optimizer"} <= known
    options = deepspeed_options(EngineConfig(precision="bfloat16", zero_stage=1), 8)
    assert DeepSpeedConfig(options).bfloat16_config.enabled
    assert DeepSpeedConfig(options).zero_optimization_stage == 1


@pytest.mark.parametrize("stage", STAGES[1:])
def test_bfloat16_trains_and_keeps_float32_masters(stage: int, group: Group) -> None:
    engine = Engine(make_module(), EngineConfig(precision="bfloat16", zero_stage=stage), group, 4)
    for step in range(3):
        engine.backward(loss_of(engine(inputs_at(step).bfloat16()), step))
        assert float(engine.squared_norm()) > 0
        engine.step(0.01, 0.5)
    assert all(value.dtype == torch.float32 for value in weights(engine).values())
    assert {parameter.dtype for parameter in engine.module.parameters()} == {torch.bfloat16}


def average(group: Group) -> tuple[float, dict[str, list[float]]]:
    """One step of a module whose last layer only rank 0 uses; the norm, and the gradients it has seen."""
    module = make_module()
    engine = Engine(module, EngineConfig(), group, 4)
    whole = engine(inputs_at(group.rank))
    used = whole if group.rank == 0 else module[0](inputs_at(1))
    engine.backward(loss_of(used, 0))
    norm = float(engine.squared_norm().sqrt())
    grads = {name: parameter.grad.flatten().tolist() for name, parameter in module.named_parameters()}
    engine.step(0.01, 1.0)
    return norm, grads


@pytest.mark.distributed
def test_gradients_are_averaged_where_only_some_workers_use_a_weight() -> None:
    reference = make_module()
    (loss_of(reference(inputs_at(0)), 0) / 2).backward()
    (loss_of(reference[0](inputs_at(1)), 0) / 2).backward()
    expected = {name: parameter.grad for name, parameter in reference.named_parameters()}
    norm = torch.nn.utils.get_total_norm(expected.values())
    for found, grads in run_distributed(average, 2):
        assert grads.keys() == expected.keys()
        for name, grad in expected.items():
            assert grads[name] == pytest.approx(grad.flatten().tolist(), rel=1e-5)
        assert found == pytest.approx(float(norm))


def load_engine(group: Group) -> tuple[bool, bool]:
    """Whether DeepSpeed's autotuner has MLflow, and whether this process has."""
    Engine(make_module(), EngineConfig(), group, 4)
    from deepspeed.autotuning import autotuner

    return autotuner.has_mlflow, "mlflow" in sys.modules


@pytest.mark.distributed
def test_deepspeed_comes_without_mlflow() -> None:
    pytest.importorskip("mlflow")
    assert run_distributed(load_engine, 1) == [(False, False)]
