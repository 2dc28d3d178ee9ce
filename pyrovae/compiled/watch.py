"""What a trace freezes of a program: found by looking before and after."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from torch import nn


def held(program: Any, *others: Any) -> list[Any]:
    """Modes, what requires a gradient, where tensors lie, and the numbers and texts of modules and other objects."""
    modules = list(program.modules()) if isinstance(program, nn.Module) else [program]
    numbers = [_numbers(each) for each in (*modules, *others)]
    tensors = [*program.parameters(), *program.buffers()] if isinstance(program, nn.Module) else []
    return [numbers, [(t.requires_grad, t.data_ptr()) for t in tensors]]


def generators() -> list[Any]:
    """The state of Python's and NumPy's global generators, which no graph can draw from."""
    return [random.getstate(), np.random.get_state()[1].tobytes()]  # type: ignore[index]


def _numbers(thing: Any) -> dict[str, Any]:
    kept = getattr(thing, "__dict__", {})
    return {name: value for name, value in kept.items() if isinstance(value, bool | int | float | str)}
