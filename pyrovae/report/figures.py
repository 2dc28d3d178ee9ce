"""Figures at paper size: each function takes what it shows and returns a matplotlib ``Figure``.

Nothing here touches pyplot or its global state; ``figure.savefig("samples.png", dpi=200)`` writes one, and a notebook
shows one that a cell ends with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from pyrovae import trees
from pyrovae.errors import PyrovaeError
from pyrovae.evidence import Evidence
from pyrovae.sampling import generated, reconstruct
from pyrovae.training import Run
from pyrovae.trees import Tree

WIDTH = 5.5  # inches: the text width of a paper
SMALL = 8  # points: tick labels and legends; axis labels are one larger
BLUE, ORANGE, GREEN = "#2b6ca3", "#d9722e", "#3d8c5a"
LABELS = 0.65  # inches for the names of rows


def samples(program: Any, num_samples: int = 64, *given: Tree, columns: int | None = None) -> Figure:
    """Images from the prior: the mean of p(x | z, given) at z ~ p(z | given), from torch's global generator.

    Args:
        program: a program whose model draws images where x is None, as ``pyrovae.VAE``.
        num_samples: how many.
        given: conditioning variables with ``num_samples`` rows.
        columns: images per row; by default about as many as rows.

    Raises:
        PyrovaeError: the program's data are not images (C, H, W) of one or three channels.
    """
    drawn = list(generated(program, num_samples, *given).values())
    if len(drawn) != 1:
        raise PyrovaeError("a figure of samples needs a program whose model returns its one image site")
    return images(drawn[0]["fn"].mean, columns=columns)


def reconstructions(program: Any, x: Tree, *given: Tree, columns: int = 10) -> Figure:
    """Data above the mean of p(x | z, given) at the guide's mean of z, in pairs of rows.

    Args:
        program: a program of images.
        x, given: a few data, (N, C, H, W).
        columns: pairs per row.

    Raises:
        PyrovaeError: as for ``samples``.
    """
    shown, means = _images(trees.as_tensors(x)), _images(reconstruct(program, x, *given).mean)
    columns = min(columns, len(shown))
    starts = range(0, len(shown), columns)
    strips = [_grid(part[i : i + columns], columns) for i in starts for part in (shown, means)]
    height, width = strips[0].shape[:2]
    between = np.ones((height // 5, width, shown.shape[-1]), shown.dtype)  # sets one pair of rows off from the next
    rows = [piece for n, strip in enumerate(strips) for piece in ((between, strip) if n and n % 2 == 0 else (strip,))]
    grid = np.concatenate(rows)
    inches = min(WIDTH, 0.7 * columns)
    figure = Figure(figsize=(LABELS + inches, inches * grid.shape[0] / width))
    axes = figure.add_axes((LABELS / (LABELS + inches), 0, inches / (LABELS + inches), 1))
    _show(axes, grid)
    centres = [height * (n + 0.5) + n // 2 * len(between) for n in range(len(strips))]
    axes.set_yticks(centres, ["x", "E[x | z]"] * len(starts), fontsize=SMALL + 1)
    axes.tick_params(length=0)
    return figure


def images(x: Tensor, *, columns: int | None = None) -> Figure:
    """A grid of images, grey or coloured.

    Args:
        x: (N, C, H, W) or (N, H, W) in [0, 1], with one channel or three; values outside are clipped.
        columns: images per row; by default about as many as rows.
    """
    shown = _images(x)
    columns = columns or math.ceil(math.sqrt(len(shown)))
    grid = _grid(shown, columns)
    width = min(WIDTH, 0.45 * columns)
    figure = Figure(figsize=(width, width * grid.shape[0] / grid.shape[1]))
    _show(figure.add_axes((0, 0, 1, 1)), grid)
    return figure


def learning_curve(run: Run | Sequence[dict[str, Any]]) -> Figure:
    """The objective on training and validation data over the epochs; beside it E[log p(x | z)] and the KL.

    Args:
        run: a ``Run``, or its history (the lines of ``history.jsonl``).

    Raises:
        PyrovaeError: there is no epoch to show.
    """
    history = run.history if isinstance(run, Run) else list(run)
    if not history:
        raise PyrovaeError("the history is empty: there is no epoch to show")
    figure = Figure(figsize=(WIDTH * 1.25, WIDTH * 0.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes in (left, right):
        _warmup(axes, history)
    epochs = [record["epoch"] for record in history]
    _objective(left, epochs, history)
    _parts(right, epochs, history)
    return figure


def evidence(result: Evidence) -> Figure:
    """How log p(x) and k-hat are spread over the data, with the k-hat threshold above which no estimate is trusted."""
    figure = Figure(figsize=(WIDTH * 1.25, WIDTH * 0.42), layout="constrained")
    left, right = figure.subplots(1, 2)
    _histogram(left, result.log_prob, "log p(x) of a datum [nats]")
    left.axvline(result.mean, color=ORANGE, lw=1.2)
    _histogram(right, result.pareto_k, r"Pareto $\hat k$ of a datum")
    right.axvline(result.threshold, color=ORANGE, lw=1.2)
    left.set_title(f"mean {result.mean:.2f}, {result.num_particles:,} particles", fontsize=SMALL + 1)
    share = f"{100 * result.share_unreliable:.1f} % of {result.num_data:,} data"
    right.set_title(f"{share} above {result.threshold:.2f}", fontsize=SMALL + 1)
    return figure


def _objective(axes: Axes, epochs: list[int], history: Sequence[dict[str, Any]]) -> None:
    axes.plot(epochs, [record["objective"] for record in history], **_line(BLUE, epochs), label="training")
    validation = [record["validation"] for record in history if "validation" in record]
    if len(validation) == len(epochs):
        axes.plot(epochs, validation, **_line(ORANGE, epochs), label="validation")
        best = max(range(len(epochs)), key=lambda i: validation[i] if math.isfinite(validation[i]) else -math.inf)
        label = f"best: {validation[best]:.2f}, epoch {epochs[best]}"
        axes.plot(epochs[best], validation[best], "o", ms=4, color=ORANGE, label=label)
        _focus(axes, [*validation, *(record["objective"] for record in history)], validation)
    _style(axes, "objective [nats per datum]", epochs)


def _parts(axes: Axes, epochs: list[int], history: Sequence[dict[str, Any]]) -> None:
    """Two quantities of one unit and different size: an axis each, in the colour of its curve."""
    other = axes.twinx()
    (first,) = axes.plot(epochs, [record["log_px_z"] for record in history], **_line(BLUE, epochs))
    (second,) = other.plot(epochs, [record["kl"] for record in history], **_line(GREEN, epochs))
    values = [record["log_px_z"] for record in history]
    _focus(axes, values, values)
    _style(axes, "log p(x | z) [nats per datum]", epochs)
    _style(other, "KL to the prior [nats per datum]", epochs)
    other.spines["right"].set_visible(True)
    other.grid(visible=False)
    for side, curve in ((axes, first), (other, second)):
        side.yaxis.label.set_color(curve.get_color())
        side.tick_params(axis="y", colors=curve.get_color())


def _warmup(axes: Axes, history: Sequence[dict[str, Any]]) -> None:
    """Shades the epochs in which a schedule of beta was under way, and the objective was another one."""
    under_way = [record["epoch"] for record in history if record.get("beta") != history[-1].get("beta")]
    if under_way:
        axes.axvspan(0, max(under_way), color="#ebebeb", zorder=0, label=r"schedule of $\beta$")


def _line(color: str, epochs: list[int]) -> dict[str, Any]:
    """A curve; points too where there are so few that a curve alone would hardly show."""
    return {"color": color, "lw": 1.0, "marker": "." if len(epochs) < 10 else None}


def _focus(axes: Axes, values: Sequence[float], of_interest: Sequence[float]) -> None:
    """Cut the first epochs' plunge off below, where it would flatten all that follows."""
    finite = np.asarray([v for v in values if math.isfinite(v)])
    later = np.asarray([v for v in of_interest[len(of_interest) // 10 :] if math.isfinite(v)])
    if len(finite) and len(later):
        span = max(finite.max() - later.min(), 0.1)
        low = max(finite.min(), later.min() - 0.3 * span)
        axes.set_ylim(low - 0.05 * span, finite.max() + 0.08 * span)


def _style(axes: Axes, label: str, epochs: list[int]) -> None:
    axes.set_xlabel("epoch", fontsize=SMALL + 1)
    axes.set_ylabel(label, fontsize=SMALL + 1)
    axes.set_xlim(0, epochs[-1] * 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, steps=[1, 2, 5, 10]))
    _clean(axes)
    if len(axes.get_legend_handles_labels()[1]) > 1:
        axes.legend(fontsize=SMALL, frameon=False, loc="lower right")


def _histogram(axes: Axes, values: Tensor, label: str) -> None:
    axes.hist(values[values.isfinite()].numpy(), bins=40, color=BLUE, alpha=0.85)
    axes.set_xlabel(label, fontsize=SMALL + 1)
    axes.set_ylabel("data", fontsize=SMALL + 1)
    _clean(axes)


def _clean(axes: Axes) -> None:
    axes.tick_params(labelsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#dddddd", lw=0.5)
    axes.set_axisbelow(True)


def _images(x: Any) -> np.ndarray:
    """(N, H, W, C) in [0, 1] from (N, C, H, W) or (N, H, W)."""
    if isinstance(x, Tensor) and x.dim() == 3:
        x = x.unsqueeze(1)
    if not isinstance(x, Tensor) or x.dim() != 4 or x.shape[1] not in (1, 3) or not len(x):
        found = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise PyrovaeError(f"a figure of images needs (N, C, H, W) with one channel or three, N > 0; got {found}")
    return x.detach().cpu().float().clamp(0, 1).permute(0, 2, 3, 1).numpy()


def _grid(x: np.ndarray, columns: int) -> np.ndarray:
    """Images (N, H, W, C) side by side, white between them and where the last row ends."""
    count, height, width, channels = x.shape
    rows, gap = math.ceil(count / columns), max(1, width // 14)
    grid = np.ones((rows * (height + gap) + gap, columns * (width + gap) + gap, channels), x.dtype)
    for number, image in enumerate(x):
        top, left = gap + number // columns * (height + gap), gap + number % columns * (width + gap)
        grid[top : top + height, left : left + width] = image
    return grid


def _show(axes: Axes, grid: np.ndarray) -> None:
    axes.imshow(grid.squeeze(-1) if grid.shape[-1] == 1 else grid, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
