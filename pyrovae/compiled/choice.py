"""Whether something is compiled: as it was asked for, or where that is worth its time.

The rule is the same on every machine, since the choice decides on random numbers too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from pyrovae.compiled.backends import Backend, backend_for
from pyrovae.compiled.fast import say_eager
from pyrovae.errors import PyrovaeError

FLOPS_PER_SECOND = 1e11  # of eager code on two cores of a modern CPU, roughly
SECONDS_PER_CALL = 1.5e-3  # of Python and Pyro's handlers
PAYS_FROM = 40.0  # seconds of eager work so reckoned: compiling takes 5 to 15, and saves half of the work or more


def check_choice(compile: Any) -> None:
    """Raises PyrovaeError for what is neither True, False nor "auto"."""
    if compile not in (True, False, "auto"):
        raise PyrovaeError(f"compile must be True, False or 'auto'; got {compile!r}")


def chosen(what: str, compile: Any, device: torch.device, *, worth: Callable[[], bool]) -> Backend | None:
    """What compiles on a device; None where things run eagerly.

    Args:
        what: is to be compiled, for a warning where it was asked for and there is no compiler.
        compile: True, False or "auto".
        device: where it runs.
        worth: whether compiling pays; asked for "auto" only.
    """
    check_choice(compile)
    backend = backend_for(device)
    if compile is True and backend is None:
        say_eager(what, f"there is no compiler for {device.type}")
    return backend if backend and (compile is True or (compile == "auto" and worth())) else None


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
