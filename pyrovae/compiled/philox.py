"""Random numbers that a graph computes itself: Philox4x32-10 (Salmon, Moraes, Dror & Shaw 2011) in tensor operations.

A counter-based generator has no state to pass along: the numbers of a draw are a hash of (key, step, draw, element).
A compiler fuses the hash into the kernel that uses the numbers, vectorized, where torch's own generators are serial on
a CPU; and a captured CUDA graph draws afresh because ``step`` is one of its tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)  # increments of the key: golden ratio, sqrt(3) - 1
ROUNDS = 10
WORD = 0xFFFFFFFF
Words = tuple[Tensor, Tensor, Tensor, Tensor]

aten = torch.ops.aten


def philox(counter: Words, key: tuple[Tensor, Tensor]) -> Words:
    """Four random words of 32 bits for each counter of four words; all are int64 tensors with values in [0, 2^32)."""
    (a, b, c, d), (k, m) = counter, key
    for _ in range(ROUNDS):
        p, q = a * MULTIPLIERS[0], c * MULTIPLIERS[1]  # the products of 32-bit words, modulo 2^64
        a, b, c, d = _high(q) ^ b ^ k, q & WORD, _high(p) ^ d ^ m, p & WORD
        k, m = (k + WEYL[0]) & WORD, (m + WEYL[1]) & WORD
    return a, b, c, d


def _high(product: Tensor) -> Tensor:
    return (product >> 32) & WORD  # the mask undoes the sign that an arithmetic shift brings in


class Noise:
    """The draws of one graph: ``key`` tells runs apart, ``step`` the calls, and a number the draws of one call.

    Args:
        device: where the graph runs.
    """

    def __init__(self, device: torch.device) -> None:
        self.key = torch.zeros((), dtype=torch.int64, device=device)
        self.step = torch.zeros((), dtype=torch.int64, device=device)
        self.draws = 0

    def draw_key(self) -> None:
        """A key from the CPU's global generator, so that a seed decides it."""
        self.key.copy_(torch.randint(2**62, (), dtype=torch.int64))

    def words(self, count: int) -> Tensor:
        """``count`` words of 32 random bits as int64, (count,); another call gives others."""
        self.draws += 1
        quads = -(-count // 4)
        element = torch.arange(quads, dtype=torch.int64, device=self.key.device)
        draw = torch.full_like(element, self.draws)
        low, high = (self.step & WORD).expand(quads), _high(self.step).expand(quads)
        key = (self.key & WORD, _high(self.key))
        return torch.stack(philox((element, draw, low, high), key)).flatten()[:count]

    def uniform(self, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        """Uniform on [0, 1) with 24 random bits in float32 and 53 in float64, as torch's own."""
        count = math.prod(shape)
        if dtype == torch.float32:
            value = (self.words(count) >> 8).to(dtype) * 2.0**-24
        else:
            first, second = self.words(2 * count).unflatten(0, (2, count))
            value = ((first >> 5) * 2**26 + (second >> 6)).to(dtype) * 2.0**-53
        return value.view(shape)

    def normal(self, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        """Standard normal numbers by the transform of Box & Muller."""
        count = math.prod(shape)
        half = -(-count // 2)
        first, second = self.uniform(torch.Size((2, half)), dtype)
        radius, angle = (-2 * torch.log(1 - first)).sqrt(), 2 * math.pi * second
        return torch.stack([radius * angle.cos(), radius * angle.sin()]).flatten()[:count].view(shape)

    def decompositions(self) -> dict[Any, Callable[..., Any]]:
        """For ``make_fx``: torch's random operations as functions of this noise.

        Those without an entry (gamma, Poisson, ...) stay torch's, as do other types and draws from a given generator.
        """
        uniform, normal = self.uniform, self.normal
        return {
            aten.rand.default: lambda size, **kw: _made(uniform, size, **kw),
            aten.randn.default: lambda size, **kw: _made(normal, size, **kw),
            aten.rand_like.default: lambda like, **kw: _like(uniform, like, **kw),
            aten.randn_like.default: lambda like, **kw: _like(normal, like, **kw),
            aten.bernoulli.default: lambda p, **kw: _filled(lambda u: (u < p).to(p.dtype), uniform, p, **kw),
            aten.uniform_.default: _inplace(uniform, lambda u, low=0.0, high=1.0: low + (high - low) * u),
            aten.normal_.default: _inplace(normal, lambda e, mean=0.0, std=1.0: mean + std * e),
            aten.exponential_.default: _inplace(uniform, lambda u, rate=1.0: -torch.log(1 - u) / rate),
            aten.bernoulli_.float: _inplace(uniform, lambda u, p=0.5: u < p),
            aten.bernoulli_.Tensor: _inplace(uniform, lambda u, p: u < p),
        }


Draw = Callable[[torch.Size, torch.dtype], Tensor]
KNOWN = (torch.float32, torch.float64)


def _made(draw: Draw, size: Any, *, dtype: torch.dtype | None = None, device: Any = None, **_: Any) -> Any:
    dtype = dtype or torch.get_default_dtype()
    return draw(torch.Size(size), dtype) if dtype in KNOWN else NotImplemented


def _like(draw: Draw, like: Tensor, *, dtype: torch.dtype | None = None, **_: Any) -> Any:
    return _made(draw, like.shape, dtype=dtype or like.dtype)


def _filled(function: Callable[..., Tensor], draw: Draw, like: Tensor, *args: Any, generator: Any = None) -> Any:
    known = like.dtype in KNOWN and generator is None
    return function(draw(like.shape, like.dtype), *args) if known else NotImplemented


def _inplace(draw: Draw, function: Callable[..., Tensor]) -> Callable[..., Any]:
    def fill(target: Tensor, *args: Any, generator: Any = None) -> Any:
        value = _filled(function, draw, target, *args, generator=generator)
        return value if value is NotImplemented else target.copy_(value)

    return fill
