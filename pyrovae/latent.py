"""The latents of a program as one vector per datum: where guide and prior put them, and which of them are in use."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from pyro.distributions import Independent
from torch import Tensor
from torch.distributions import kl_divergence

from pyrovae import trees
from pyrovae.errors import PyrovaeError
from pyrovae.randomness import seeded
from pyrovae.sampling import ancestral, at_means, guided
from pyrovae.trees import Tree

BLOCK = 500  # rows that go through a program together
DRAWS = 4000  # from a prior whose quantiles have no closed form


class Layout:
    """How the latents of a program line up in a vector of D numbers per datum, in the order of ``sites``.

    Args:
        sites: Pyro's sites of the latents by name; their values are (N, *event_shape).

    Raises:
        PyrovaeError: no latent; a discrete one; one that is not (N, *event_shape).
    """

    def __init__(self, sites: Mapping[str, Any]) -> None:
        if not sites:
            raise PyrovaeError("the program has no latent of its own to show")
        if discrete := [name for name, site in sites.items() if site["fn"].support.is_discrete]:
            raise PyrovaeError(f"the latents {discrete} are discrete: they are no vector in which to move")
        self.shapes = {name: tuple(site["fn"].event_shape) for name, site in sites.items()}
        for name, site in sites.items():
            if site["value"].dim() != 1 + len(self.shapes[name]):
                raise PyrovaeError(
                    f"the latent {name!r} has shape {tuple(site['value'].shape)} and event shape {self.shapes[name]}: "
                    "declare all but the data dimension as its event, with to_event"
                )

    @property
    def sizes(self) -> dict[str, int]:
        """How many numbers each latent has."""
        return {name: math.prod(shape) for name, shape in self.shapes.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """What to call each of the D numbers: z_1, z_2, ..."""
        return tuple(
            f"${name}_{{{number + 1}}}$" if size > 1 else name
            for name, size in self.sizes.items()
            for number in range(size)
        )

    def flat(self, sites: Mapping[str, Any]) -> Tensor:
        """(N, D) of the values of sites."""
        return torch.cat([sites[name]["value"].flatten(1) if shape else sites[name]["value"][:, None]
                          for name, shape in self.shapes.items()], 1)  # fmt: skip

    def unflat(self, vectors: Tensor) -> dict[str, Tensor]:
        """The values of the latents by name, from (N, D)."""
        parts = vectors.split(list(self.sizes.values()), 1)
        return {n: part.reshape(-1, *shape) for (n, shape), part in zip(self.shapes.items(), parts, strict=True)}


class Activity(NamedTuple):
    """How much each of the D latent dimensions says about x.

    Attributes:
        names: of the dimensions.
        variance: Var_x(E[z_d | x]) over the data, (D,).
        kl: E_x KL(q(z_d | x) || p(z_d)), (D,) nats; None where q or p does not factorise over dimensions in a closed
            form (a mixture prior, a flow), or there are several latents, in the guide or in the model alone.
    """

    names: tuple[str, ...]
    variance: Tensor
    kl: Tensor | None

    def active(self, threshold: float = 0.01) -> Tensor:
        """Which dimensions have a variance above the threshold, (D,) bool."""
        return self.variance > threshold


def activity(program: Any, x: Tree, *given: Tree) -> Activity:
    """A_d = Var_x(E[z_d | x]) of each latent dimension: a unit is active where A_d > 0.01.

    Args:
        program: any program with continuous latents whose guide has means.
        x, given: at least two data.

    Raises:
        PyrovaeError: a single datum; discrete latents; a guide without means in closed form.

    Reference:
        Burda, Grosse & Salakhutdinov 2016, "Importance weighted autoencoders", section 5.

    Example:
        >>> import pyrovae as pv
        >>> data = pv.data.load("digits")
        >>> pv.activity(pv.vae(data, latent=3), data.test.x).variance.shape
        torch.Size([3])
    """
    if trees.num_data(*(x, *given)) < 2:
        raise PyrovaeError("activity is a variance over data: pass at least two")
    layout, means, kls = _encoded(program, x, *given)
    return Activity(layout.names, means.double().var(0), None if kls is None else kls.double().mean(0))


def posterior_means(program: Any, x: Tree, *given: Tree) -> tuple[Layout, Tensor]:
    """E[z | x] of every datum under the guide, (N, D), and what stands where in it."""
    layout, means, _ = _encoded(program, x, *given)
    return layout, means


def _encoded(program: Any, x: Tree, *given: Tree) -> tuple[Layout, Tensor, Tensor | None]:
    """The layout, the means (N, D), and KL(q || p) per dimension (N, D) where there is a closed form."""
    layouts, means, kls = [], [], []
    rows = trees.as_tensors((x, *given))
    with seeded(0, _device(program)):  # a latent that the guide lacks is drawn
        for start in range(0, trees.num_data(*rows), BLOCK):
            guide, model = at_means(program, *trees.rows(rows, slice(start, start + BLOCK)))
            layouts.append(Layout({name: guide[name] for name in model if name in guide}))  # in the order of the prior
            means.append(layouts[-1].flat(guide).cpu())
            kls.append(_closed_form(guide, model))
    closed = [kl for kl in kls if kl is not None]
    return layouts[0], torch.cat(means), torch.cat(closed).cpu() if len(closed) == len(kls) else None


def _closed_form(guide: Mapping[str, Any], model: Mapping[str, Any]) -> Tensor | None:
    """KL per dimension, (N, D); a sum over several latents would need expectations over the earlier ones.

    With a latent of the model's own, p is that of z given one draw of it, and not the prior.
    """
    latents = [name for name, site in model.items() if not site["is_observed"]]
    if len(latents) > 1 or set(guide) != set(latents):
        return None
    (name,) = guide
    q, p = factors(guide[name]["fn"]), factors(model[name]["fn"])
    try:
        kl = None if q is None or p is None else kl_divergence(q, p)
    except NotImplementedError:
        return None
    return None if kl is None else kl.flatten(1) if kl.dim() > 1 else kl[:, None]


def factors(distribution: Any) -> Any:
    """The distributions of the single dimensions, batch shape (N, *event_shape); None where it does not factorise."""
    while isinstance(distribution, Independent):
        distribution = distribution.base_dist
    return None if distribution.event_shape else distribution


def guide_draws(program: Any, layout: Layout, x: Tree, *given: Tree) -> Tensor:
    """One z ~ q(z | x, given) for each datum, always the same ones, (N, D)."""
    rows = trees.as_tensors((x, *given))
    with seeded(0, _device(program)):
        starts = range(0, trees.num_data(*rows), BLOCK)
        parts = [layout.flat(guided(program, *trees.rows(rows, slice(i, i + BLOCK)))) for i in starts]
    return torch.cat(parts).cpu()


def prior_draws(program: Any, count: int, *given: Tree, like: Tree = None) -> tuple[Layout, Tensor]:
    """``count`` draws from p(z | given), always the same ones, (count, D).

    Args:
        given: conditioning variables with one row.
    """
    layouts, draws = [], []
    with seeded(0, _device(program)):
        for start in range(0, count, BLOCK):
            size = min(BLOCK, count - start)
            latents, _ = ancestral(program, size, *(trees.repeat(g, size) for g in given), like=like)
            layouts.append(Layout(latents))
            draws.append(layouts[-1].flat(latents).cpu())
    return layouts[0], torch.cat(draws)


def prior_quantiles(program: Any, levels: Tensor, *given: Tree, like: Tree = None) -> tuple[Layout, Tensor]:
    """The quantiles of each dimension of p(z | given) at ``levels`` (K,): (K, D).

    Exact where the prior factorises into distributions that know theirs; else those of 4,000 draws.
    """
    latents = one_draw(program, *given, like=like)
    layout = Layout(latents)
    single = factors(next(iter(latents.values()))["fn"]) if len(latents) == 1 else None
    try:
        if single is not None:
            rows = levels.to(next(iter(latents.values()))["value"]).reshape(-1, *[1] * len(single.batch_shape[1:]))
            return layout, single.icdf(rows).reshape(len(levels), -1).cpu()
    except NotImplementedError:
        pass
    _, draws = prior_draws(program, DRAWS, *given, like=like)
    return layout, torch.quantile(draws, levels.to(draws), dim=0)


def one_draw(program: Any, *given: Tree, like: Tree = None) -> dict[str, Any]:
    """Pyro's sites of the latents of a single draw from the model; the global generator stays as it was."""
    with seeded(0, _device(program)):
        return ancestral(program, 1, *given, like=like)[0]


def _device(program: Any) -> torch.device:
    parameters = program.parameters() if isinstance(program, torch.nn.Module) else ()
    return next((p.device for p in parameters), torch.device("cpu"))
