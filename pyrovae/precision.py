"""Which precision to compute in: float64 for what is reported, float32 for training, bfloat16 layers by choice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

EXACT = 2e-6  # relative error of a float32 product of this size; bfloat16 gives about 1e-3


def float64(x: Tensor) -> Tensor:
    """``x`` in float64; on the CPU where its device has none, as Apple's MPS."""
    return (x.cpu() if x.device.type == "mps" else x).double()


def float64_device(device: torch.device) -> torch.device:
    """Where float64 tensors for ``device`` live: on the CPU where the device has none."""
    return torch.device("cpu") if device.type == "mps" else device


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


@contextmanager
def bfloat16_layers() -> Iterator[None]:
    """Linear layers and convolutions on float32 tensors multiply in bfloat16, forwards and backwards.

    Their results are float32 again before the bias is added, so whatever comes after (activations, densities, sums)
    is computed in float32, and so are other matrix products, such as those inside a density. Autocast, in
    contrast, would hand bfloat16 parameters to the distributions.
    """
    with _BFloat16Layers():
        yield


class _BFloat16Layers(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        return _rounded(func, *args, **kwargs) if func in _LAYERS else func(*args, **kwargs)


def _rounded(
    layer: Callable[..., Tensor], input: Tensor, weight: Tensor, bias: Tensor | None = None, *args: Any, **kwargs: Any
) -> Tensor:
    if input.dtype != torch.float32:
        return layer(input, weight, bias, *args, **kwargs)
    y = layer(input.bfloat16(), weight.bfloat16(), None, *args, **kwargs).float()
    if bias is None or layer is nn.functional.linear:
        return y if bias is None else y + bias
    return y + bias.reshape(-1, *[1] * (weight.dim() - 2))


_CONVOLUTIONS = ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
_LAYERS = {nn.functional.linear, *(getattr(nn.functional, name) for name in _CONVOLUTIONS)}
