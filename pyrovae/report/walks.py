"""Images along ways through the latent space: the manifold, traversals of single dimensions, interpolations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from pyrovae import trees
from pyrovae.errors import PyrovaeError
from pyrovae.latent import BLOCK, Layout, activity, posterior_means, prior_quantiles
from pyrovae.report.canvas import WIDTH, Figure
from pyrovae.report.grids import as_images, centres, drawn, gap_of, stacked, tiled
from pyrovae.report.pictures import INCHES, mean_of
from pyrovae.sampling import ancestral
from pyrovae.trees import Tree

TAIL = 0.01  # probability of the prior beyond each end of a traversal
SHOWN = 10  # dimensions of a traversal, where none are named


def manifold(program: Any, *given: Tree, size: int = 20, extent: float | None = None, like: Tree = None) -> Figure:
    """E[x | z] over the plane of a two-dimensional latent, z_1 to the right and z_2 upwards.

    Args:
        program: a program of images with two latent dimensions.
        given: conditioning variables with one row.
        size: images per side.
        extent: z on an even grid over [-extent, extent]^2; by default on the quantiles (i + 1/2) / size of the prior,
            so that each image stands for as much prior probability as any other (where the prior factorises).
        like: as for ``samples``.

    Raises:
        PyrovaeError: another number of latent dimensions; given with several rows; as for ``samples``.
    """
    if size < 2 or (extent is not None and not extent > 0):
        raise PyrovaeError(f"a manifold needs size >= 2 and extent > 0; got {size} and {extent}")
    levels = (torch.arange(size) + 0.5) / size
    layout, ticks = prior_quantiles(program, levels, *_one_row(given), like=like)
    if ticks.shape[1] != 2:
        raise PyrovaeError(
            f"a manifold is drawn of two latent dimensions; this program has {ticks.shape[1]}: train one with "
            "latent=2, or use report.traversals"
        )
    if extent is not None:
        ticks = torch.linspace(-extent, extent, size)[:, None].expand(size, 2)
    right, up = torch.meshgrid(ticks[:, 0], ticks[:, 1].flip(0), indexing="xy")
    z = torch.stack([right.reshape(-1), up.reshape(-1)], 1)
    shown = _decoded(program, layout, z, *given, like=like)
    gap = gap_of(shown)
    columns = _marks(ticks[:, 0], centres(size, shown.shape[2], gap))
    rows = _marks(ticks[:, 1], centres(size, shown.shape[1], gap)[::-1])
    return drawn(tiled(shown, size), width=WIDTH, rows=rows, below=columns, axes_names=layout.names)


def traversals(program: Any, x: Tree, *given: Tree, dims: Sequence[int] | None = None, steps: int = 9) -> Figure:
    """E[x | z] as one latent dimension goes through its prior and the others stay at E[z | x_1]; the most active first.

    A row per dimension, with its activity Var = Var_x(E[z_d | x]); z_d runs evenly from the 1 % quantile of the prior
    to the 99 % quantile.

    Args:
        program: a program of images.
        x, given: at least two data; the first is where the way starts, all of them measure activity.
        dims: which dimensions, counted from 0; by default the ten most active.
        steps: images per row.

    Raises:
        PyrovaeError: a single datum; a dimension that is not there; as for ``samples``.
    """
    measured = activity(program, x, *given)
    start, condition = trees.rows(x, slice(0, 1)), trees.rows(given, slice(0, 1))
    layout, z = posterior_means(program, start, *condition)
    chosen = _chosen(measured.variance, dims)
    ends = torch.tensor([TAIL, 1 - TAIL])
    low, high = prior_quantiles(program, ends, *condition, like=start)[1]
    way = torch.linspace(0, 1, steps)[:, None]
    points = z.repeat(len(chosen), steps, 1)  # (rows, steps, D)
    for row, dim in enumerate(chosen):
        points[row, :, dim] = (low[dim] + way[:, 0] * (high[dim] - low[dim])).to(points)
    shown = _decoded(program, layout, points.flatten(0, 1), *condition, like=start)
    gap = gap_of(shown)
    names = [f"{layout.names[d]}, Var {measured.variance[d]:.2f}" for d in chosen]
    rows = list(zip(centres(len(chosen), shown.shape[1], gap), names, strict=True))
    across = centres(steps, shown.shape[2], gap)
    columns = [(across[0], f"{100 * TAIL:.0f} %"), (across[-1], f"{100 - 100 * TAIL:.0f} %")]
    return drawn(tiled(shown, steps), width=1.0 + INCHES * steps, rows=rows, columns=columns)


def interpolation(program: Any, x_a: Tree, x_b: Tree, *given: Tree, steps: int = 8) -> Figure:
    """From one datum to another: E[x | z] on the straight line between E[z | x_a] and E[z | x_b], between the two.

    Args:
        program: a program of images.
        x_a, x_b: (N, C, H, W); a row of the figure for each pair.
        given: conditioning variables of the pairs, N rows.
        steps: images on the line, its ends included.

    Raises:
        PyrovaeError: x_a and x_b differ in number; as for ``samples``.
    """
    if trees.num_data(x_a) != trees.num_data(x_b):
        raise PyrovaeError(
            f"interpolation goes between pairs; got {trees.num_data(x_a)} and {trees.num_data(x_b)} data"
        )
    if steps < 2:
        raise PyrovaeError(f"an interpolation has at least its two ends; got steps={steps}")
    layout, a = posterior_means(program, x_a, *given)
    _, b = posterior_means(program, x_b, *given)
    way = torch.linspace(0, 1, steps)[:, None]
    z = torch.stack([torch.lerp(start, end, way) for start, end in zip(a, b, strict=True)])  # (N, steps, D)
    conditions = trees.tree_map(lambda leaf: leaf.repeat_interleave(steps, 0), trees.as_tensors(given))
    line = tiled(_decoded(program, layout, z.flatten(0, 1), *conditions, like=x_a), steps)
    first, last = (tiled(as_images(trees.as_tensors(x)), 1) for x in (x_a, x_b))
    space = first.shape[1] // 3
    grid = stacked([first, line, last], [space, space], axis=1)
    middles = [first.shape[1] / 2, grid.shape[1] / 2, grid.shape[1] - last.shape[1] / 2]
    columns = list(zip(middles, ["$x_a$", "E[x | z]", "$x_b$"], strict=True))
    return drawn(grid, width=INCHES * (steps + 3), columns=columns)


def _decoded(program: Any, layout: Layout, z: Tensor, *given: Tree, like: Tree = None) -> np.ndarray:
    """The images at z (M, D), given with M rows, or one that serves for all."""
    count = len(z)
    conditions = [trees.repeat(g, count) if trees.num_data(g) == 1 else g for g in trees.as_tensors(given)]
    parts = []
    for start in range(0, count, BLOCK):
        block = slice(start, min(start + BLOCK, count))
        at, under = layout.unflat(z[block]), trees.rows(conditions, block)
        _, sites = ancestral(program, len(z[block]), *under, like=like, at=at)
        parts.append(mean_of(sites))
    return as_images(torch.cat(parts))


def _marks(z: Tensor, pixels: Sequence[float]) -> list[tuple[float, str]]:
    """Where round values of z stand between the images at the values ``z``, and how they read."""
    low, high = z[0].item(), z[-1].item()
    round_values = [v for v in MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, high) if low - 1e-6 <= v <= high + 1e-6]
    places = np.interp(round_values, z.numpy(), pixels)
    return [(float(place), f"{value:g}".replace("-", "−")) for place, value in zip(places, round_values, strict=True)]


def _one_row(given: Sequence[Tree]) -> Sequence[Tree]:
    if given and trees.num_data(*given) != 1:
        raise PyrovaeError(f"one manifold has one condition: pass given with one row, not {trees.num_data(*given)}")
    return trees.as_tensors(tuple(given))


def _chosen(variance: Tensor, dims: Sequence[int] | None) -> list[int]:
    """Dimensions, the most active first."""
    order: list[int] = variance.argsort(descending=True, stable=True).tolist()
    if dims is None:
        return order[:SHOWN]
    if absent := [d for d in dims if d not in order]:
        raise PyrovaeError(f"dims {absent} are not among the latent dimensions 0 .. {len(order) - 1}")
    return [d for d in order if d in dims]
