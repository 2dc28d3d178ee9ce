"""Which precision to compute in: float64 for what is reported, the fastest true float32 products for training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor

EXACT = 2e-6  # relative error of a float32 product of this size; bfloat16 gives about 1e-3


def float64(x: Tensor) -> Tensor:
    """``x`` in float64; on the CPU where its device has none, as Apple's MPS."""
    return (x.cpu() if x.device.type == "mps" else x).double()


@cache
def fast_is_exact() -> bool:
    """Whether ``set_float32_matmul_precision("medium")`` still computes in float32 on this CPU.

    On processors without matrix units for bfloat16 the setting only selects a faster library (oneDNN), twice as fast
    on some; where such units exist it rounds to bfloat16. So ask the processor, not its name.
    """
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(256, 256, generator=generator) for _ in range(2))
    exact = a.double() @ b.double()
    with _setting("medium"):
        error = (a @ b).double() - exact
    return bool(error.norm() / exact.norm() < EXACT)


@contextmanager
def _setting(name: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def float32_matmul(device: torch.device) -> Iterator[None]:
    """The fastest matrix products that are true float32 on ``device``; the setting is put back afterwards."""
    with _setting("medium" if device.type == "cpu" and fast_is_exact() else "highest"):
        yield
