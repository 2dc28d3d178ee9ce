"""Where values lie: whether two supports are one place, and what is wrong with values outside."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

MISSING = "NaN is a missing value: declare such by pyrovae.Missing(decoder), or remove or impute them"
KNOWN = ("torch", "pyro", "pyrovae")  # whose constraints mean what their names say
INTERVALS = ("Interval", "HalfOpenInterval", "OpenInterval", "Angles", "GreaterThan", "GreaterThanEq", "LessThan",
             "Real", "IntegerInterval", "IntegerGreaterThan", "IntegerLessThan", "Integer", "Boolean")  # fmt: skip


def of_elements(support: Any) -> Any:
    """The support of single elements."""
    while hasattr(support, "base_constraint"):  # independent dimensions, mixtures
        support = support.base_constraint
    return support


def of_distribution(distribution: Distribution) -> Any:
    """The support that a distribution says; None where it says none."""
    try:
        return distribution.support
    except NotImplementedError:  # torch's own answer for a distribution that defines none
        return None


def place(support: Any) -> Any:
    """The set where elements lie, to be compared with others, ends of intervals left out; None where it is not known.

    Bounds that differ between elements, or that depend on parameters, are not known.
    """
    element = of_elements(support)
    kind = type(element).__name__.strip("_")
    if element is None or constraints.is_dependent(element) or type(element).__module__.split(".")[0] not in KNOWN:
        return None
    if hasattr(element, "cseq"):
        lengths = getattr(element, "lengths", [1] * len(element.cseq))
        return _columns([place(part) for part, n in zip(element.cseq, lengths, strict=True) for _ in range(n)])
    low, high = getattr(element, "lower_bound", -math.inf), getattr(element, "upper_bound", math.inf)
    if kind == "Boolean":
        low, high = 0, 1
    bounds = _number(low), _number(high)
    if None in bounds:
        return None
    if kind in INTERVALS:
        return element.is_discrete, *bounds
    return kind, *bounds, getattr(element, "num_levels", None)


def _columns(places: list[Any]) -> Any:
    """One place where all columns lie in the same."""
    if None in places:
        return None
    return places[0] if len(set(places)) == 1 else tuple(places)


def _number(bound: Any) -> float | None:
    """A bound as a number of single precision, in which most are given; None where it is not one number for all."""
    bound = torch.as_tensor(bound).float()
    if bound.requires_grad or bound.numel() == 0 or (bound != bound.flatten()[0]).any():
        return None
    return bound.flatten()[0].item()


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
    return f"{name} lies outside the likelihood's support ({_words(element)}): {remedy}"


def _words(element: Any) -> str:
    """A support; by its name where each element of x has bounds of its own."""
    bounds = [getattr(element, side, None) for side in ("lower_bound", "upper_bound")]
    many = any(torch.is_tensor(bound) and bound.numel() > 1 for bound in bounds)
    return type(element).__name__.strip("_") if many else str(element)


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
