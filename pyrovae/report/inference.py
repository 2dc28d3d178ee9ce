"""How good a guide is, datum by datum: its gaps to log p(x), and its draws against those of NUTS."""

from __future__ import annotations

import numpy as np

from pyrovae.checks import Chains, InferenceGaps
from pyrovae.errors import PyrovaeError
from pyrovae.report.canvas import WIDTH, Figure, few_ticks, legend, panels, style
from pyrovae.report.theme import colours


def gaps(result: InferenceGaps) -> Figure:
    """How the gaps of ``pyrovae.inference_gaps`` are spread over the data: quartiles, 5 to 95 % as whiskers, means."""
    found = {
        "amortization": result.amortization,
        "approximation": result.approximation,
        "left by a flow": result.beyond_flow,
        "total": result.total,
    }
    values = {name: gap.value for name, gap in found.items() if gap is not None}
    figure, ((axes,),) = panels(1, 1, height=0.45 * WIDTH)
    palette = colours()
    boxes = axes.boxplot(
        [value[value.isfinite()].numpy() for value in values.values()], whis=(5, 95), showfliers=False, showmeans=True,
        patch_artist=True, widths=0.5, medianprops={"color": palette.ink},
        meanprops={"marker": "o", "ms": 4, "mfc": palette.second, "mec": palette.second},
    )  # fmt: skip
    for box in boxes["boxes"]:
        box.set(facecolor=palette.first, edgecolor=palette.quiet)
    axes.set_xticks(range(1, len(values) + 1), list(values))
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    style(axes, title=f"gaps to log p(x) of {result.num_data:,} data", y="nats")
    return figure


def posterior(result: Chains, datum: int = 0) -> Figure:
    """The guide's mean and two sds of each latent number of a datum, in the units of NUTS: mean 0, two sds the band.

    The draws resampled by importance weight stand beside them.

    Args:
        result: what ``pyrovae.nuts`` gave.
        datum: which of its data.

    Raises:
        PyrovaeError: no such datum.
    """
    if not 0 <= datum < result.num_data:
        raise PyrovaeError(f"there is no datum {datum}: the chains are of {result.num_data} data, counted from 0")
    f = {name: value[datum].numpy() for name, value in result.figures.items()}
    figure, ((axes,),) = panels(1, 1, height=0.45 * WIDTH)
    palette, where = colours(), np.arange(len(result.names))
    axes.axhspan(-2, 2, color=palette.faint, lw=0, label="NUTS")
    for shift, kind, label, colour in (
        (-0.15, "guide", "guide", palette.first),
        (0.15, "resampled", "guide, resampled", palette.second),
    ):
        centre, width = (f[f"{kind}_mean"] - f["mean"]) / f["sd"], 2 * f[f"{kind}_sd"] / f["sd"]
        axes.errorbar(where + shift, centre, width, fmt="o", ms=3, lw=1, color=colour, label=label)
    few_ticks(axes)
    if len(where) <= 12:
        axes.set_xticks(where, result.names)
    style(axes, title=f"datum {datum}: mean and two sds", y="sds of NUTS from its mean")
    legend(axes, ncols=3)
    return figure
