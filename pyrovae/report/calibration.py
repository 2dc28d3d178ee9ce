"""Whether a guide is calibrated: histograms of ranks and their distribution functions, with what chance allows."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.axes import Axes
from scipy.stats import binom
from torch import Tensor

from pyrovae.checks import Calibration, uniformity
from pyrovae.errors import PyrovaeError
from pyrovae.report.canvas import WIDTH, Figure, few_ticks, panels, style
from pyrovae.report.theme import colours

MOST_BINS = 20
PER_BIN = 10  # data that a bin should hold at least
LEVEL = 0.05  # of the bands


def calibration(result: Calibration, *, most: int = 4) -> Figure:
    """Ranks of the ``most`` dimensions with the smallest p-values: histograms above, distribution functions below.

    Above, 95 % of the bars end within the shade if the ranks are uniform. Below is the share of ranks up to each one
    less that of uniform ranks; it lies within the shade everywhere with probability 95 %. A guide that is too narrow
    makes the bars a valley and the curve an S; too wide, a hill and an S upside down; shifted, a slope and an arch. The
    p-values are corrected, as that of the verdict is: each is multiplied by the number of all dimensions.

    Args:
        result: what ``pyrovae.calibration`` gave.

    Raises:
        PyrovaeError: ``most`` below 1.

    Reference:
        Saeilynoja, Buerkner & Vehtari 2022.
    """
    if most < 1:
        raise PyrovaeError(f"the number of dimensions to draw must be at least 1; got {most}")
    shown, number = result.worst(most), sum(ranks.shape[1] for ranks in result.ranks.values())
    figure, axes = panels(2, len(shown), height=0.66 * WIDTH)
    for column, (name, dimension, p) in enumerate(shown):
        ranks = result.ranks[name][:, dimension]
        label = name if result.ranks[name].shape[1] == 1 else f"{name}[{dimension}]"
        first = column == 0
        _histogram(axes[0, column], ranks, result.num_draws)
        style(axes[0, column], title=f"{label}\np = {min(1.0, p * number):.2g}", y="data" if first else "")
        _difference(axes[1, column], ranks, result.num_draws)
        style(axes[1, column], x="rank", y="share up to it − uniform" if first else "")
    return figure


def _histogram(axes: Axes, ranks: Tensor, num_draws: int) -> None:
    """Bars of as many ranks each as can be, and between which counts each ends with probability 95 %."""
    palette, size = colours(), len(ranks)
    count = min(MOST_BINS, max(2, size // PER_BIN), num_draws + 1)
    edges = np.linspace(0, num_draws + 1, count + 1).round()
    share = np.diff(edges) / (num_draws + 1)
    low, high = (binom.ppf(q, size, share) for q in (LEVEL / 2, 1 - LEVEL / 2))
    axes.hist(ranks.numpy(), bins=list(edges - 0.5), color=palette.first)
    for bounds in (low, high):
        axes.stairs(bounds, edges - 0.5, color=palette.second, lw=0.8)
    axes.stairs(high, edges - 0.5, baseline=low, color=palette.second, alpha=0.25, fill=True, lw=0)
    few_ticks(axes, x=3, y=4)


def _difference(axes: Axes, ranks: Tensor, num_draws: int) -> None:
    palette = colours()
    points = torch.arange(num_draws)
    uniform = (points + 1) / (num_draws + 1)
    low, high = uniformity.band(len(ranks), num_draws, LEVEL)
    axes.fill_between(points, low - uniform, high - uniform, step="post", color=palette.faint, lw=0)
    (curve,) = uniformity.ecdf(ranks[:, None], num_draws)
    axes.step(points, curve - uniform, where="post", color=palette.second, lw=1.2)
    axes.axhline(0, color=palette.quiet, lw=0.8)
    few_ticks(axes, x=3, y=4)
