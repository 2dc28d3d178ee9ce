"""Images side by side as one picture, with names for its rows and columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.textpath import TextPath
from torch import Tensor

from pyrovae.errors import PyrovaeError
from pyrovae.report.canvas import SMALL, WIDTH, Figure, blank
from pyrovae.report.theme import colours

TALLEST = 8.0  # inches: what leaves room for a caption on a page
MARGIN = 0.06  # inches around names
LINE = 0.2  # inches for a line of names


def as_images(x: Any) -> np.ndarray:
    """(N, H, W, 3) in [0, 1] from (N, C, H, W) or (N, H, W), grey or coloured.

    Raises:
        PyrovaeError: x is nothing of the kind, or holds values that are no numbers.
    """
    if isinstance(x, Tensor) and x.dim() == 3:
        x = x.unsqueeze(1)
    if not isinstance(x, Tensor) or x.dim() != 4 or x.shape[1] not in (1, 3) or not len(x):
        found = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise PyrovaeError(f"a figure of images needs (N, C, H, W) with one channel or three, N > 0; got {found}")
    if x.isnan().any():
        raise PyrovaeError(
            "a figure of images needs numbers and found nan: fill in missing pixels first; a likelihood without a mean "
            "(a categorical one) has none to show, so draw with pyrovae.sample and scale to [0, 1] for report.images"
        )
    shown = x.detach().cpu().float().clamp(0, 1).permute(0, 2, 3, 1).numpy()
    return np.repeat(shown, 3, axis=-1) if shown.shape[-1] == 1 else shown


def gap_of(images: np.ndarray) -> int:
    """Pixels between images of this size."""
    return max(1, images.shape[2] // 14)


def tiled(images: np.ndarray, columns: int) -> np.ndarray:
    """Images (N, H, W, 3) side by side, row by row, in the theme's gap colour; the rest of the last row is surface."""
    count, height, width, _ = images.shape
    rows, gap = math.ceil(count / columns), gap_of(images)
    grid = np.empty((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), images.dtype)
    grid[:] = to_rgb(colours().gap)
    for number in range(rows * columns):
        top, left = gap + number // columns * (height + gap), gap + number % columns * (width + gap)
        if number < count:
            grid[top : top + height, left : left + width] = images[number]
        else:
            grid[top : top + height + gap, left : left + width + gap] = to_rgb(colours().surface)
    return grid


def stacked(parts: Sequence[np.ndarray], between: Sequence[int], axis: int) -> np.ndarray:
    """Pictures one below the other (axis 0) or side by side (1), so many pixels of surface before all but the first."""
    pieces = [parts[0]]
    for part, size in zip(parts[1:], between, strict=True):
        shape = [size if a == axis else part.shape[a] for a in range(3)]
        pieces += [np.broadcast_to(np.asarray(to_rgb(colours().surface), part.dtype), shape), part]
    return np.concatenate(pieces, axis)


def drawn(
    grid: np.ndarray,
    *,
    width: float,
    rows: Sequence[tuple[float, str]] = (),
    columns: Sequence[tuple[float, str]] = (),
    below: Sequence[tuple[float, str]] = (),
    axes_names: Sequence[str] = (),
) -> Figure:
    """A figure of one picture, at most ``width`` inches wide with its names, which stand left of it, above and below.

    Args:
        grid: (H, W, 3).
        rows, columns, below: the pixel at which a name stands, and the name.
        axes_names: of the horizontal and the vertical axis, outside those.
    """
    left = (2 * MARGIN + max(_inches(name) for _, name in rows) if rows else 0.0) + (LINE if axes_names else 0.0)
    above, under = (LINE if columns else 0.0), LINE * (bool(below) + bool(axes_names))
    wide = min(width, WIDTH) - left
    tall = wide * grid.shape[0] / grid.shape[1]
    if tall > TALLEST:
        wide, tall = wide * TALLEST / tall, TALLEST
    size = left + wide, above + tall + under
    figure = blank(*size)
    axes = figure.add_axes((left / size[0], under / size[1], wide / size[0], tall / size[1]))
    axes.imshow(grid, vmin=0, vmax=1, interpolation="auto")
    axes.spines[:].set_visible(False)
    _name(axes, rows, columns, below)
    if axes_names:
        axes.set_xlabel(axes_names[0], fontsize=SMALL + 1, color=colours().ink, labelpad=1)
        axes.set_ylabel(axes_names[1], fontsize=SMALL + 1, color=colours().ink, labelpad=1)
    return figure


def _inches(name: str) -> float:
    """How wide a name is."""
    return float(TextPath((0, 0), name, size=SMALL + 1).get_extents().width) / 72


def _name(axes: Axes, rows: Any, columns: Any, below: Any) -> None:
    axes.set_yticks([y for y, _ in rows], [name for _, name in rows])
    axes.set_xticks([x for x, _ in below], [name for _, name in below])
    axes.tick_params(length=0, pad=3, labelsize=SMALL + 1, labelcolor=colours().ink)
    for x, name in columns:
        axes.annotate(name, (x, 0), (0, 3), xycoords="data", textcoords="offset points", ha="center",
                      va="bottom", color=colours().ink, fontsize=SMALL + 1, annotation_clip=False)  # fmt: skip


def centres(count: int, size: int, gap: int, start: float = 0) -> list[float]:
    """The middles of ``count`` images of ``size`` pixels in a row of a ``tiled`` picture."""
    return [start + gap + number * (size + gap) + size / 2 - 0.5 for number in range(count)]
