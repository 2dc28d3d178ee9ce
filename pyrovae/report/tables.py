"""Tables: columns of samples against columns of data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from pyrovae import trees
from pyrovae.errors import PyrovaeError
from pyrovae.report.canvas import SMALL, Figure, few_ticks, panels, style
from pyrovae.report.theme import colours
from pyrovae.sampling import sample
from pyrovae.trees import Tree

ACROSS = 4  # panels in a row
MOST = 60  # columns: more fit on no page
BINS = 30
FEW = 12  # different values up to which each has its own bars


def marginals(
    program: Any, x: Tree, *given: Tree, columns: Sequence[str] = (), restore: Callable[[Tensor], Tensor] | None = None
) -> Figure:
    """Each column of the data beside as many samples x ~ p(x | given), from torch's global generator.

    Args:
        program: a program of tables: x (N, D), or a tree of columns (N,) and tables (N, D).
        x, given: data; nan (missing) is left out.
        columns: names of the columns; by default their place in x.
        restore: from the program's units to those to be shown, of data and samples alike: ``Data.restore``.

    Raises:
        PyrovaeError: more than 60 columns, or images; names that are not one per column.
    """
    rows = trees.as_tensors(x)
    drawn = sample(program, trees.num_data(rows), *given, like=rows)
    parts = trees.named("x", rows)
    data, samples = (_columns(p, restore) for p in (parts, {name: _paired(rows, drawn)[name] for name in parts}))
    if columns and len(columns) != len(data):
        raise PyrovaeError(f"{len(columns)} names for {len(data)} columns: give one each, or none")
    if len(data) > MOST or len(samples) != len(data):
        raise PyrovaeError(f"marginals are drawn of at most {MOST} columns of a table; got {len(data)}")
    down = math.ceil(len(data) / ACROSS)
    across = math.ceil(len(data) / down)
    figure, grid = panels(down, across, height=1.25 * down + 0.35)
    names = columns or list(data)
    for axes, name, seen, made in zip(grid.flat, names, data.values(), samples.values(), strict=False):
        _pair(axes, seen[np.isfinite(seen)], made[np.isfinite(made)])
        style(axes, title=str(name))
    for axes in grid.flat[len(data) :]:
        axes.set_visible(False)
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2, fontsize=SMALL, frameon=False,
                  labelcolor=colours().ink)  # fmt: skip
    return figure


def _paired(rows: Tree, drawn: Any) -> Tree:
    """Samples by the names of the data: the sites' own where they agree, else one after the other."""
    names, values = list(trees.named("x", rows)), drawn if isinstance(drawn, Mapping) else {"x": drawn}
    if len(values) != len(names):
        raise PyrovaeError(f"the data have {len(names)} parts and the program draws {len(values)}: {list(values)}")
    return values if set(values) == set(names) else dict(zip(names, values.values(), strict=True))


def _columns(parts: Mapping[str, Any], restore: Callable[[Tensor], Tensor] | None) -> dict[str, np.ndarray]:
    """Single columns (N,) by name, in the units to be shown."""
    found: dict[str, np.ndarray] = {}
    for path, leaf in parts.items():
        name = path.removeprefix("x.")
        if not isinstance(leaf, Tensor) or leaf.dim() > 2:
            raise PyrovaeError("marginals are of tables, (N,) or (N, D) columns; for images there is report.samples")
        own = leaf.detach().cpu().double()
        values = (own if restore is None else restore(own)).numpy()
        single = leaf.dim() == 1
        found |= {name: values} if single else {f"{name} {i + 1}": values[:, i] for i in range(leaf.shape[1])}
    return found


def _pair(axes: Axes, seen: np.ndarray, made: np.ndarray) -> None:
    """Shares of the data as filled bars, shares of the samples as a line over them."""
    palette = colours()
    edges = _edges(seen)
    share = {"data": np.full(len(seen), 1 / max(len(seen), 1)), "samples": np.full(len(made), 1 / max(len(made), 1))}
    axes.hist(seen, bins=edges, weights=share["data"], color=palette.first, alpha=0.45, label="data")
    axes.hist(
        made, bins=edges, weights=share["samples"], histtype="step", lw=1.2, color=palette.second, label="samples"
    )
    few_ticks(axes, x=3)
    axes.set_yticks([])


def _edges(seen: np.ndarray) -> list[float]:
    """Bins around each value where there are few; else even ones over the middle 99 % of the data."""
    values = np.unique(seen)
    if 1 < len(values) <= FEW:
        middles = (values[1:] + values[:-1]) / 2
        return [2 * values[0] - middles[0], *middles, 2 * values[-1] - middles[-1]]
    low, high = np.quantile(seen, [0.005, 0.995]) if len(seen) else (0.0, 1.0)
    return list(np.linspace(low, high if high > low else low + 1, BINS + 1))
