"""Images that a program draws: samples, reconstructions, and one latent under several conditions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyrovae import trees
from pyrovae.errors import PyrovaeError
from pyrovae.report.canvas import WIDTH, Figure
from pyrovae.report.grids import as_images, centres, drawn, gap_of, stacked, tiled
from pyrovae.sampling import ancestral, generated, reconstruct
from pyrovae.trees import Tree

INCHES = 0.55  # of an image in a grid of few


def images(x: Tensor, *, columns: int | None = None) -> Figure:
    """A grid of images, grey or coloured.

    Args:
        x: (N, C, H, W) or (N, H, W) in [0, 1], with one channel or three; values outside are clipped.
        columns: images per row; by default about as many as rows.

    Raises:
        PyrovaeError: x is no such images.
    """
    shown = as_images(x)
    columns = min(columns or math.ceil(math.sqrt(len(shown))), len(shown))
    return drawn(tiled(shown, columns), width=min(WIDTH, INCHES * columns))


def samples(program: Any, num_samples: int = 64, *given: Tree, columns: int | None = None, like: Tree = None) -> Figure:
    """Images from the prior: the mean of p(x | z, given) at z ~ p(z | given), from torch's global generator.

    Args:
        program: a program of images.
        num_samples: how many.
        given: conditioning variables with ``num_samples`` rows.
        columns: images per row; by default about as many as rows.
        like: data of the right shape, for programs whose model needs an ``x`` to run.

    Raises:
        PyrovaeError: the program's data are not images (C, H, W) of one or three channels; its likelihood has no mean.
    """
    return images(mean_of(generated(program, num_samples, *given, like=like)), columns=columns)


def reconstructions(program: Any, x: Tree, *given: Tree, columns: int = 10) -> Figure:
    """Data above the mean of p(x | z, given) at the guide's mean of z, in pairs of rows.

    Args:
        program: a program of images.
        x, given: a few data, (N, C, H, W).
        columns: pairs per row.

    Raises:
        PyrovaeError: as for ``samples``.
    """
    shown = as_images(trees.as_tensors(x))
    means = as_images(_mean("x", reconstruct(program, x, *given)))
    columns = min(columns, len(shown))
    starts = range(0, len(shown), columns)
    strips = [tiled(part[i : i + columns], columns) for i in starts for part in (shown, means)]
    height, between = strips[0].shape[0], shown.shape[1] // 3
    # Within a pair the strips share the gap between them; one pair is set off from the next.
    pairs = [np.concatenate([strips[n], strips[n + 1][gap_of(shown) :]]) for n in range(0, len(strips), 2)]
    grid = stacked(pairs, [between] * (len(pairs) - 1), axis=0)
    tops = [n * (pairs[0].shape[0] + between) for n in range(len(pairs))]
    second = height - gap_of(shown)
    rows = [(top + shift + height / 2, name) for top in tops for shift, name in ((0, "x"), (second, "E[x | z]"))]
    return drawn(grid, width=0.9 + INCHES * columns, rows=rows)


def conditional_grid(
    program: Any, *given: Tree, rows: int = 6, labels: Sequence[str] = (), like: Tree = None
) -> Figure:
    """One column per condition, the same z in all of a row: what the condition changes, and what it leaves.

    The latents of row r are drawn once, from p(z | given) under condition r mod C (of a prior that ignores the
    condition: from the prior), by torch's global generator; images are means of p(x | z, given).

    Args:
        program: a conditional program of images.
        given: conditioning variables with one row per column, C.
        rows: how many z.
        labels: names of the columns.
        like: as for ``samples``.

    Raises:
        PyrovaeError: nothing given; labels that are not one per condition; as for ``samples``.
    """
    if not given:
        raise PyrovaeError("a conditional grid needs conditions: pass given with one row per column, as torch.eye(10)")
    conditions = trees.as_tensors(given)
    columns = trees.num_data(*conditions)
    if labels and len(labels) != columns:
        raise PyrovaeError(f"{len(labels)} labels for {columns} conditions: give one each, or none")
    drawn_under = trees.rows(conditions, torch.arange(rows) % columns)
    latents, _ = ancestral(program, rows, *drawn_under, like=like)
    same = {name: site["value"].repeat_interleave(columns, 0) for name, site in latents.items()}
    every = (trees.repeat(condition, rows) for condition in conditions)
    shown = as_images(mean_of(ancestral(program, rows * columns, *every, like=like, at=same)[1]))
    names = list(zip(centres(columns, shown.shape[2], gap_of(shown)), labels, strict=False))
    return drawn(tiled(shown, columns), width=min(WIDTH, INCHES * columns), columns=names)


def mean_of(sites: Mapping[str, Any]) -> Tensor:
    """The mean of the one image that a program draws, (N, C, H, W).

    Raises:
        PyrovaeError: it draws several things, or its likelihood has no mean.
    """
    if len(sites) != 1:
        found = f"{len(sites)} ({', '.join(sites)})" if sites else "none"
        raise PyrovaeError(
            f"a figure of images needs a program whose model returns its one image site; found {found}. For tables "
            "there is report.marginals"
        )
    ((name, site),) = sites.items()
    return _mean(name, site["fn"])


def _mean(name: str, distribution: Any) -> Tensor:
    try:
        mean: Tensor = distribution.mean
        return mean
    except (NotImplementedError, AttributeError) as error:
        kind = "several sites" if isinstance(distribution, dict) else type(distribution).__name__
        raise PyrovaeError(
            f"the likelihood of {name!r} ({kind}) has no mean to show as one image: draw with pyrovae.sample, and show "
            "the draws with report.images"
        ) from error
