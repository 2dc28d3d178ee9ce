"""The figure of a sandwich shows its bounds and gaps."""

import math

import pytest
import torch

import pyrovae as pv
from pyrovae import report


def bounds(number: int) -> pv.Sandwich:
    generator = torch.Generator().manual_seed(0)
    lower = torch.randn(number, generator=generator).double()
    gap = torch.rand(number, generator=generator).double()
    return pv.Sandwich(lower, lower + gap, lower + gap, torch.zeros(number), (), "importance", 100)


def test_bounds_in_order_and_their_gaps() -> None:
    found = bounds(60)
    left, right = report.sandwich(found).axes
    low, high = (points.get_offsets()[:, 1] for points in left.collections[1:])
    order = found.lower.argsort()
    assert low.tolist() == pytest.approx(found.lower[order].tolist())
    assert high.tolist() == pytest.approx(found.upper[order].tolist())
    assert sum(bar.get_height() for bar in right.patches) == 60
    assert right.lines[1].get_xdata()[0] == pytest.approx(found.gap_mean)
    assert right.get_title(loc="left") == f"mean gap {found.gap_mean:.3f} ± {found.gap_standard_error:.3f}"


def test_one_datum_and_none_that_is_finite() -> None:
    assert "±" not in report.sandwich(bounds(1)).axes[1].get_title(loc="left")
    nothing = torch.full((3,), -math.inf).double()
    figure = report.sandwich(pv.Sandwich(nothing, nothing, nothing, torch.zeros(3), (), "annealed", 4, 5))
    figure.draw_without_rendering()
    assert len(figure.axes[0].collections[1].get_offsets()) == 0
