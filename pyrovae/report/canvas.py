"""What all figures share: their size, the style of their axes, and how a notebook shows them."""

from __future__ import annotations

import io
import math
from typing import Any

import matplotlib.figure
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_rgb
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

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
    return _written(figure, format="png", dpi=dpi)


def webp(figure: matplotlib.figure.Figure, *, dpi: int = SHARP) -> bytes:
    """The figure as WebP with a little loss: a fraction of the PNG's size where images are noisy or colourful."""
    return _written(figure, format="webp", dpi=dpi, pil_kwargs={"quality": 85, "method": 6})


def _written(figure: matplotlib.figure.Figure, **options: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, **options)
    return buffer.getvalue()


def blank(width: float, height: float, **options: Any) -> Figure:
    """An empty figure of so many inches on the theme's surface."""
    return Figure(figsize=(width, height), facecolor=colours().surface, **options)


def panels(rows: int, columns: int, *, height: float, width: float = WIDTH) -> tuple[Figure, np.ndarray]:
    """A figure and its axes (rows, columns), laid out so that nothing overlaps."""
    figure = spaced(width, height)
    return figure, figure.subplots(rows, columns, squeeze=False)


def spaced(width: float, height: float) -> Figure:
    """An empty figure whose axes keep a little distance from each other and from the edge."""
    return blank(width, height, layout=ConstrainedLayoutEngine(w_pad=0.07, h_pad=0.07, wspace=0.04, hspace=0.04))


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
    steps = [1, 2, 2.5, 5, 10]
    axes.xaxis.set_major_locator(MaxNLocator(x, steps=steps))
    axes.yaxis.set_major_locator(MaxNLocator(y, steps=steps))


def logarithmic(axis: Axis) -> None:
    """A logarithmic axis, to be made so when it is full, with few labels, which do not overprint."""
    scale = axis.axes.set_xscale if axis is axis.axes.xaxis else axis.axes.set_yscale
    scale("log")
    low, high = axis.get_view_interval()
    decades = math.log10(high / low)
    if decades < 1.3:  # too few powers of ten: numbers between, as 0.2
        few = MaxNLocator(3, steps=[1, 2, 5, 10]) if decades < 0.5 else LogLocator(subs=(1, 2, 5))
        axis.set_major_locator(few)
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def num_bins(size: int) -> int:
    """Of a histogram of so many data: few hold something each, many show their shape."""
    return round(min(40, max(5, 2 * math.sqrt(size))))


def histogram(axes: Axes, values: np.ndarray, colour: str) -> None:
    """Bars of as many bins as so many values want; values that rounding alone tells apart share the middle one."""
    low, high = (values.min(), values.max()) if len(values) else (0.0, 0.0)
    same = high - low <= 1e-9 * max(abs(low), abs(high))
    bounds, count = ((low - 0.5, high + 0.5), 9) if same else ((low, high), num_bins(len(values)))
    axes.hist(values, bins=count, range=bounds, color=colour)


def minus(text: str) -> str:
    """The text with a true minus sign, as on the axes."""
    return text.replace("-", "−")


def mixed(colour: str, share: float) -> tuple[float, ...]:
    """So much of a colour on the theme's surface."""
    surface, full = to_rgb(colours().surface), to_rgb(colour)
    return tuple(share * f + (1 - share) * s for f, s in zip(full, surface, strict=True))


def halo() -> list[Any]:
    """An outline that sets text off from what lies under it."""
    return [patheffects.withStroke(linewidth=2.5, foreground=colours().surface)]


def legend(axes: Axes, **options: Any) -> None:
    """A legend without a frame, in the theme's ink."""
    axes.legend(fontsize=SMALL, frameon=False, labelcolor=colours().ink, **options)


def note(axes: Axes, x: float, y: float, text: str, **options: Any) -> None:
    """Small text inside the axes, at data coordinates unless a transform says otherwise."""
    axes.text(x, y, text, **{"fontsize": SMALL, "color": colours().quiet, **options})
