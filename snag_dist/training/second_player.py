"""The second player of an adversarial run: generators with an optimiser of their own, beside the engine.

Both players look at the same batch. The generators' gradient is taken before the model's backward pass, while what the
forward pass kept is still there; both then step, each from the weights of the same moment. The released code of
AdaMF-MAT alternates instead: one player steps, and the other one's gradient is taken against what came of that, at the
price of a second forward pass, and of a second exchange between workers. See `snag_dist.method.adamf` for what else
differs.
"""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor

from snag_dist.shard.group import Group
from snag_dist.task.adversarial import Adversary

_MOMENTS = ("exp_avg", "exp_avg_sq")


class SecondPlayer:
    """Generators and their Adam, the same on every worker.

    Attributes:
        adversary: the generators, and what both players minimise.
    """

    def __init__(self, adversary: Adversary, group: Group, dtype: torch.dtype):
        self.adversary = adversary.to(group.device, dtype if dtype == torch.float64 else torch.float32)
        self._group = group
        self._named = dict(self.adversary.named_parameters())
        self._optimizer = torch.optim.Adam(self._named.values(), lr=adversary.lr)
        for parameter in self._named.values():
            # Before the first step, so that the moments can be saved and loaded at any time.
            moments = {moment: torch.zeros_like(parameter) for moment in _MOMENTS}
            self._optimizer.state[parameter] = {"step": torch.tensor(0.0), **moments}
        self._loss: Tensor | None = None
        self._grads: list[Tensor] = []

    def owes(self, loss: Tensor) -> None:
        """Take this worker's part of the generators' loss, the forward pass of which is still held."""
        self._loss = loss

    def differentiate(self) -> None:
        """Take the gradient of that loss, summed over the workers. A collective."""
        assert self._loss is not None
        grads = torch.autograd.grad(self._loss, list(self._named.values()), retain_graph=True)
        self._loss = None
        # Slices' losses add up to the loss of the batch, and so do their gradients.
        self._grads = [self._group.sum(grad) for grad in grads]

    def step(self) -> None:
        """Update the generators by the gradient of their own loss."""
        for parameter, grad in zip(self._named.values(), self._grads, strict=True):
            # In place of what the model's backward pass, which goes through the fakes too, has left here.
            parameter.grad = grad
        self._optimizer.step()
        self._optimizer.zero_grad()

    def state(self) -> dict[str, Tensor]:
        """Weights and moments by `generators/` + kind + name, and the steps taken."""
        state = {"generators/step": self._moments(next(iter(self._named.values())))["step"].clone()}
        for name, parameter in self._named.items():
            state[f"generators/weight/{name}"] = parameter.detach().clone()
            for moment in _MOMENTS:
                state[f"generators/{moment}/{name}"] = self._moments(parameter)[moment].clone()
        return state

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take up what `state` gave."""
        for name, parameter in self._named.items():
            parameter.data.copy_(state[f"generators/weight/{name}"])
            self._moments(parameter)["step"].copy_(state["generators/step"])
            for moment in _MOMENTS:
                self._moments(parameter)[moment].copy_(state[f"generators/{moment}/{name}"])

    def _moments(self, parameter: Tensor) -> dict[str, Tensor]:
        return cast("dict[str, Tensor]", self._optimizer.state[parameter])
