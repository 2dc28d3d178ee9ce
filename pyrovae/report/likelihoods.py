"""Log-likelihoods: how they are spread, how far to trust them, and how two or more programs compare."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from pyrovae.errors import PyrovaeError
from pyrovae.evidence import Evidence
from pyrovae.evidence.result import SPREAD
from pyrovae.report.canvas import (
    SMALL,
    WIDTH,
    Figure,
    few_ticks,
    histogram,
    logarithmic,
    minus,
    num_bins,
    panels,
    spaced,
    style,
)
from pyrovae.report.theme import colours

MANY = 2000  # points beyond which a scatter is drawn fainter


class Sign(NamedTuple):
    """What tells reliable estimates from others.

    Attributes:
        name: with its unit.
        values: of every datum, (N,).
        where: which data it judges, (N,) bool.
        limit: above which an estimate is not reliable.
        logarithmic: how it is drawn.
    """

    name: str
    values: Tensor
    where: Tensor
    limit: float
    logarithmic: bool

    def drawn(self) -> tuple[Tensor, float]:
        """The finite values that it judges by, and the limit, as they lie on the axis."""
        judged, limit = self.values[self.where].double(), torch.tensor(self.limit, dtype=torch.float64)
        values, limit = (judged.log10(), limit.log10()) if self.logarithmic else (judged, limit)
        return values[values.isfinite()], limit.item() if limit.isfinite() else 0.0  # no k-hat of a single particle

    def title(self, result: Evidence) -> str:
        share = result.unreliable[self.where].double().mean().item()
        return f"{100 * share:.1f} % of {int(self.where.sum()):,} above {self.limit:.2g}"


def signs(result: Evidence) -> list[Sign]:
    """By what its data are judged: k-hat, or, of few chains, the spread of their runs; both, or neither."""
    if result.method == "exact":
        return []
    runs = result.judged_by_runs
    both = (
        Sign("Pareto k-hat", result.pareto_k, ~runs, result.threshold, False),
        Sign("spread of runs, nats", result.spread, runs, SPREAD, True),
    )
    return [sign for sign in both if sign.where.any()]


def evidence(result: Evidence) -> Figure:
    """How log p(x) is spread over the data, with the mean, and by what it is judged, with the limit to that.

    That is k-hat, or, of fewer than 64 chains, the spread of independent runs; exact values are not judged.
    """
    judged = signs(result)
    figure, (axes,) = panels(1, 1 + len(judged), height=0.42 * WIDTH)
    _histogram(axes[0], result.log_prob)
    if math.isfinite(result.mean):
        axes[0].axvline(result.mean, color=colours().second, lw=1.2)
    few_ticks(axes[0], x=5 if len(judged) < 2 else 3)
    style(axes[0], title=minus(f"mean {result.mean:.2f}, {result.kind}"), x="log p(x), nats", y="data")
    for sign, panel in zip(judged, axes[1:], strict=True):
        _bars(panel, sign)
        style(panel, title=sign.title(result), x=sign.name)
    return figure


def weights(result: Evidence) -> Figure:
    """The weights of each datum: k-hat with its threshold, effective sample size, k-hat against log p(x).

    Of fewer than 64 chains, the spread of independent runs with its limit stands in place of k-hat; where a tolerance
    had data estimated in both ways, each has a row. Data above the limit are in the second colour; data for which a
    figure is not finite are left out of the panels that show it.

    Args:
        result: what ``pyrovae.log_marginal`` gave.

    Raises:
        PyrovaeError: exact values, which have no weights.
    """
    judged = signs(result)
    if not judged:
        raise PyrovaeError("exact values of log p(x) have no weights")
    figure, axes = panels(len(judged), 3, height=0.4 * WIDTH * len(judged))
    for sign, (left, middle, right) in zip(judged, axes, strict=True):
        _bars(left, sign)
        style(left, title=sign.title(result), x=sign.name, y="data")
        _sizes(middle, result, sign.where)
        _scatter(right, result, sign)
    return figure


def comparison(results: Mapping[str, Tensor | Evidence]) -> Figure:
    """log p(x) of the same data under two or more programs, paired: mean differences from the first, and their spread.

    Left the mean difference per datum with one standard error, sd / sqrt N of the differences (thick), and two (thin);
    right how the differences are spread over the data.

    Args:
        results: by name, log p(x) of each datum, (N,) nats, or an ``Evidence``; the first is the reference.

    Raises:
        PyrovaeError: fewer than two results, or two data; numbers of data that differ; values that are not finite.

    Example:
        >>> import torch
        >>> from pyrovae import report
        >>> figure = report.comparison({"vae": torch.randn(100), "vamp": torch.randn(100) + 1})
    """
    reference, differences = _differences(results)
    figure = spaced(WIDTH, 0.9 + max(1.1, 0.42 * len(differences)))
    left, right = figure.subplots(1, 2, width_ratios=[1.2, 1])
    for row, difference in enumerate(differences.values()):
        _interval(left, row, difference, _colour(row))
    left.axvline(0, color=colours().quiet, lw=0.8)
    left.set_yticks(range(len(differences)), [_row(name, difference) for name, difference in differences.items()])
    left.set_ylim(len(differences) - 0.5, -0.5)
    left.margins(x=0.1)
    size = len(next(iter(differences.values())))
    style(left, title=f"mean over {size:,} data", x=f"difference from {reference}, nats")
    left.tick_params(axis="y", labelcolor=colours().ink, labelsize=SMALL + 1, length=0)
    left.grid(visible=False, axis="y")
    everything = torch.cat(list(differences.values())).numpy()
    bins = np.histogram_bin_edges(everything, num_bins(size), range=tuple(np.quantile(everything, [0.002, 0.998])))
    for row, difference in enumerate(differences.values()):
        right.hist(difference.numpy(), bins=list(bins), histtype="step", lw=1.2, color=_colour(row))
    right.axvline(0, color=colours().quiet, lw=0.8)
    few_ticks(right)
    style(right, title="each datum", x="difference, nats", y="data")
    return figure


def _differences(results: Mapping[str, Tensor | Evidence]) -> tuple[str, dict[str, Tensor]]:
    values = {name: torch.as_tensor(getattr(r, "log_prob", r)).double().cpu() for name, r in results.items()}
    sizes = {name: tuple(value.shape) for name, value in values.items()}
    if len(values) < 2 or len(set(sizes.values())) > 1 or any(v.dim() != 1 or len(v) < 2 for v in values.values()):
        raise PyrovaeError(
            f"a comparison needs log p(x) of the same N >= 2 data from two or more programs, each (N,); got {sizes}"
        )
    if broken := [name for name, value in values.items() if not value.isfinite().all()]:
        raise PyrovaeError(f"log p(x) is not finite for some data of {broken}: no mean difference is defined")
    reference, *others = values
    return reference, {name: values[name] - values[reference] for name in others}


def _colour(row: int) -> str:
    palette = colours()
    own = (palette.first, palette.second, palette.third)
    return own[row] if row < 3 else palette.classes[row % 10]


def _mean_and_error(difference: Tensor) -> tuple[float, float]:
    return difference.mean().item(), difference.std().item() / math.sqrt(len(difference))


def _row(name: str, difference: Tensor) -> str:
    mean, error = _mean_and_error(difference)
    return f"{name}\n" + minus(f"{mean:+.3f} ± {error:.3f}")


def _interval(axes: Axes, row: int, difference: Tensor, colour: str) -> None:
    mean, error = _mean_and_error(difference)
    for width, line in ((2, 1.0), (1, 3.0)):
        axes.plot(
            [mean - width * error, mean + width * error], [row, row], color=colour, lw=line, solid_capstyle="butt"
        )
    axes.plot(mean, row, "o", ms=4.5, color=colour)


def _histogram(axes: Axes, values: Tensor, colour: str | None = None) -> None:
    histogram(axes, values[values.isfinite()].numpy(), colour or colours().first)


def _bars(axes: Axes, sign: Sign) -> None:
    """Bars that end at the limit, below and above it in different colours."""
    values, limit = sign.drawn()
    low, high = (min(values.min().item(), limit), max(values.max().item(), limit)) if len(values) else (limit, limit)
    width = max((high - low) / num_bins(len(values)), 1e-3)
    below, above = math.ceil((limit - low) / width), math.floor((high - limit) / width) + 1
    few_ticks(axes)
    for part, steps, colour in (
        (values[values <= limit], range(-below, 1), colours().first),
        (values[values > limit], range(above + 1), colours().second),
    ):
        if len(steps) > 1:
            number, edges = np.histogram(part.numpy(), [limit + width * step for step in steps])
            edges = 10**edges if sign.logarithmic else edges
            axes.bar(edges[:-1], number, np.diff(edges), align="edge", color=colour)
    axes.axvline(sign.limit if len(values) else limit, color=colours().second, lw=1.2)
    if sign.logarithmic:
        logarithmic(axes.xaxis)


def _sizes(axes: Axes, result: Evidence, where: Tensor) -> None:
    """Effective sample sizes of these data."""
    most = result.num_particles if result.plan is None else int(result.plan.num_particles[where].max())
    ess = result.ess[where & (result.ess > 0)]
    bins = np.geomspace(1, max(most, 2), num_bins(len(ess)) + 1)
    bins[0], bins[-1] = 0.99, bins[-1] * 1.01  # rounding
    axes.hist(ess.numpy(), bins=list(bins), color=colours().first)
    logarithmic(axes.xaxis)
    title = f"median {ess.median().item():,.0f} of {most:,}" if len(ess) else "no weight"
    style(axes, title=title, x="effective sample size")


def _scatter(axes: Axes, result: Evidence, sign: Sign) -> None:
    """What a datum is judged by against its log p(x)."""
    shown = sign.where & sign.values.isfinite() & result.log_prob.isfinite()
    fill = 0.7 if int(shown.sum()) < MANY else 0.25
    for above, colour in ((False, colours().first), (True, colours().second)):
        part = shown & ((sign.values > sign.limit) == above)
        axes.scatter(result.log_prob[part].numpy(), sign.values[part].numpy(), s=4, lw=0, alpha=fill, color=colour,
                     rasterized=True)  # fmt: skip
    axes.axhline(sign.limit, color=colours().second, lw=1.2)
    few_ticks(axes, x=3)
    if sign.logarithmic:
        logarithmic(axes.yaxis)
    style(axes, title="each datum", x="log p(x), nats", y=sign.name)
