"""Bounds on log p(x) of simulated data from both sides, and how far they are apart."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from pyrovae.evidence import Sandwich
from pyrovae.report.canvas import WIDTH, Figure, few_ticks, histogram, minus, panels, style
from pyrovae.report.theme import colours


def sandwich(result: Sandwich) -> Figure:
    """Left, each datum's lower and upper bound, in the order of the lower ones; right, the gaps between them.

    The lines are the means. What is not finite is left out.

    Args:
        result: what ``pyrovae.sandwich`` gave.

    Example:
        >>> import torch, pyrovae as pv
        >>> from pyrovae import report
        >>> lower = torch.randn(50).double()
        >>> bounds = pv.Sandwich(lower, lower + 0.1, lower + 0.2, torch.zeros(50), (), "importance", 100)
        >>> figure = report.sandwich(bounds)
    """
    figure, ((left, right),) = panels(1, 2, height=0.42 * WIDTH)
    shown = result.lower.isfinite() & result.upper.isfinite()
    _bounds(left, result.lower[shown], result.upper[shown])
    _gaps(right, result.gap[shown])
    few_ticks(left)
    few_ticks(right)
    means = minus(f"mean {result.lower.mean():.2f} and {result.upper.mean():.2f}")
    style(left, title=means, x="simulated data, in order", y="log p(x), nats")
    error = result.gap_standard_error
    gap = f"mean gap {result.gap_mean:.3f}" + (f" ± {error:.3f}" if math.isfinite(error) else "")
    style(right, title=minus(gap), x="upper − lower bound, nats", y="data")
    return figure


def _bounds(axes: Axes, lower: Tensor, upper: Tensor) -> None:
    palette, order = colours(), lower.argsort()
    place = np.arange(len(order))
    axes.vlines(place, lower[order], upper[order], color=palette.quiet, lw=0.8)
    for bound, colour in ((lower, palette.first), (upper, palette.second)):
        axes.scatter(place, bound[order], s=4, lw=0, color=colour)
        if len(bound):
            axes.axhline(bound.mean().item(), color=colour, lw=0.8)


def _gaps(axes: Axes, gaps: Tensor) -> None:
    palette = colours()
    histogram(axes, gaps.numpy(), palette.first)
    axes.axvline(0, color=palette.quiet, lw=0.8)
    if len(gaps):
        axes.axvline(gaps.mean().item(), color=palette.second, lw=1.2)
