"""Functions that densities are made of, in forms that keep their digits."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyrovae.precision import float64


def log_prob_in_float64(make: Callable[..., TorchDistribution], params: dict[str, Tensor], x: Tensor) -> Tensor:
    """log p(x) under ``make(**params)``, computed in float64, in the parameters' dtype.

    Differences of large log-gammas leave nothing of a float32: at a concentration of 1e6 its last digit is worth 1.
    """
    exact = make(**{name: float64(value) for name, value in params.items()}, validate_args=False)
    log_p: Tensor = exact.log_prob(float64(x)).to(next(iter(params.values())))
    return log_p


def log_sinhc(h: Tensor) -> Tensor:
    """log(sinh(h) / h), with exact gradients at 0 too."""
    t = 2 * h.abs()
    small = t < 0.5
    square = h.square().clamp(max=0.25)  # the branch not taken must be finite, else its gradient is nan
    series = square * (1 / 6 - square * (1 / 180 - square * (1 / 2835 - square / 37800)))
    t = t.clamp(min=0.5)
    return torch.where(small, series, t / 2 + torch.log(-torch.expm1(-t)) - t.log())


def log_ndtr(x: Tensor) -> Tensor:
    """log Phi(x), the normal's distribution function, with gradients that are right far out.

    Torch's ``special.log_ndtr`` takes its gradient from the value by an exponential, which is wrong in float32 below
    -1000, and not finite at some points.
    """
    low = x < -1
    t = torch.where(low, -x, 1.0) * math.sqrt(0.5)
    tail = torch.log(torch.special.erfcx(t) / 2) - t.square()
    middle = torch.where(low, 0.0, x) * math.sqrt(0.5)
    return torch.where(low, tail, torch.log1p(-torch.special.erfc(middle) / 2))


def solved(function: Callable[[Tensor], Tensor], value: Tensor, *, reach: float = 1e3) -> Tensor:
    """The t in +-reach with function(t) = value, elementwise, by bisection; the function increases."""
    low, high = torch.full_like(value, -reach), torch.full_like(value, reach)
    for _ in range(60):
        middle = (low + high) / 2
        below = function(middle) < value
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2
