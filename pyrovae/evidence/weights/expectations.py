"""Posterior expectations by self-normalised importance weights, in a stream."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyrovae.errors import PyrovaeError
from pyrovae.precision import float64

Function = Callable[[dict[str, Tensor]], Tensor]  # latents by site name, (S, n, *event), to (S, n, *shape)
LEAST = -1e300  # the largest log-weight, where all weights are zero


@dataclass(frozen=True, eq=False)
class Expectation:
    """E[f(z) | x] of each datum: sum_s w_s f(z_s) / sum_s w_s.

    Its bias is of order 1 / S. Where k-hat is above its threshold it is doubtful, and the error understates.

    Attributes:
        mean: (N, *shape) float64; nan where all weights are zero.
        standard_error: of the mean, by the delta method, (N, *shape): with W_s the weight of particle s and F_s that of
            f, summed over values that are enumerated, sqrt(S / (S - 1) sum_s (F_s - mean W_s)^2) / sum_s W_s. nan for
            a single particle.
    """

    mean: Tensor
    standard_error: Tensor

    @classmethod
    def joined(cls, parts: Sequence[Expectation]) -> Expectation:
        """Those of several blocks as those of all data."""
        return cls(torch.cat([part.mean for part in parts]), torch.cat([part.standard_error for part in parts]))

    def taken(self, index: Tensor) -> Expectation:
        """Those of some of the data."""
        return Expectation(self.mean[index], self.standard_error[index])

    def __repr__(self) -> str:
        return f"Expectation(mean and standard_error of shape {tuple(self.mean.shape)}, by datum)"


def evaluated(functions: Mapping[str, Function], latents: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every function at the latents, by name.

    Raises:
        PyrovaeError: a function asks for a site that is no latent, or does not give one value per point and datum.
    """
    points = next(iter(latents.values())).shape[:2]
    return {name: _evaluated(name, function, latents, points) for name, function in functions.items()}


def _evaluated(name: str, function: Function, latents: dict[str, Tensor], points: torch.Size) -> Tensor:
    try:
        value: Any = function(dict(latents))
    except KeyError as error:
        raise PyrovaeError(f"expectation {name!r} asks for {error}, the latents are {list(latents)}") from error
    if not isinstance(value, Tensor) or value.shape[:2] != points:
        found = tuple(value.shape) if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise PyrovaeError(
            f"expectation {name!r} must take latents (S, n, *event) by name and give a tensor (S, n, *shape), here "
            f"beginning with {tuple(points)}; got {found}"
        )
    if value.is_complex():
        raise PyrovaeError(f"expectation {name!r} must be real; got {value.dtype}")
    return value


class Weighted:
    """The weighted mean of values over particles that come in chunks, with its standard error; for a block of data."""

    def __init__(self) -> None:
        self.count = 0
        self._sums: _Sums | None = None

    @torch.no_grad()
    def add(self, log_w: Tensor, values: Tensor) -> None:
        """Take in C particles.

        Args:
            log_w: log-weights (*enumerated, C, n), nats.
            values: f at these points, (points, n, *shape), the points flattened.
        """
        log_w = float64(log_w)
        chunk = _sums(log_w, float64(values).to(log_w.device).unflatten(0, log_w.shape[:-1]))
        self._sums = chunk if self._sums is None else _merged(self._sums, chunk)
        self.count += log_w.shape[-2]

    @property
    def result(self) -> Expectation:
        """What the particles so far say."""
        if self._sums is None:
            raise PyrovaeError("nothing to average: add particles first")
        _, mean, weight, _, _, squares = self._sums
        mean = torch.where(weight == 0, math.nan, mean)
        scale = self.count / (self.count - 1) if self.count > 1 else math.nan
        return Expectation(mean.cpu(), ((scale * squares).sqrt() / weight).cpu())


class _Sums(NamedTuple):
    """Sums over particles of weight W scaled by exp(-top), F the weight times f; each broadcastable to (n, *shape).

    Of G = F - mean W, and not of F: nothing cancels where the mean is large against the spread.
    """

    top: Tensor  # the largest log-weight
    mean: Tensor  # 0 where the weight is
    weight: Tensor
    weight_squares: Tensor
    products: Tensor  # W G
    squares: Tensor  # G^2

    def moved(self, top: Tensor, mean: Tensor) -> _Sums:
        """The same particles, scaled by another top and about another mean."""
        shrink, d = torch.exp(self.top - top), mean - self.mean
        products = self.products - d * self.weight_squares
        squares = (self.squares - d * (self.products + products)).clamp(min=0)
        sums = (self.weight_squares, products, squares)
        return _Sums(top, mean, shrink * self.weight, *(shrink.square() * each for each in sums))


def _sums(log_w: Tensor, values: Tensor) -> _Sums:
    points, enumerated = list(range(log_w.dim() - 1)), list(range(log_w.dim() - 2))
    log_w = log_w.reshape(*log_w.shape, *[1] * (values.dim() - log_w.dim()))
    top = log_w.amax(points)
    top = torch.where(top == -math.inf, LEAST, top)  # -inf - -inf is nan
    w = torch.exp(log_w - top)
    f = torch.where(w == 0, 0, values)  # where there is no weight, it may be nan or infinite
    total = w.sum(points)
    mean = torch.where(total == 0, 0, (w * f).sum(points) / total)
    g, weight = w * (f - mean), w
    if enumerated:  # together they make up one particle
        g, weight = g.sum(enumerated), w.sum(enumerated)
    return _Sums(top, mean, total, weight.square().sum(0), (weight * g).sum(0), g.square().sum(0))


def _merged(a: _Sums, b: _Sums) -> _Sums:
    top = torch.maximum(a.top, b.top)
    part, total = torch.exp(b.top - top) * b.weight, torch.exp(a.top - top) * a.weight
    total = total + part
    mean = a.mean + torch.where(total == 0, 0, (b.mean - a.mean) * part / total)
    a, b = a.moved(top, mean), b.moved(top, mean)
    return _Sums(top, mean, total, *(x + y for x, y in zip(a[3:], b[3:], strict=True)))
