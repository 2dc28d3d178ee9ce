"""Supports that torch has not, and what helps where x lies outside them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import constraints

from pyrovae.errors import PyrovaeError

TOLERANCE = 0.05  # of a level: what float32 makes of k / (L - 1), and far below the distance of real grey values


class OpenInterval(constraints.interval):
    """low < x < high: where a density may be infinite at the ends."""

    remedy = (
        "values at an end are refused because the density may be infinite there: for grey values, which reach 0 and 1, "
        "wrap the decoder in pyrovae.Dequantized, or use pyrovae.families.continuous_bernoulli"
    )

    def check(self, value: Tensor) -> Tensor:
        return (self.lower_bound < value) & (value < self.upper_bound)

    def __repr__(self) -> str:
        return f"OpenInterval({self.lower_bound}, {self.upper_bound})"


class Levels(constraints.Constraint):
    """x = k / (L - 1) for k = 0 .. L - 1: levels of grey, scaled to [0, 1]."""

    is_discrete = True

    def __init__(self, num_levels: int) -> None:
        self.num_levels = num_levels
        self.lower_bound, self.upper_bound = 0, 1
        self.remedy = (
            f"these are no {num_levels} levels k / {num_levels - 1}: divide whole numbers 0 .. {num_levels - 1} by "
            f"{num_levels - 1}, say the right num_levels, or use a density of real numbers such as "
            "pyrovae.families.normal"
        )

    def check(self, value: Tensor) -> Tensor:
        level = value * (self.num_levels - 1)
        near = (level - level.round()).abs() < TOLERANCE
        return near & (level > -0.5) & (level < self.num_levels - 0.5)

    def __repr__(self) -> str:
        return f"Levels(num_levels={self.num_levels})"


def checked(num_levels: int) -> int:
    """Raises PyrovaeError for fewer than two levels."""
    if num_levels < 2:
        raise PyrovaeError(f"there must be at least two levels; got {num_levels}")
    return num_levels


class Angles(constraints.interval):
    """-pi <= x <= pi."""

    remedy = "give angles in radians, between -pi and pi: torch.atan2(x.sin(), x.cos()) makes such of any"

    def __init__(self) -> None:
        super().__init__(-torch.pi, torch.pi)

    def __repr__(self) -> str:
        return "Angles()"


open_unit_interval = OpenInterval(0, 1)
angles = Angles()
