"""The only door to DeepSpeed: dense parameters, their gradients over workers, their optimiser.

Entity rows are not in here (see `snag_dist.shard.table`); the clip factor, which must see both norms, is worked out by
the caller and handed to `step`. The optimiser is torch's own, so that nothing has to be compiled on CPU.
"""

import logging
import os
import sys
from collections.abc import Callable
from typing import Any, Literal, Self, cast

import torch
import torch.distributed as dist
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.distributed import distributed_c10d as c10d

from snag_dist.config import Config
from snag_dist.shard.group import Group, Pending

Precision = Literal["float32", "float64", "bfloat16"]
"""Of dense parameters and codes. Master weights and rows stay in float32 under bfloat16."""

_MOMENTS = ("exp_avg", "exp_avg_sq")

DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}


class EngineConfig(Config):
    """How dense parameters are trained."""

    precision: Precision = "float32"
    """Number format of the step; bfloat16 needs a GPU."""
    zero_stage: int = Field(default=0, ge=0, le=2)
    """DeepSpeed ZeRO: 0 replicates, 1 shards optimiser state, 2 gradients too."""
    weight_decay: float = Field(default=0.0, ge=0.0)
    """Decoupled (AdamW), on matrices only: biases, norms and relation rows are left out."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Of Adam."""
    epsilon: float = 1e-8
    """Of Adam."""
    host_memory: Literal["return", "reuse"] = "return"
    """What a step frees goes back to the system, or is kept for the next: up to twice as fast on a CPU, in up to
    two thirds more memory, which the plan counts."""

    @model_validator(mode="after")
    def _check_masters(self) -> Self:
        if self.precision == "bfloat16" and self.zero_stage == 0:
            raise ValueError("bfloat16 keeps its float32 weights in ZeRO's partitions; set zero_stage to 1 or 2")
        if self.precision == "float64" and self.zero_stage > 0:
            raise ValueError("float64 is for parity runs and knows no ZeRO; set zero_stage to 0")
        return self


def deepspeed_options(config: EngineConfig, micro_batch: int) -> dict[str, Any]:
    """The dict DeepSpeed reads. It accepts misspelt keys in silence, so only this function writes it."""
    options: dict[str, Any] = {
        # Loss scaling by batch is ours; DeepSpeed only wants the number to be consistent.
        "train_micro_batch_size_per_gpu": max(1, micro_batch),
        "gradient_accumulation_steps": 1,
        # Unset, DeepSpeed clips at 1.0 by itself.
        "gradient_clipping": 0.0,
        "zero_optimization": {"stage": config.zero_stage},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 1 << 40,
    }
    if config.precision == "bfloat16":
        options["bf16"] = {"enabled": True}
    return options


class Engine:
    """A module trained by DeepSpeed."""

    def __init__(
        self,
        module: nn.Module,
        config: EngineConfig,
        group: Group,
        micro_batch: int,
        *,
        lr_scale: Callable[[str], float] = lambda name: 1.0,
    ):
        """Hand a module to DeepSpeed; the process group must be up.

        Args:
            module: to be trained.
            config: how.
            group: the workers.
            micro_batch: largest slice of a worker.
            lr_scale: factor on the learning rate of a parameter, by its name.
        """
        os.environ.setdefault("DS_ACCELERATOR", group.device.type)
        # Launchers set it, Ray Train among them; a test that opens its own process group does not.
        os.environ.setdefault("LOCAL_RANK", str(group.device.index or 0))
        deepspeed = _import_deepspeed()
        logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
        if group.device.type == "cpu":
            # Its shared-memory collectives would be compiled here; gloo does.
            deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        self._group = group
        self._names = {parameter: name for name, parameter in module.named_parameters()}
        self._optimizer = torch.optim.AdamW(
            _parameter_groups(module, config.weight_decay, lr_scale), lr=0.0, betas=config.betas, eps=config.epsilon
        )
        with group.named("dense weights"):
            engine, *_ = cast(
                "tuple[Any, ...]",
                deepspeed.initialize(
                    model=module,
                    optimizer=self._optimizer,
                    config=deepspeed_options(config, micro_batch),
                    dist_init_required=False,
                ),
            )
        _share_timeout(group.device)
        self._engine = engine
        self._plain = config.zero_stage == 0 and config.precision != "bfloat16"
        # DeepSpeed would wait for the average at once, and reduces no float64.
        if self._plain:
            engine.enable_backward_allreduce = False
        self._summing: Pending | None = None
        self._begin_states()

    def _begin_states(self) -> None:
        """Create the moments before the first step, so that they can be read and loaded at any time."""
        for group in self._optimizer.param_groups:
            for parameter in group["params"]:
                moments = {moment: torch.zeros_like(parameter) for moment in _MOMENTS}
                self._optimizer.state[parameter] = {"step": torch.tensor(0.0), **moments}
        if not self._plain:
            # DeepSpeed links its fragments to the moments after the first parameter group's first step, when those of
            # other groups do not exist yet, and never again.
            self._engine.optimizer._lazy_init_hp_params_optimizer_state()

    @property
    def module(self) -> nn.Module:
        """The wrapped module."""
        return self._engine.module

    def __call__(self, *arguments: Any) -> Any:
        """Forward through the module."""
        return self._engine(*arguments)

    def backward(self, loss: Tensor) -> None:
        """Differentiate, and begin to average the dense gradients over the workers. A collective.

        Before `squared_norm`, which waits for them, the gradients are not to be read.
        """
        with self._group.named("dense gradients"):
            self._engine.backward(loss)
        if self._plain:
            for parameter in self._names:
                if parameter.grad is None:
                    # Where only some workers use a parameter, all of them average it.
                    parameter.grad = torch.zeros_like(parameter)
            if self._group.size > 1:
                flat = torch.cat([grad.flatten() for grad in self._gradients()])
                self._summing = self._group.begin_sum(flat, "dense gradients")

    def _gradients(self) -> list[Tensor]:
        return [parameter.grad for parameter in self._names if parameter.grad is not None]

    def _end_average(self) -> None:
        summing, self._summing = self._summing, None
        if summing is None:
            return
        grads = self._gradients()
        sums = summing.wait().div_(self._group.size).split([grad.numel() for grad in grads])
        for grad, total in zip(grads, sums, strict=True):
            grad.copy_(total.view_as(grad))

    def squared_norm(self) -> Tensor:
        """Squared norm of the averaged dense gradient, a scalar equal on every worker. Waits for the average."""
        if self._plain:
            self._end_average()
            return torch.stack([grad.to(torch.float64).square().sum() for grad in self._gradients()]).sum()
        norm = self._global_norm()
        return torch.as_tensor(norm, dtype=torch.float64, device=self._group.device).square()

    def step(self, lr: float, clip_factor: float) -> None:
        """Update the dense parameters.

        Args:
            lr: learning rate of this step.
            clip_factor: factor on the gradients, at most 1.
        """
        self._end_average()
        for parameters in self._optimizer.param_groups:
            parameters["lr"] = lr * parameters["lr_scale"]
        if not self._plain:
            self._engine.optimizer.clip_grad = 0.0
        if clip_factor < 1.0:
            self._clip(clip_factor)
        with self._group.named("dense update"):
            self._engine.step()

    def _global_norm(self) -> Any:
        with self._group.named("dense norm"):
            return self._engine.optimizer.scaled_global_norm()

    def _clip(self, factor: float) -> None:
        if not self._plain:
            # ZeRO's own clipping divides by norm / clip_grad: the threshold that yields our factor.
            self._engine.optimizer.clip_grad = float(self._global_norm()) * factor
            return
        for parameter in self._names:
            if parameter.grad is not None:
                parameter.grad.mul_(factor)

    def state(self) -> dict[str, Tensor]:
        """Master weights and optimiser state, whole, by `weight/`, `exp_avg/`, `exp_avg_sq/` + name, and `step`.

        A collective under ZeRO. The same at any number of workers, so a checkpoint opens at any.
        """
        with self._group.named("dense state"):
            return self._whole_state()

    def _whole_state(self) -> dict[str, Tensor]:
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        state: dict[str, Tensor] = {}
        for parameter, name in self._names.items():
            if self._plain:
                own = self._optimizer.state[parameter]
                values = {"weight": parameter.detach(), **{moment: own[moment] for moment in _MOMENTS}}
            else:
                values = {"weight": safe_get_full_fp32_param(parameter)}
                values |= {moment: safe_get_full_optimizer_state(parameter, moment) for moment in _MOMENTS}
            state |= {f"{kind}/{name}": cast(Tensor, value).detach().clone() for kind, value in values.items()}
        state["step"] = max(own["step"] for own in self._optimizer.state.values()).clone()
        return state

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from what `state` gave, at any number of workers and any ZeRO stage."""
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        for parameter, name in self._names.items():
            weight = state[f"weight/{name}"].to(self._group.device)
            parameter.data.copy_(weight)
            for moment in _MOMENTS:
                value = state[f"{moment}/{name}"].to(self._group.device)
                if self._plain:
                    self._optimizer.state[parameter][moment].copy_(value)
                else:
                    safe_set_full_optimizer_state(parameter, value, moment)
            if not self._plain:
                safe_set_full_fp32_param(parameter, weight)
        for own in self._optimizer.state.values():
            own["step"].copy_(state["step"])


def _import_deepspeed() -> Any:
    """Import DeepSpeed: heavy, and it probes for an accelerator, so that only a worker pays for it.

    Its autotuner, which nothing here calls, takes MLflow along where it is installed: as long as all the rest.
    """
    hides = "mlflow" not in sys.modules
    if hides:
        # Python's own word for a module that is not to be found.
        sys.modules["mlflow"] = None  # pyright: ignore[reportArgumentType]
    try:
        import deepspeed
    finally:
        if hides:
            del sys.modules["mlflow"]
    return deepspeed


def _share_timeout(device: torch.device) -> None:
    """Let DeepSpeed wait as long as the run does: it makes process groups of its own, which torch gives 10 or 30 min.

    Args:
        device: of the tensors that workers exchange.
    """
    assert dist.group.WORLD is not None
    timeout = dist.group.WORLD._get_backend(device).options._timeout
    for group in c10d._world.pg_map:
        if not c10d._rank_not_in_group(group):
            c10d._set_pg_timeout(timeout, group)


def _parameter_groups(module: nn.Module, weight_decay: float, lr_scale: Callable[[str], float]) -> list[dict[str, Any]]:
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        # Biases of several layers or heads may be one tensor of two dimensions.
        decays = parameter.ndim >= 2 and not name.endswith(("relations", "bias"))
        groups.setdefault((weight_decay if decays else 0.0, lr_scale(name)), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay, "lr_scale": scale}
        for (decay, scale), parameters in groups.items()
    ]
