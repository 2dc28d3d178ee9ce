"""Schedules: from 0 to 1, rising, and of equal thermodynamic length where they adapt."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import pyrovae as pv
from pyrovae.evidence.annealing.schedules import Adaptive, Linear, Pilot, Schedule, Sigmoid, interpolated


def met(speed: Tensor) -> Pilot:
    """A pilot that met this speed between stations, (K, n)."""
    number, size = speed.shape
    temperatures = torch.linspace(0, 1, number + 1, dtype=speed.dtype)[:, None].expand(-1, size)
    length = torch.cat([torch.zeros_like(speed[:1]), speed.cumsum(0) / number])
    return Pilot(temperatures, length, torch.zeros(number + 1, size, 2, dtype=speed.dtype))


@pytest.mark.parametrize("schedule", [Linear(), Sigmoid(), Sigmoid(9.0), Adaptive()])
@pytest.mark.parametrize("num_steps", [1, 2, 10, 10_000])
def test_temperatures_rise_from_0_to_1(schedule: Schedule, num_steps: int) -> None:
    t = schedule(num_steps, met(torch.rand(30, 3)))
    assert t.shape in ((num_steps + 1, 1), (num_steps + 1, 3))
    assert (t[0] == 0).all() and (t[-1] == 1).all() and (t.diff(dim=0) > 0).all()


def test_linear_and_sigmoid_in_closed_form(double: None) -> None:
    pilot = met(torch.ones(30, 1))
    torch.testing.assert_close(Linear()(4, pilot)[:, 0], torch.tensor([0, 0.25, 0.5, 0.75, 1]))
    s = torch.sigmoid(4.0 * torch.linspace(-1, 1, 5))
    torch.testing.assert_close(Sigmoid()(4, pilot)[:, 0], (s - s[0]) / (s[-1] - s[0]))
    with pytest.raises(pv.PyrovaeError, match="sharpness"):
        Sigmoid(0.0)


def test_adaptive_steps_are_short_where_the_pilot_was_fast(double: None) -> None:
    """Speed 1 on the first half, 9 on the other, and a floor of a tenth of the mean: 10:1.5 in the step sizes."""
    speed = torch.ones(200, 2)
    speed[100:, 0] = 9.0
    t = Adaptive()(400, met(speed))
    torch.testing.assert_close(t[:, 1:], Linear()(400, met(speed)))
    steps = t[:, 0].diff()
    torch.testing.assert_close(steps[:50].mean() / steps[-200:].mean(), torch.tensor(9.5 / 1.5), rtol=0.02, atol=0)


def test_adaptive_where_the_pilot_saw_nothing() -> None:
    """No speed at all: linear; none in places: the floor."""
    t = Adaptive()(10, met(torch.zeros(30, 1)))
    torch.testing.assert_close(t, Linear()(10, met(torch.zeros(30, 1))))
    speed = torch.zeros(30, 1)
    speed[10] = 1.0
    assert (Adaptive()(200, met(speed)).diff(dim=0) > 0).all()


def test_interpolation_is_piecewise_linear_and_constant_beyond(double: None) -> None:
    x = torch.tensor([[0.2], [0.4], [0.8]]).expand(3, 2)
    y = torch.tensor([[1.0, 0.0], [3.0, 0.0], [2.0, 4.0]])
    at = torch.tensor([[0.0], [0.3], [0.4], [0.6], [1.0]]).expand(5, 2)
    expected = torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [2.5, 2.0], [2.0, 4.0]])
    torch.testing.assert_close(interpolated(at, x, y), expected)
