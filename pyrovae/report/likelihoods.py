"""Log-likelihoods: how they are spread, how far to trust them, and how two or more programs compare."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from pyrovae.errors import PyrovaeError
from pyrovae.evidence import Evidence
from pyrovae.report.canvas import SMALL, WIDTH, Figure, few_ticks, minus, panels, spaced, style
from pyrovae.report.theme import colours

BINS = 40
MANY = 2000  # points beyond which a scatter is drawn fainter


def evidence(result: Evidence) -> Figure:
    """How log p(x) and k-hat are spread over the data, with the mean, and the threshold above which k-hat warns."""
    figure, ((left, right),) = panels(1, 2, height=0.42 * WIDTH)
    _histogram(left, result.log_prob)
    if math.isfinite(result.mean):
        left.axvline(result.mean, color=colours().second, lw=1.2)
    few_ticks(left)
    style(
        left, title=minus(f"mean {result.mean:.2f}, {result.num_particles:,} particles"), x="log p(x), nats", y="data"
    )
    _khat(right, result)
    share = f"{100 * result.share_unreliable:.1f} % of {result.num_data:,} data"
    style(right, title=f"{share} above {result.threshold:.2f}", x="Pareto k-hat")
    return figure


def weights(result: Evidence) -> Figure:
    """The importance weights of each datum: k-hat with its threshold, effective sample size, k-hat against log p(x).

    Data with k-hat above the threshold are in the second colour; data whose k-hat, or log p(x), is not finite are left
    out of the panels that show it.

    Args:
        result: what ``pyrovae.log_marginal`` gave.
    """
    figure, ((left, middle, right),) = panels(1, 3, height=0.4 * WIDTH)
    _khat(left, result)
    style(
        left,
        title=f"{100 * result.share_unreliable:.1f} % above {result.threshold:.2f}",
        x="Pareto k-hat",
        y="data",
    )
    ess = result.ess[result.ess > 0]
    bins = np.geomspace(1, max(result.num_particles, 2), BINS + 1)
    bins[0], bins[-1] = 0.99, bins[-1] * 1.01  # rounding
    middle.hist(ess.numpy(), bins=list(bins), color=colours().first)
    middle.set_xscale("log")
    style(middle, title=f"median {ess.median().item():,.0f} of {result.num_particles:,}" if len(ess) else "no weight",
          x="effective sample size")  # fmt: skip
    _khat_by_log_prob(right, result)
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
    bins = np.histogram_bin_edges(everything, BINS, range=tuple(np.quantile(everything, [0.002, 0.998])))
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
    axes.hist(values[values.isfinite()].numpy(), bins=BINS, color=colour or colours().first)


def _khat(axes: Axes, result: Evidence) -> None:
    """Bars that end at the threshold, below and above it in different colours."""
    k = result.pareto_k[result.pareto_k.isfinite()]
    limit = result.threshold if math.isfinite(result.threshold) else 0.0  # there is none for a single particle
    low, high = (min(k.min().item(), limit), max(k.max().item(), limit)) if len(k) else (limit, limit)
    width = max((high - low) / BINS, 1e-3)
    below, above = math.ceil((limit - low) / width), math.floor((high - limit) / width) + 1
    for part, steps, colour in (
        (k[k <= limit], range(-below, 1), colours().first),
        (k[k > limit], range(above + 1), colours().second),
    ):
        if len(steps) > 1:
            axes.hist(part.numpy(), bins=[limit + width * step for step in steps], color=colour)
    axes.axvline(limit, color=colours().second, lw=1.2)
    few_ticks(axes)


def _khat_by_log_prob(axes: Axes, result: Evidence) -> None:
    shown = result.pareto_k.isfinite() & result.log_prob.isfinite()
    fill = 0.7 if int(shown.sum()) < MANY else 0.25
    for above, colour in ((False, colours().first), (True, colours().second)):
        part = shown & ((result.pareto_k > result.threshold) == above)
        axes.scatter(result.log_prob[part].numpy(), result.pareto_k[part].numpy(), s=4, lw=0, alpha=fill, color=colour,
                     rasterized=True)  # fmt: skip
    axes.axhline(result.threshold, color=colours().second, lw=1.2)
    few_ticks(axes, x=3)
    style(axes, title="k-hat of a datum", x="log p(x), nats")
