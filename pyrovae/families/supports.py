"""Where x may lie, and what helps where it does not."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from pyrovae.errors import PyrovaeError

MISSING = "NaN is a missing value: declare such by pyrovae.Missing(decoder), or remove or impute them"
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


def of_elements(support: Any) -> Any:
    """The support of single elements."""
    while hasattr(support, "base_constraint"):  # independent dimensions, mixtures
        support = support.base_constraint
    return support


def outside(name: str, x: Tensor, support: Any) -> str | None:
    """What is wrong with values outside ``support`` and what would mend it; None where they lie inside."""
    if hasattr(support, "filled"):  # missing values are announced, and only what is seen can be outside
        text = outside(name, support.filled(x), support.base_constraint)
        return text and text + _unmarked(x, support.sentinel)
    element = of_elements(support)
    if isinstance(element, constraints.stack):  # a table: the first such column
        columns = (outside(f"{name}[:, {d}]", x[..., d], column) for d, column in enumerate(element.cseq))
        return next((text for text in columns if text), None)
    try:
        inside = support is None or bool(support.check(x).all())
    except RuntimeError:  # a support with parameters of its own, per batch: Pyro's validation has seen the probe
        return None
    if inside:
        return None
    remedy = MISSING if x.isnan().any() else getattr(element, "remedy", None) or _remedy(x)
    return f"{name} lies outside the likelihood's support ({element}): {remedy}"


def _unmarked(x: Tensor, sentinel: int | None) -> str:
    """What stands for a missing value, where x looks as if it meant another one."""
    if x.is_floating_point():
        meant = sentinel is not None and (x == sentinel).any()
        return f". In floating-point x a missing value is NaN, and the sentinel {sentinel} is a number" if meant else ""
    remedy = "functools.partial(pyrovae.Missing, sentinel=-1) declares -1 to be a missing value"
    return f". In integer x a sentinel stands for a missing value: {remedy}" if sentinel is None and x.min() < 0 else ""


def _remedy(x: Tensor) -> str:
    low, high = x.min().item(), x.max().item()
    if low >= 0 and 1 < high <= 255:
        return f"its values reach {high:g}; divide images of 0..255 by 255"
    if low >= 0 and high <= 1:
        return (
            "its values are grey, in [0, 1]; binarize them (pyrovae.data.load(..., binarization='dynamic'), or "
            "fit(..., draw=torch.bernoulli)), or use a likelihood for grey values such as pyrovae.families.normal"
        )
    return f"its values range from {low:g} to {high:g}; use a likelihood for such data, or transform them"
