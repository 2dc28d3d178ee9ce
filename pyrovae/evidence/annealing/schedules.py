"""Temperatures of an annealing run: where on the path from the start (0) to the joint density (1) each step stands.

A schedule is a function ``schedule(num_steps, pilot) -> (num_steps + 1, n or 1)``, rising from 0 to 1, where ``pilot``
holds what a few chains met on the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pyrovae.errors import PyrovaeError

FLOOR = 0.1  # of the length by temperature: no stretch of the path is skipped because few chains saw nothing there


class Pilot(NamedTuple):
    """What a pilot run met at K temperatures; all that later runs take from it.

    Attributes:
        temperatures: from 0 to 1, (K, n), rising until they are 1.
        length: of the path so far, the integral of the standard deviation of log p - log q over t, nats, (K, n).
        log_stride: log step size of each unconstrained dimension, (K, n, D).
    """

    temperatures: Tensor
    length: Tensor
    log_stride: Tensor


@dataclass(frozen=True)
class Linear:
    """t_k = k / K."""

    def __call__(self, num_steps: int, pilot: Pilot) -> Tensor:
        return _progress(num_steps, pilot)[:, None]


@dataclass(frozen=True)
class Sigmoid:
    """t_k = (s(a (2 k / K - 1)) - s(-a)) / (s(a) - s(-a)), s the logistic function: short steps at both ends.

    Args:
        sharpness: a; 4 as in Wu et al. 2017.
    """

    sharpness: float = 4.0

    def __post_init__(self) -> None:
        if not self.sharpness > 0:
            raise PyrovaeError(f"the sharpness of a sigmoid schedule must be above 0; got {self.sharpness}")

    def __call__(self, num_steps: int, pilot: Pilot) -> Tensor:
        return sigmoid(_progress(num_steps, pilot), self.sharpness)[:, None]


@dataclass(frozen=True)
class Adaptive:
    """Steps of equal thermodynamic length, for each datum its own: dt ~ 1 / sd_t(log p - log q), from the pilot.

    The variance of log w is least where every step adds the same to it (Gelman & Meng 1998; Grosse, Maddison &
    Salakhutdinov 2013).
    """

    def __call__(self, num_steps: int, pilot: Pilot) -> Tensor:
        length = pilot.length + (FLOOR * pilot.length[-1] + 1e-9) * pilot.temperatures
        levels = _progress(num_steps, pilot)[:, None] * length[-1]
        result = interpolated(levels, length, pilot.temperatures)
        result[0], result[-1] = 0, 1
        return result


Schedule = Linear | Sigmoid | Adaptive


def _progress(num_steps: int, pilot: Pilot) -> Tensor:
    return torch.linspace(0, 1, num_steps + 1).to(pilot.temperatures)


def sigmoid(progress: Tensor, sharpness: float = 4.0) -> Tensor:
    """The sigmoid path at ``progress`` from 0 to 1."""
    low, high = torch.sigmoid(progress.new_tensor([-sharpness, sharpness]))
    return (torch.sigmoid(sharpness * (2 * progress - 1)) - low) / (high - low)


def interpolated(at: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Piecewise linear y(x) at points (T, n), from knots x (K, n), rising, and y (K, n, *); constant beyond."""
    right = torch.searchsorted(x.T.contiguous(), at.T.contiguous()).T.clamp(1, len(x) - 1)
    x0, x1 = x.gather(0, right - 1), x.gather(0, right)
    share = ((at - x0) / (x1 - x0).clamp(min=torch.finfo(x.dtype).tiny)).clamp(0, 1).to(y)
    right, column = right.to(y.device), torch.arange(x.shape[1], device=y.device)
    share = share.reshape(*share.shape, *[1] * (y.dim() - 2))
    return y[right - 1, column].lerp(y[right, column], share)
