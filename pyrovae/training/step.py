"""One optimizer step, guarded: no host synchronisation and no branch on a tensor's value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from pyrovae.errors import PyrovaeError

OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


class GuardedOptimizer:
    """An optimizer that clips the gradient's norm and leaves everything unchanged where loss or gradient is not finite.

    Torch's fused optimizers skip a step on the device when told so (``found_inf``, the mechanism of mixed-precision
    training), which is both the fastest and the synchronisation-free way. Any other optimizer is stepped and, where
    the step was bad, parameters and moments are put back by ``torch.where``. The first step makes the moments, which
    cannot be put back to nothing: it looks at the value, once, and is not taken at all where it would be bad.
    """

    def __init__(
        self, factory: OptimizerFactory, parameters: Mapping[str, Tensor], max_grad_norm: float | None
    ) -> None:
        self.parameters = parameters
        self.max_grad_norm = max_grad_norm
        self.optimizer = _build(factory, list(parameters.values()))
        self.fused = all(group.get("fused") for group in self.optimizer.param_groups)
        self.base = [group["lr"] for group in self.optimizer.param_groups]
        self.started = False

    def set_rate(self, factor: float) -> None:
        """Set every group's learning rate to ``factor`` times what the factory gave it."""
        for group, base in zip(self.optimizer.param_groups, self.base, strict=True):
            group["lr"] = factor * base

    def step(self, gradients: Mapping[str, Tensor], value: Tensor) -> tuple[Tensor, Tensor]:
        """Step uphill along ``gradients``; returns their norm and whether the step was skipped (0. or 1.).

        Args:
            gradients: of the objective, by parameter name; scaled in place.
            value: the objective, a scalar.
        """
        grads = [gradients[name] for name in self.parameters]
        norm = get_total_norm(grads)
        bad = 1.0 - (norm.isfinite() & value.isfinite()).to(norm.dtype)
        clip = 1.0 if self.max_grad_norm is None else (self.max_grad_norm / norm).clamp(max=1.0)
        torch._foreach_mul_(grads, -clip)  # the objective is maximised, torch's optimizers minimise
        self.started = self.started or not bool(bad)
        if self.started:
            self._step(grads, bad)
        return norm, bad

    def _step(self, grads: list[Tensor], bad: Tensor) -> None:
        for parameter, grad in zip(self.parameters.values(), grads, strict=True):
            parameter.grad = grad
        if self.fused:
            self.optimizer.found_inf = bad.float()  # type: ignore[attr-defined]
            self.optimizer.step()
        else:
            self._step_or_restore(bad)
        for parameter in self.parameters.values():
            parameter.grad = None  # stock Pyro and plain loops would add to it

    def _step_or_restore(self, bad: Tensor) -> None:
        before = {key: tensor.detach().clone() for key, tensor in self._tensors()}
        self.optimizer.step()
        with torch.no_grad():
            for key, tensor in self._tensors():
                old = before.get(key, tensor)  # a moment that this step made: the first step, which is good
                tensor.copy_(torch.where(bad.to(tensor.device) > 0, old, tensor))

    def _tensors(self) -> list[tuple[Any, Tensor]]:
        """Parameters and moments, under keys that stay when an optimizer exchanges a moment for another tensor."""
        moments = [((p, key), value) for p, state in self.optimizer.state.items() for key, value in state.items()]
        return [*self.parameters.items(), *((key, value) for key, value in moments if isinstance(value, Tensor))]


def _build(factory: OptimizerFactory, parameters: list[Any]) -> torch.optim.Optimizer:
    if not parameters:
        raise PyrovaeError("the program has no parameters to train")
    try:
        return factory(parameters, fused=True)  # type: ignore[call-arg]
    except (TypeError, RuntimeError, ValueError):  # no fused form, or another implementation asked for
        pass
    try:
        return factory(parameters)
    except (TypeError, ValueError) as error:
        raise PyrovaeError(f"the optimizer cannot be built: {error}") from error
