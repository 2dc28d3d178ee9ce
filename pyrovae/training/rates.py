"""Learning rates that are tensors, for the optimizers of torch that want numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

_SCALED: dict[Any, Callable[..., Tensor]] = {
    Tensor.add_: lambda self, other, rate: self.add_(rate * other),
    Tensor.addcmul_: lambda self, a, b, rate: self.add_(rate * a * b),
    Tensor.addcdiv_: lambda self, a, b, rate: self.add_(rate * a / b),
}


class TensorRates(TorchFunctionMode):
    """``p.add_(grad, alpha=-rate)`` and its like multiply by a tensor, where torch would look at its value."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        rate = kwargs.get("alpha", kwargs.get("value"))
        if isinstance(rate, Tensor) and func in _SCALED:
            return _SCALED[func](*args, rate)
        return func(*args, **kwargs)
