"""Adam and SGD as one fused pass over all parameters, on CPU and CUDA alike.

`torch.optim` calls the same kernels, but its first use imports the compiler: seconds in each job.
A test holds these against it, step by step.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import nn

from bnorder.study import Recipe

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8  # of Adam; Kingma & Ba 2015, and torch.optim's defaults


class Optimiser(Protocol):
    """Moves parameters along their gradients and then forgets the gradients."""

    def step(self, learning_rate: float) -> None: ...

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: dict[str, Any]) -> None: ...


class Adam:
    """Adam (Kingma & Ba 2015), with an L2 penalty where `weight_decay` is not 0."""

    def __init__(self, parameters: Sequence[nn.Parameter], weight_decay: float) -> None:
        self.parameters: list[torch.Tensor] = list(parameters)
        self.weight_decay = weight_decay
        self.means = [torch.zeros_like(p) for p in self.parameters]
        self.squares = [torch.zeros_like(p) for p in self.parameters]
        self.steps = [torch.zeros((), device=p.device) for p in self.parameters]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        torch._foreach_add_(self.steps, 1)
        torch._fused_adam_(
            self.parameters,
            _take_gradients(self.parameters),
            self.means,
            self.squares,
            [],
            self.steps,
            lr=learning_rate,
            beta1=BETA1,
            beta2=BETA2,
            weight_decay=self.weight_decay,
            eps=EPS,
            amsgrad=False,
            maximize=False,
        )

    def state(self) -> dict[str, Any]:
        return {"means": self.means, "squares": self.squares, "steps": self.steps}

    def restore(self, state: dict[str, Any]) -> None:
        _copy_all(self.means, state["means"])
        _copy_all(self.squares, state["squares"])
        _copy_all(self.steps, state["steps"])


class SGD:
    """Stochastic gradient descent with momentum (Sutskever et al. 2013, as torch.optim has it)."""

    def __init__(
        self, parameters: Sequence[nn.Parameter], momentum: float, weight_decay: float
    ) -> None:
        self.parameters: list[torch.Tensor] = list(parameters)
        self.weight_decay = weight_decay
        self.momentum = momentum
        self.buffers = [torch.zeros_like(p) for p in self.parameters]
        self.first = True

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        torch._fused_sgd_(
            self.parameters,
            _take_gradients(self.parameters),
            self.buffers,
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            lr=learning_rate,
            dampening=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=self.first,
        )
        self.first = False

    def state(self) -> dict[str, Any]:
        return {"buffers": self.buffers, "first": self.first}

    def restore(self, state: dict[str, Any]) -> None:
        _copy_all(self.buffers, state["buffers"])
        self.first = state["first"]


def _copy_all(ours: Sequence[torch.Tensor], saved: Sequence[torch.Tensor]) -> None:
    """Copy values and keep the memory layout, on which the order of sums depends."""
    for tensor, value in zip(ours, saved, strict=True):
        tensor.copy_(value)


def _take_gradients(parameters: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The gradients, in their parameters' memory layout; the parameters let go of them."""
    gradients = []
    for parameter in parameters:
        gradient, parameter.grad = parameter.grad, None
        if gradient is None:
            raise RuntimeError("a parameter has no gradient")
        if gradient.stride() != parameter.stride():
            gradient = torch.empty_like(parameter).copy_(gradient)
        gradients.append(gradient)
    return gradients


def make_optimiser(network: nn.Module, recipe: Recipe) -> Optimiser:
    parameters = list(network.parameters())
    if recipe.optimiser == "adam":
        return Adam(parameters, recipe.weight_decay)
    return SGD(parameters, recipe.momentum, recipe.weight_decay)
