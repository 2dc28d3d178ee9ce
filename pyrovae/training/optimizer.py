"""One optimizer step, guarded: no host synchronisation and no branch on a tensor's value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from pyrovae.compiled import UntraceableError
from pyrovae.errors import PyrovaeError
from pyrovae.training.rates import TensorRates

SMALLEST_RATE = 1e-25  # in a graph, where torch's Adam divides by the rate: 0 would make nan of a moment of 0

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
        self.base = [group["lr"] for group in self.optimizer.param_groups]
        first = next(iter(parameters.values()))
        self.rates = [
            torch.tensor(float(rate) or SMALLEST_RATE, dtype=first.dtype, device=first.device) for rate in self.base
        ]
        self.started = False
        self._traceable = False

    @property
    def fused(self) -> bool:
        """Whether the optimizer's steps are torch's fused ones."""
        return all(group.get("fused") for group in self.optimizer.param_groups)

    def set_rate(self, factor: float) -> None:
        """Set every group's learning rate to ``factor`` times what the factory gave it."""
        for group, base, rate in zip(self.optimizer.param_groups, self.base, self.rates, strict=True):
            group["lr"] = factor * base
            rate.fill_(group["lr"] or SMALLEST_RATE)

    def step(self, gradients: Mapping[str, Tensor], value: Tensor) -> tuple[Tensor, Tensor]:
        """Step uphill along ``gradients``; returns their norm and whether the step was skipped (0. or 1.).

        Args:
            gradients: of the objective, by parameter name; a parameter without one (frozen by now) stays as it is.
            value: the objective, a scalar.
        """
        grads = [gradients[name] for name in self.parameters if name in gradients]
        norm = get_total_norm(grads)
        bad = 1.0 - (norm.isfinite() & value.isfinite()).to(norm.dtype)
        clip = 1.0 if self.max_grad_norm is None else (self.max_grad_norm / norm).clamp(max=1.0)
        downhill = torch._foreach_mul(grads, -clip)  # the objective is maximised, torch's optimizers minimise
        self.started = self.started or not bool(bad)
        if self.started:
            self._step([p for name, p in self.parameters.items() if name in gradients], downhill, bad)
        return norm, bad

    @property
    def state(self) -> list[Tensor]:
        """What a step reads and changes: parameters, moments and learning rates; complete once started."""
        return [*self._tensors().values(), *self.rates]

    @contextmanager
    def traceable(self) -> Iterator[None]:
        """Steps that can be traced: plain tensor operations, the learning rate and the count of steps among them.

        Raises:
            UntraceableError: where the optimizer changed a Python number of its own, which a trace would freeze.
        """
        self._traceable = True
        groups, states = self.optimizer.param_groups, list(self.optimizer.state.values())
        before = [dict(kept) for kept in (*groups, *states)]
        plain = {"fused": False, "foreach": False, "capturable": True}
        for group, rate in zip(groups, self.rates, strict=True):
            group.update({"lr": rate} | {key: value for key, value in plain.items() if key in group})
        numbers = self._numbers()
        try:
            yield
            if self._numbers() != numbers:
                raise UntraceableError(f"{type(self.optimizer).__name__} keeps its count of steps in Python")
        finally:
            self._traceable = False
            for kept, saved in zip((*groups, *states), before, strict=True):
                kept.update(saved)

    def settle(self) -> None:
        """Move the counts of steps, which some optimizers keep on the CPU, to their parameters' device."""
        for parameter, state in self.optimizer.state.items():
            for key, value in state.items():
                if isinstance(value, Tensor):
                    state[key] = value.to(parameter.device)

    def _step(self, parameters: Sequence[Tensor], grads: Sequence[Tensor], bad: Tensor) -> None:
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = _laid_out_as(parameter, grad)
        if self.fused:
            self.optimizer.found_inf = bad.float()  # type: ignore[attr-defined]
            self.optimizer.step()
            del self.optimizer.found_inf  # type: ignore[attr-defined]
        else:
            self._step_or_restore(bad)
        for parameter in parameters:
            parameter.grad = None  # stock Pyro and plain loops would add to it

    def _step_or_restore(self, bad: Tensor) -> None:
        before = {key: (tensor, tensor.detach().clone()) for key, tensor in self._tensors().items()}
        with _reading_no_tensor() if self._traceable else nullcontext():
            self.optimizer.step()
        with torch.no_grad():
            for (parameter, key), new in self._tensors().items():
                tensor, old = before.get((parameter, key), (new, torch.zeros_like(new)))  # or a moment just made
                tensor.copy_(torch.where(bad.to(new.device) > 0, old, new))
                if tensor is not new:  # some optimizers exchange a moment for another tensor
                    self.optimizer.state[parameter][key] = tensor

    def _tensors(self) -> dict[tuple[Tensor, str], Tensor]:
        """Parameters and moments."""
        state = self.optimizer.state.items()
        moments = {(p, key): v for p, moments in state for key, v in moments.items() if isinstance(v, Tensor)}
        return {(p, ""): p for p in self.parameters.values()} | moments

    def _numbers(self) -> list[Any]:
        """What the optimizer keeps in Python."""
        states = [list(self.optimizer.state.get(p, {}).items()) for p in self.parameters.values()]
        groups = [[item for item in group.items() if item[0] != "params"] for group in self.optimizer.param_groups]
        return [[(k, v) for k, v in items if not isinstance(v, Tensor)] for items in (*states, *groups)]


@contextmanager
def _reading_no_tensor() -> Iterator[None]:
    """Torch's optimizers then compute with counts and rates that are tensors."""
    with patch.object(torch.compiler, "_is_compiling_flag", True), TensorRates():
        yield


def _laid_out_as(parameter: Tensor, grad: Tensor) -> Tensor:
    """Fused kernels walk through memory: a gradient that is a view must lie there as its parameter does."""
    return grad if grad.stride() == parameter.stride() else torch.empty_like(parameter).copy_(grad)


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
