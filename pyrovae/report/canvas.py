"""What all figures share: their size, the style of their axes, and how a notebook shows them."""

from __future__ import annotations

import io
from typing import Any

import matplotlib.figure
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from pyrovae.report.theme import colours

WIDTH = 5.5  # inches: the text width of a paper
SMALL = 8  # points: tick labels and legends; axis labels are one larger
SHARP = 200  # pixels per inch of a PNG


class Figure(matplotlib.figure.Figure):
    """matplotlib's ``Figure``, which a notebook shows sharp and without pyplot."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        inches = self.get_size_inches()
        return png(self), {"width": round(100 * inches[0]), "height": round(100 * inches[1])}


def png(figure: matplotlib.figure.Figure, *, dpi: int = SHARP) -> bytes:
    """The figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def blank(width: float, height: float, **options: Any) -> Figure:
    """An empty figure of so many inches on the theme's surface."""
    return Figure(figsize=(width, height), facecolor=colours().surface, **options)


def panels(rows: int, columns: int, *, height: float, width: float = WIDTH) -> tuple[Figure, np.ndarray]:
    """A figure and its axes (rows, columns), laid out so that nothing overlaps."""
    figure = blank(width, height, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def style(axes: Axes, *, title: str = "", x: str = "", y: str = "") -> None:
    """The look of all axes with a scale; to be called when the axes are full."""
    palette = colours()
    axes.set_facecolor(palette.surface)
    axes.set_title(title, fontsize=SMALL + 1, color=palette.ink, loc="left")
    axes.set_xlabel(x, fontsize=SMALL + 1, color=palette.ink)
    axes.set_ylabel(y, fontsize=SMALL + 1, color=palette.ink)
    axes.tick_params(labelsize=SMALL, color=palette.quiet, labelcolor=palette.quiet, which="both")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(palette.quiet)
    axes.grid(color=palette.faint, lw=0.5)
    axes.set_axisbelow(True)


def few_ticks(axes: Axes, *, x: int = 5, y: int = 5) -> None:
    """At most so many steps between ticks: for small panels with linear scales."""
    axes.xaxis.set_major_locator(MaxNLocator(x))
    axes.yaxis.set_major_locator(MaxNLocator(y))


def legend(axes: Axes, **options: Any) -> None:
    """A legend without a frame, in the theme's ink."""
    axes.legend(fontsize=SMALL, frameon=False, labelcolor=colours().ink, **options)


def note(axes: Axes, x: float, y: float, text: str, **options: Any) -> None:
    """Small text inside the axes, at data coordinates unless a transform says otherwise."""
    axes.text(x, y, text, **{"fontsize": SMALL, "color": colours().quiet, **options})
