"""Whether compiling is worth its time, by the same rule on every machine: a choice decides on random numbers too."""

from __future__ import annotations

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

FLOPS_PER_SECOND = 1e11  # of eager code on two cores of a modern CPU, roughly
SECONDS_PER_CALL = 1.5e-3  # of Python and Pyro's handlers
PAYS_FROM = 40.0  # seconds of eager work so reckoned: compiling takes 5 to 15, and saves half of the work or more


def pays(calls: int, flops: float) -> bool:
    """Whether so many eager calls of a function, with so many floating-point operations in all, should be compiled."""
    return calls * SECONDS_PER_CALL + flops / FLOPS_PER_SECOND > PAYS_FROM


class Flops(TorchDispatchMode):
    """Adds up the floating-point operations of matrix products and convolutions, by torch's table of formulas."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        self.total += formula(*args, **(kwargs or {}), out_val=result) if formula else 0
        return result
