"""How training went: the objective and its terms over the epochs, and rate against distortion."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Annotation
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import BboxBase

from pyrovae.errors import PyrovaeError
from pyrovae.report.canvas import (
    SMALL,
    WIDTH,
    Figure,
    few_ticks,
    halo,
    legend,
    minus,
    mixed,
    note,
    panels,
    spaced,
    style,
)
from pyrovae.report.theme import colours
from pyrovae.training import Run

Records = Sequence[Mapping[str, Any]]


def learning_curve(run: Run | Records) -> Figure:
    """The objective on training and validation data over the epochs; below it its terms apart.

    The terms are those of training: E[log p(x | z)], the KL to the prior (and beta times it while a schedule of beta is
    under way, shaded), and the norm of the gradient.

    Args:
        run: a ``Run``, or its history (the lines of ``history.jsonl``).

    Raises:
        PyrovaeError: there is no epoch to show.
    """
    history = run.history if isinstance(run, Run) else list(run)
    if not history:
        raise PyrovaeError("the history is empty: there is no epoch to show")
    figure = spaced(WIDTH, 0.72 * WIDTH)
    layout = figure.subplot_mosaic([["objective"] * 3, ["log_px_z", "kl", "grad_norm"]], height_ratios=[1.5, 1])
    _objective(layout["objective"], history)
    _term(layout["log_px_z"], history, "log_px_z", "E[log p(x | z)], nats", colours().first)
    _kl(layout["kl"], history)
    _term(layout["grad_norm"], history, "grad_norm", "gradient norm", colours().quiet)
    return figure


def rate_distortion(points: Mapping[str, Sequence[tuple[Any, ...]]]) -> Figure:
    """KL to the prior (rate) against -E[log p(x | z)] (distortion), a curve for each name; nats per datum.

    Along a dotted line their sum, the negative ELBO at beta = 1, is constant.

    Args:
        points: by name, tuples (rate, distortion) or (rate, distortion, label of the point); joined by rate.

    Raises:
        PyrovaeError: nothing to draw, or values that are not finite.

    Reference:
        Alemi et al. 2018, "Fixing a broken ELBO".

    Example:
        >>> from pyrovae import report
        >>> figure = report.rate_distortion({"latent 2": [(5.0, 20.0, "beta 1"), (3.0, 23.0, "beta 4")]})
    """
    values = [float(v) for curve in points.values() for point in curve for v in point[:2]]
    if not values or not all(map(math.isfinite, values)):
        raise PyrovaeError("a rate-distortion figure needs points, all of them finite: (rate, distortion) in nats")
    figure, axes = panels(1, 1, height=0.66 * WIDTH)
    (axes,) = axes.flat
    labels = []
    for (name, curve), colour in zip(points.items(), _enough(len(points)), strict=True):
        ordered = sorted(curve, key=lambda point: point[0])
        rate, distortion = [float(p[0]) for p in ordered], [float(p[1]) for p in ordered]
        axes.plot(distortion, rate, marker="o", ms=3.5, lw=1.2, color=colour, label=name)
        for point in ordered:
            if len(point) > 2:
                labels.append(
                    axes.annotate(str(point[2]), (point[1], point[0]), (5, 4), textcoords="offset points",
                                  fontsize=SMALL - 1, color=colours().quiet, path_effects=halo(), zorder=5)
                )  # fmt: skip
    axes.margins(0.08)
    _iso_lines(axes)
    style(axes, x=r"distortion, $-$E[log p(x | z)], nats", y="rate, KL to the prior, nats")
    axes.grid(visible=False)
    legend(axes, loc="upper right")
    _uncrowd(figure, labels)
    return figure


def _uncrowd(figure: Figure, labels: Sequence[Annotation]) -> None:
    """Takes away labels that would lie on an earlier one; their neighbours on the curve tell which points they are."""
    figure.draw_without_rendering()
    taken: list[BboxBase] = []
    for label in labels:
        box = label.get_window_extent()
        if any(box.overlaps(other) for other in taken):
            label.remove()
        else:
            taken.append(box)


def _enough(count: int) -> Sequence[str]:
    """So many colours, in the order of the theme's."""
    palette = colours()
    return (palette.first, palette.second, palette.third)[:count] if count <= 3 else _repeated(palette.classes, count)


def _repeated(cycle: Sequence[str], count: int) -> list[str]:
    return [cycle[number % len(cycle)] for number in range(count)]


def _iso_lines(axes: Axes) -> None:
    """Lines of constant rate + distortion across what the axes show."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    colour = mixed(colours().quiet, 0.5)
    for total in MaxNLocator(8).tick_values(left + low, right + high):
        axes.plot([left, right], [total - left, total - right], ":", lw=0.8, color=colour, zorder=0)
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)


def _objective(axes: Axes, history: Records) -> None:
    palette = colours()
    _warmup(axes, history, label=r"schedule of $\beta$")
    epochs, training = _series(history, "objective")
    axes.plot(epochs, training, **_line(palette.first, epochs), label="training")
    epochs, validation = _series(history, "validation")
    if any(map(math.isfinite, validation)):
        axes.plot(epochs, validation, **_line(palette.second, epochs), label="validation")
        best = max(range(len(epochs)), key=lambda i: validation[i] if math.isfinite(validation[i]) else -math.inf)
        label = minus(f"best: {validation[best]:.2f}, epoch {epochs[best]}")
        axes.plot(epochs[best], validation[best], "o", ms=4.5, color=palette.second, label=label)
    _focus(axes, [*validation, *training], validation or training)
    _epochs(axes, history)
    style(axes, title="objective, nats per datum", x="epoch")
    if len(axes.get_legend_handles_labels()[1]) > 1:
        legend(axes, loc="lower right", ncols=2)


def _term(axes: Axes, history: Records, name: str, title: str, colour: str) -> None:
    _warmup(axes, history)
    epochs, values = _series(history, name)
    axes.plot(epochs, values, **_line(colour, epochs), label=name)
    if name == "log_px_z":
        _focus(axes, values, values)
    few_ticks(axes, y=4)
    _epochs(axes, history, ticks=3)
    style(axes, title=title, x="epoch")


def _kl(axes: Axes, history: Records) -> None:
    epochs, kl = _series(history, "kl")
    _, beta = _series(history, "beta")
    if len(set(beta)) > 1:
        axes.plot(epochs, np.multiply(beta, kl), **_line(colours().third, epochs) | {"ls": "--"}, label="beta kl")
        note(axes, 0.97, 0.06, r"dashed: $\beta$ KL", transform=axes.transAxes, ha="right")
    _term(axes, history, "kl", "KL to the prior, nats", colours().third)


def _series(history: Records, name: str) -> tuple[list[int], list[float]]:
    """The epochs in which a quantity was recorded, and its values."""
    found = [(record["epoch"], record[name]) for record in history if record.get(name) is not None]
    return [epoch for epoch, _ in found], [value for _, value in found]


def _warmup(axes: Axes, history: Records, label: str | None = None) -> None:
    """Shades the epochs in which a schedule of beta was under way, and the objective was another one."""
    under_way = [record["epoch"] for record in history if record.get("beta") != history[-1].get("beta")]
    if under_way:
        axes.axvspan(0, max(under_way), color=colours().faint, alpha=0.6, lw=0, zorder=0, label=label)


def _line(colour: str, epochs: Sequence[int]) -> dict[str, Any]:
    """A curve; points too where there are so few that a curve alone would hardly show."""
    return {"color": colour, "lw": 1.2, "marker": "." if len(epochs) < 10 else None}


def _focus(axes: Axes, values: Sequence[float], of_interest: Sequence[float]) -> None:
    """Cut the first epochs' plunge off below, where it would flatten all that follows."""
    finite = np.asarray([v for v in values if math.isfinite(v)])
    later = np.asarray([v for v in of_interest[len(of_interest) // 10 :] if math.isfinite(v)])
    if len(finite) and len(later):
        span = max(finite.max() - later.min(), 0.1)
        low = max(finite.min(), later.min() - 0.3 * span)
        axes.set_ylim(low - 0.05 * span, finite.max() + 0.08 * span)


def _epochs(axes: Axes, history: Records, ticks: int = 8) -> None:
    axes.set_xlim(0, history[-1]["epoch"] * 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=ticks, integer=True, steps=[1, 2, 5, 10]))
