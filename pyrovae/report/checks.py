"""Predictive checks: statistics of the data among those of what the program draws in their place."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from pyrovae.checks import PredictiveCheck
from pyrovae.report.canvas import WIDTH, Figure, few_ticks, panels, style
from pyrovae.report.theme import colours

BINS = 20


def predictive_check(result: PredictiveCheck) -> Figure:
    """One row per statistic: its mean over the data among those of replicate data sets, and the p-values of the data.

    The line on the right is where the p-values would lie if they were uniform, as they are under the program for
    replicates from the prior; for those of the posterior they crowd around 1/2.

    Args:
        result: what ``pyrovae.predictive_check`` gave.

    Example:
        >>> import torch, pyrovae as pv
        >>> from pyrovae import report
        >>> check = pv.PredictiveCheck({"mean": torch.randn(50).double()}, {"mean": torch.randn(100, 50).double()})
        >>> figure = report.predictive_check(check)
    """
    names = list(result.observed)
    figure, axes = panels(len(names), 2, height=0.36 * WIDTH * len(names))
    for name, (left, right) in zip(names, axes, strict=True):
        _pooled(left, result, name)
        _each(right, result, name)
    return figure


def _pooled(axes: Axes, result: PredictiveCheck, name: str) -> None:
    mean, replicated = result.means[name]
    _bars(axes, replicated.numpy(), bins=BINS)
    axes.axvline(mean.item(), color=colours().second, lw=1.2)
    few_ticks(axes)
    style(axes, title=f"{name}: p = {result.pooled[name]:.3f}", x="mean over the data", y="replicates")


def _each(axes: Axes, result: PredictiveCheck, name: str) -> None:
    p = result.p_values[name]
    p = p[~p.isnan()]
    _bars(axes, p.numpy(), bins=list(np.linspace(0, 1, BINS + 1)))
    axes.axhline(len(p) / BINS, color=colours().quiet, lw=0.8)
    few_ticks(axes)
    style(axes, title=f"{len(p):,} data", x="p-value of a datum", y="data")


def _bars(axes: Axes, values: np.ndarray, *, bins: Any) -> None:
    axes.hist(values[np.isfinite(values)], bins=bins, color=colours().first)
