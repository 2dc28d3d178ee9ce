"""The latent space itself: where the data lie in it, which dimensions are in use, and the density of the prior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyro
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from pyrovae import trees
from pyrovae.errors import PyrovaeError
from pyrovae.latent import BLOCK, Layout, activity, guide_draws, posterior_means, prior_draws
from pyrovae.report.canvas import SMALL, WIDTH, Figure, legend, mixed, note, panels, style
from pyrovae.report.theme import colours
from pyrovae.sampling import ancestral
from pyrovae.trees import Tree

MOST_CLASSES = 20  # beyond which colours and names tell nothing apart
GRID = 160  # points per side at which a density is computed
MASSES = (0.95, 0.8, 0.6, 0.4, 0.2)  # of the prior inside its contours
DRAWS = 2000
NAMED = 20  # bars up to which each has its name below it


def latents(program: Any, x: Tree, *given: Tree, labels: Tensor | Sequence[Any] | None = None) -> Figure:
    """E[z | x] of each datum in the plane, coloured by label; the two first principal components where z has more.

    Args:
        program: any program with continuous latents of two or more dimensions whose guide has means.
        x, given: data.
        labels: one whole number or name per datum; each name stands at the median of its data.

    Raises:
        PyrovaeError: fewer than two dimensions or data; labels that are not one per datum, or of more than 20 kinds.
    """
    layout, means = posterior_means(program, x, *given)
    if means.shape[1] < 2 or len(means) < 3:
        raise PyrovaeError(f"a scatter needs two latent dimensions and three data; got {means.shape[1]}, {len(means)}")
    scores, share = principal(means)
    names = layout.names if means.shape[1] == 2 else tuple(
        f"principal component {i + 1} of E[z | x], {100 * share[i]:.0f} % of its variance" for i in range(2)
    )  # fmt: skip
    kinds = _kinds(labels, len(scores))
    figure, axes = _plane(np.ptp(scores, 0))
    _cloud(axes, scores, kinds)
    style(axes, x=names[0], y=names[1])
    if kinds is not None:
        for number, kind in enumerate(np.unique(kinds)):
            _name(axes, np.median(scores[kinds == kind], 0), str(kind), _class(number))
    return figure


def active_units(program: Any, x: Tree, *given: Tree, threshold: float = 0.01) -> Figure:
    """Var_x(E[z_d | x]) of each latent dimension, the most active first, and its KL to the prior where there is one.

    Args:
        program, x, given: as for ``pyrovae.activity``.
        threshold: of the variance, above which a unit counts as active (Burda, Grosse & Salakhutdinov 2016).

    Raises:
        PyrovaeError: as for ``pyrovae.activity``.
    """
    measured = activity(program, x, *given)
    order = measured.variance.argsort(descending=True, stable=True)
    active = measured.active(threshold)[order]
    rows = 1 if measured.kl is None else 2
    figure, grid = panels(rows, 1, height=(0.36 if rows == 1 else 0.6) * WIDTH)
    palette = colours()
    shades = [palette.first if on else palette.faint for on in active]
    top = grid[0, 0]
    places = np.arange(1, len(order) + 1)
    ticks = (places, [measured.names[d] for d in order]) if len(order) <= NAMED else (places[9::10],)
    top.bar(places, measured.variance[order].clamp(min=1e-12).numpy(), color=shades, edgecolor=palette.quiet, lw=0.3)
    top.axhline(threshold, color=palette.second, lw=1.2)
    top.set_yscale("log")
    top.set_ylim(bottom=min(threshold, max(measured.variance.min().item(), 1e-6)) / 3)
    title = f"{int(active.sum())} of {len(order)} latent dimensions active, above {threshold:g}"
    style(top, title=title, y=r"Var$_x$ E[z | x]")
    if measured.kl is not None:
        grid[1, 0].bar(places, measured.kl[order].numpy(), color=shades, edgecolor=palette.quiet, lw=0.3)
        style(grid[1, 0], y="KL, nats")
    for axes in grid[:, 0]:
        axes.set_xlim(0.3, max(len(order), 8) + 0.7)  # a few bars need not fill a page
        axes.grid(visible=False, axis="x")
        axes.set_xticks(*ticks)
    for axes in grid[:-1, 0]:
        axes.tick_params(labelbottom=False)
    grid[-1, 0].set_xlabel("latent dimension" if len(order) <= NAMED else "latent dimensions, the most active first")
    return figure


def prior_density(prior: Any, x: Tree = None, *given: Tree, like: Tree = None) -> Figure:
    """p(z) of a two-dimensional prior as contours that hold 20 to 95 % of it, with draws z ~ q(z | x) on top.

    The density is exact, on a grid. With more than two dimensions there is no density to draw in a plane: then it is
    draws from p(z) and, where x is given, from q(z | x), on the first two principal components of the latter (of
    the prior's own without x).

    Args:
        prior: a program, or a prior alone (then without x).
        x: data whose draws from the guide, one each, show the aggregate posterior.
        given: conditioning variables with the rows of x, or one row; the prior is drawn under the first.
        like: as for ``samples``, where x is not given.

    Raises:
        PyrovaeError: x with a prior alone; a latent of one dimension; discrete latents.

    Example:
        >>> import pyrovae as pv
        >>> figure = pv.report.prior_density(pv.priors.NormalMixture(2, 5))
    """
    program = prior if hasattr(prior, "model") else _Alone(prior)
    if x is not None and isinstance(program, _Alone):
        raise PyrovaeError("draws from the guide need the whole program: pass it, not its prior alone")
    condition = trees.rows(trees.as_tensors(given), slice(0, 1))
    like = trees.rows(trees.as_tensors(x), slice(0, 1)) if x is not None else like
    layout, draws = prior_draws(program, DRAWS, *condition, like=like)
    if draws.shape[1] < 2:
        raise PyrovaeError("a density in the plane needs two latent dimensions; this prior has one")
    posterior = None if x is None else guide_draws(program, layout, x, *_per_row(x, given))
    names: Sequence[str] = layout.names
    if draws.shape[1] > 2:
        names = [f"principal component {i + 1} of {draws.shape[1]} dimensions" for i in range(2)]
        centre, directions, _ = _components(draws if posterior is None else posterior)
        draws = (draws - centre) @ directions
        posterior = None if posterior is None else (posterior - centre) @ directions
    seen = draws if posterior is None else torch.cat([draws, posterior.to(draws)])
    figure, axes = _plane((seen.max(0).values - seen.min(0).values).numpy())
    title = ""
    if len(layout.names) == 2:
        _contours(axes, program, layout, seen, condition, like)
        title = f"p(z): contours hold {', '.join(f'{100 * m:.0f}' for m in MASSES[::-1])} %"
    else:
        _draws(axes, draws, colours().first, "z ~ p(z)")
    if posterior is not None:
        _draws(axes, posterior, colours().second, "z ~ q(z | x)")
    style(axes, title=title, x=names[0], y=names[1])
    axes.grid(visible=False)
    if axes.get_legend_handles_labels()[1]:
        legend(axes, loc="lower right", bbox_to_anchor=(1, 1), borderpad=0, markerscale=2, ncols=2)
    return figure


def principal(vectors: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(N, 2) coordinates, and the share of variance of each: themselves where D = 2, else principal components.

    The sign of a component is such that its largest loading is positive.
    """
    if vectors.shape[1] == 2:
        return vectors.numpy(), np.full(2, np.nan)
    centre, directions, share = _components(vectors)
    return ((vectors.double() - centre) @ directions).numpy(), share.numpy()


def _components(vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The mean (D,), the first two principal directions (D, 2) and their shares of the variance (2,), in float64.

    The shares are 0 where nothing varies, as when an encoder has collapsed.
    """
    centre = vectors.double().mean(0)
    _, scale, basis = torch.linalg.svd(vectors.double() - centre, full_matrices=False)
    first = basis[:2]
    largest = first.gather(1, first.abs().argmax(1, keepdim=True))
    share = scale[:2].square() / scale.square().sum() if scale.any() else torch.zeros(2).double()
    return centre, (first * largest.sign()).T, share


def _kinds(labels: Any, count: int) -> np.ndarray | None:
    if labels is None:
        return None
    kinds = np.asarray(labels.cpu() if isinstance(labels, Tensor) else labels)
    if kinds.shape != (count,):
        raise PyrovaeError(f"labels must be one per datum, ({count},); got {kinds.shape}")
    if len(np.unique(kinds)) > MOST_CLASSES:
        raise PyrovaeError(f"{len(np.unique(kinds))} different labels cannot be told apart; {MOST_CLASSES} at most")
    return kinds


def _cloud(axes: Axes, points: np.ndarray, kinds: np.ndarray | None) -> None:
    """All classes in one scatter, in the order of the data, so that none lies on top of the others."""
    colour: Any = colours().first
    if kinds is not None:
        _, index = np.unique(kinds, return_inverse=True)
        colour = [_class(i) for i in index]
    size = float(np.clip(8000 / len(points), 3, 14))
    axes.scatter(points[:, 0], points[:, 1], s=size, lw=0, alpha=0.75, c=colour, rasterized=True)


def _class(number: int) -> str:
    classes = colours().classes
    return classes[number % len(classes)]


def _name(axes: Axes, place: np.ndarray, text: str, colour: str) -> None:
    """A class's name among its points, in a frame of its colour."""
    box = {"boxstyle": "round,pad=0.15", "facecolor": colours().surface, "edgecolor": colour, "linewidth": 1.5}
    note(axes, place[0], place[1], text, fontsize=SMALL + 1, ha="center", va="center", color=colours().ink, bbox=box)


def _draws(axes: Axes, points: Tensor, colour: str, label: str) -> None:
    axes.scatter(points[:, 0], points[:, 1], s=5, lw=0, alpha=0.6, color=colour, label=label, rasterized=True)


def _plane(extent: np.ndarray) -> tuple[Figure, Axes]:
    """Axes with one scale for both directions, in a figure of about the shape of what it shows."""
    shape = extent[1] / extent[0] if extent[0] > 0 else 1  # what is collapsed has no extent
    figure, ((axes,),) = panels(1, 1, height=float(np.clip(shape, 0.55, 1)) * 0.95 * WIDTH)
    axes.set_aspect("equal", adjustable="datalim")
    return figure, axes


class _Alone(nn.Module):
    """A prior as a program that draws nothing else."""

    def __init__(self, prior: Any) -> None:
        super().__init__()
        self.prior = prior

    def model(self, x: Tree, *given: Tree, num_data: int) -> None:
        with pyro.plate("data", num_data, dim=-1):
            pyro.sample("z", self.prior(*given))


def _contours(axes: Axes, program: Any, layout: Layout, seen: Tensor, condition: Any, like: Tree) -> None:
    """The prior's density on a grid around what was seen, with contours at levels that enclose given shares of it."""
    low, high = seen.min(0).values, seen.max(0).values
    sides = [torch.linspace(*_widened(low[i].item(), high[i].item()), GRID) for i in range(2)]
    right, up = torch.meshgrid(*sides, indexing="xy")
    z = torch.stack([right.reshape(-1), up.reshape(-1)], 1)
    density = _log_prob(program, layout, z, condition, like).exp().reshape(GRID, GRID).numpy()
    ordered = np.sort(density.ravel())[::-1]
    inside = np.cumsum(ordered) / ordered.sum()
    levels = np.unique(ordered[np.searchsorted(inside, MASSES).clip(max=len(ordered) - 1)])
    first = colours().first
    fills = [mixed(first, share) for share in np.linspace(0.12, 0.75, len(levels))]
    axes.contourf(*sides, density, levels=[*levels, density.max() * 1.001], colors=fills)
    axes.contour(*sides, density, levels=levels, colors=[first], linewidths=0.6)


def _per_row(x: Tree, given: Sequence[Tree]) -> list[Tree]:
    """What is given, with a row per datum."""
    size = trees.num_data(x)
    return [trees.repeat(g, size) if trees.num_data(g) == 1 else g for g in trees.as_tensors(list(given))]


def _widened(low: float, high: float) -> tuple[float, float]:
    return low - 0.05 * (high - low), high + 0.05 * (high - low)


def _log_prob(program: Any, layout: Layout, z: Tensor, condition: Any, like: Tree) -> Tensor:
    """log p(z) of the rows of z, float64."""
    parts = []
    for block in z.split(BLOCK):
        under = [trees.repeat(c, len(block)) for c in condition]
        sites, _ = ancestral(program, len(block), *under, like=like, at=layout.unflat(block))
        with torch.no_grad():
            parts.append(sum(site["fn"].log_prob(site["value"]).double().cpu() for site in sites.values()))
    return torch.cat(parts)
