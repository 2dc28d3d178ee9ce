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
from pyrovae.report.canvas import SMALL, WIDTH, Figure, blank, few_ticks, note, panels, style
from pyrovae.report.theme import colours

BINS = 40
MANY = 2000  # points beyond which a scatter is drawn fainter


def evidence(result: Evidence) -> Figure:
    """How log p(x) and k-hat are spread over the data, with the mean, and the threshold above which k-hat warns."""
    figure, ((left, right),) = panels(1, 2, height=0.42 * WIDTH)
    _histogram(left, result.log_prob)
    left.axvline(result.mean, color=colours().second, lw=1.2)
    few_ticks(left)
    style(left, title=f"mean {result.mean:.2f}, {result.num_particles:,} particles", x="log p(x), nats", y="data")
    _khat(right, result)
    share = f"{100 * result.share_unreliable:.1f} % of {result.num_data:,} data"
    style(right, title=f"{share} above {result.threshold:.2f}", x=r"Pareto $\hat k$")
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
        x=r"Pareto $\hat k$",
        y="data",
    )
    ess = result.ess[result.ess > 0]
    bins = np.geomspace(1, max(result.num_particles, 2), BINS + 1)
    bins[0], bins[-1] = 0.99, bins[-1] * 1.01  # rounding
    middle.hist(ess.numpy(), bins=bins, color=colours().first)
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
    figure = blank(WIDTH, 0.9 + max(1.1, 0.28 * len(differences)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.2, 1])
    for row, difference in enumerate(differences.values()):
        _interval(left, row, difference, _colour(row))
    left.axvline(0, color=colours().quiet, lw=0.8)
    left.set_yticks(range(len(differences)), list(differences))
    left.set_ylim(len(differences) - 0.5, -0.5)
    left.margins(x=0.1)
    size = len(next(iter(differences.values())))
    style(left, title=f"mean over {size:,} data", x=f"log p(x) beyond {reference}, nats")
    left.tick_params(axis="y", labelcolor=colours().ink, labelsize=SMALL + 1, length=0)
    left.grid(visible=False, axis="y")
    everything = torch.cat(list(differences.values())).numpy()
    bins = np.histogram_bin_edges(everything, BINS, range=tuple(np.quantile(everything, [0.002, 0.998])))
    for row, difference in enumerate(differences.values()):
        right.hist(difference.numpy(), bins=bins, histtype="step", lw=1.2, color=_colour(row))
    right.axvline(0, color=colours().quiet, lw=0.8)
    few_ticks(right)
    style(right, title="of a datum", x="difference, nats", y="data")
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


def _interval(axes: Axes, row: int, difference: Tensor, colour: str) -> None:
    mean, error = difference.mean().item(), difference.std().item() / math.sqrt(len(difference))
    for width, line in ((2, 1.0), (1, 3.0)):
        axes.plot(
            [mean - width * error, mean + width * error], [row, row], color=colour, lw=line, solid_capstyle="butt"
        )
    axes.plot(mean, row, "o", ms=4.5, color=colour)
    note(axes, mean, row - 0.16, f"{mean:+.3f} ± {error:.3f}", ha="center", va="bottom", color=colours().ink)


def _histogram(axes: Axes, values: Tensor, colour: str | None = None) -> None:
    axes.hist(values[values.isfinite()].numpy(), bins=BINS, color=colour or colours().first)


def _khat(axes: Axes, result: Evidence) -> None:
    """Bars that end at the threshold, so that each is of one colour."""
    k = result.pareto_k[result.pareto_k.isfinite()]
    low, high = (k.min().item(), k.max().item()) if len(k) else (0.0, 1.0)
    width = max((high - low) / BINS, 1e-3)
    first, last = (math.floor((low - result.threshold) / width), math.ceil((high - result.threshold) / width))
    edges = result.threshold + width * np.arange(min(first, -1), max(last, 1) + 1)
    _, _, bars = axes.hist(k.numpy(), bins=edges, color=colours().first)
    for bar in bars:
        if bar.get_x() > result.threshold - width / 2:
            bar.set_facecolor(colours().second)
    axes.axvline(result.threshold, color=colours().second, lw=1.2)
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
    style(axes, title=r"$\hat k$ of a datum", x="log p(x), nats")
