"""Supports are compared as sets: the same set by another name is the same, and what is not known is said to be so."""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import constraints

import pyrovae as pv
from pyrovae import supports
from pyrovae.families.supports import Levels, OpenInterval, angles
from pyrovae.supports import place

ONES = torch.ones(3)
columns = pv.families.Mixed([pv.families.normal, pv.families.bernoulli, pv.families.bernoulli])

SAME: list[tuple[Any, Any]] = [
    (dist.Uniform(0 * ONES, ONES).support, constraints.unit_interval),
    (dist.Uniform((0 * ONES).double(), ONES.double()).to_event(1).support, OpenInterval(0, 1)),
    (constraints.half_open_interval(0.0, 1.0), constraints.unit_interval),
    (dist.Uniform(-math.pi * ONES, math.pi * ONES).support, angles),
    (constraints.boolean, constraints.integer_interval(0, 1)),
    (constraints.real_vector, constraints.real),
    (constraints.positive, constraints.nonnegative),
    (constraints.stack([constraints.real] * 3, -1), constraints.real_vector),
    (constraints.cat([constraints.real, constraints.positive], -1, [1, 2]),
     constraints.stack([constraints.real, constraints.positive, constraints.positive], -1)),
    (constraints.nonnegative_integer, constraints.integer_interval(0, math.inf)),
]  # fmt: skip
DIFFERENT: list[tuple[Any, Any]] = [
    (constraints.unit_interval, constraints.interval(0, 2)),
    (constraints.real, constraints.positive),
    (constraints.real, constraints.integer),
    (constraints.positive, constraints.nonnegative_integer),
    (constraints.boolean, constraints.unit_interval),
    (constraints.simplex, constraints.one_hot),
    (constraints.one_hot, constraints.real_vector),
    (Levels(2), Levels(3)),
    (Levels(256), constraints.unit_interval),
    (constraints.multinomial(3), constraints.multinomial(4)),
    (columns(torch.zeros(4)).support, constraints.real_vector),
    (constraints.stack([constraints.real, constraints.positive], -1),
     constraints.stack([constraints.positive, constraints.real], -1)),
]  # fmt: skip


@pytest.mark.parametrize(("a", "b"), SAME, ids=str)
def test_one_set_has_one_place(a: Any, b: Any) -> None:
    assert place(a) == place(b) and place(a) is not None


@pytest.mark.parametrize(("a", "b"), DIFFERENT, ids=str)
def test_other_sets_have_others(a: Any, b: Any) -> None:
    assert None not in (place(a), place(b)) and place(a) != place(b)


class Own(constraints.Constraint):
    """Of the user's: nobody knows what set that is."""

    is_discrete, event_dim = False, 0


@pytest.mark.parametrize(
    "support",
    [
        None,
        constraints.dependent,
        Own(),
        constraints.interval(torch.zeros(2), torch.tensor([1.0, 2.0])),
        constraints.interval(0.0, torch.ones(2, requires_grad=True) * 2),
        constraints.stack([constraints.real, Own()], -1),
        supports.of_distribution(torch.distributions.Distribution(validate_args=False)),
    ],
    ids=str,
)
def test_what_is_not_known(support: Any) -> None:
    assert place(support) is None


def test_bounds_of_many_elements_are_not_printed() -> None:
    text = supports.outside("x", torch.full((2, 99), 2.0), constraints.interval(torch.zeros(99), torch.arange(99.0)))
    assert text is not None and "the likelihood's support (Interval)" in text and "tensor" not in text
