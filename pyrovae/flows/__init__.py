"""Normalizing flows: an easy distribution carried through transforms whose Jacobians are known.

One mechanism, ``transformed(base, transforms, context)``, in three places::

    pv.priors.Flow(pv.priors.StandardNormal(40), pv.flows.spline_coupling(40))                  # a prior

    q = pv.families.Flow(pv.families.normal, pv.flows.inverse_autoregressive(40, context=64), context=64)
    encoder = pv.Conditional(pv.networks.MLP(784, 300, q.out_shape((40,))), q)                  # a posterior

    decoder = pv.Conditional(net, pv.families.Flow(pv.families.normal, pv.flows.spline_coupling(8)))  # a likelihood

The functions here give lists of layers, from the base to x, that start near the identity. Lists can be joined, turned
round (``inverse``), and may hold transforms of torch, Pyro and zuko.

Coupling flows take one pass through their networks both ways. An inverse autoregressive flow draws, and scores what it
drew, in one pass, for posteriors; a masked autoregressive one scores any point in one pass, for priors; the other way
takes D passes. Planar, radial and Sylvester flows have no inverse: they are posteriors only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from pyrovae.errors import PyrovaeError
from pyrovae.flows.layers import Affine, Autoregressive, Coupling, Layer, Spline
from pyrovae.flows.residual import Planar, Radial, Sylvester
from pyrovae.flows.transformed import Inverse, Transformed, Transforms, inverse, transformed

__all__ = [
    "Affine",
    "Autoregressive",
    "Coupling",
    "Inverse",
    "Layer",
    "Planar",
    "Radial",
    "Spline",
    "Sylvester",
    "Transformed",
    "Transforms",
    "affine_coupling",
    "inverse",
    "inverse_autoregressive",
    "masked_autoregressive",
    "planar",
    "radial",
    "spline_coupling",
    "sylvester",
    "transformed",
]


def affine_coupling(
    latent: int, num_layers: int = 4, *, hidden: Sequence[int] = (64, 64), context: int = 0
) -> list[nn.Module]:
    """RealNVP: x_b = exp(a(u_a, h)) u_b + b(u_a, h), the halves in turn (Dinh, Sohl-Dickstein & Bengio 2017).

    Args:
        latent: the number of dimensions.
        num_layers: how many layers.
        hidden: widths of each layer's network.
        context: how many numbers h each layer gets from the network of a conditional.

    Example:
        >>> import pyrovae as pv
        >>> prior = pv.priors.Flow(pv.priors.StandardNormal(3), pv.flows.affine_coupling(3))
        >>> prior().sample((5,)).shape
        torch.Size([5, 3])
    """
    return _coupling(Affine(), latent, num_layers, hidden, context)


def spline_coupling(
    latent: int,
    num_layers: int = 4,
    *,
    bins: int = 8,
    bound: float = 5.0,
    hidden: Sequence[int] = (64, 64),
    context: int = 0,
) -> list[nn.Module]:
    """Coupling by monotonic rational-quadratic splines on [-bound, bound], the identity outside (Durkan et al. 2019).

    Args: as for ``affine_coupling``; ``bins`` and ``bound`` as for ``Spline``.
    """
    return _coupling(Spline(bins, bound), latent, num_layers, hidden, context)


def inverse_autoregressive(
    latent: int, num_layers: int = 4, *, hidden: Sequence[int] = (64, 64), context: int = 0
) -> list[nn.Module]:
    """IAF: x_d = exp(a_d) u_d + b_d, with a_d and b_d of u_1 .. u_d-1 and h (Kingma et al. 2016).

    The dimensions' order is reversed from layer to layer. One pass to draw and score the draw, D for other points.

    Args: as for ``affine_coupling``; hidden layers have at least ``latent`` units.

    Example:
        >>> import torch, pyrovae as pv
        >>> family = pv.families.Flow(pv.families.normal, pv.flows.inverse_autoregressive(3, context=4), context=4)
        >>> encoder = pv.Conditional(pv.networks.MLP(8, 16, family.out_shape((3,))), family)
        >>> encoder(torch.randn(5, 8)).sample().shape
        torch.Size([5, 3])
    """
    if latent == 1:  # nothing comes before: the same as coupling
        return affine_coupling(latent, num_layers, hidden=hidden, context=context)
    f = Affine()
    return _chain(num_layers, lambda k: Autoregressive(latent, f, hidden=hidden, context=context, reverse=k % 2 == 1))


def masked_autoregressive(
    latent: int, num_layers: int = 4, *, hidden: Sequence[int] = (64, 64), context: int = 0
) -> list[nn.Module]:
    """MAF: u_d = exp(a_d) x_d + b_d, with a_d and b_d of x_1 .. x_d-1 and h (Papamakarios, Pavlakou & Murray 2017).

    The inverse of ``inverse_autoregressive``: one pass for the density of any point, D passes to draw.

    Args: as for ``inverse_autoregressive``.
    """
    return inverse(inverse_autoregressive(latent, num_layers, hidden=hidden, context=context))


def planar(latent: int, num_layers: int = 8, *, context: int = 0) -> list[nn.Module]:
    """x = u + v tanh(w . u + b), for posteriors (Rezende & Mohamed 2015). Args: as for ``affine_coupling``."""
    return _chain(num_layers, lambda k: Planar(latent, context=context))


def radial(latent: int, num_layers: int = 8, *, context: int = 0) -> list[nn.Module]:
    """x = u + beta (u - c) / (alpha + |u - c|), for posteriors (Rezende & Mohamed 2015). Args: as for ``planar``."""
    return _chain(num_layers, lambda k: Radial(latent, context=context))


def sylvester(latent: int, num_layers: int = 4, *, reflections: int = 4, context: int = 0) -> list[nn.Module]:
    """x = u + Q R tanh(S Q' u + b), for posteriors (van den Berg et al. 2018).

    Args: as for ``planar``; ``reflections`` make up each orthogonal matrix Q.
    """
    return _chain(num_layers, lambda k: Sylvester(latent, reflections=reflections, context=context))


def _coupling(
    univariate: nn.Module, latent: int, num_layers: int, hidden: Sequence[int], context: int
) -> list[nn.Module]:
    return _chain(
        num_layers, lambda k: Coupling(latent, univariate, hidden=hidden, context=context, reverse=k % 2 == 1)
    )


def _chain(num_layers: int, layer: Callable[[int], nn.Module]) -> list[nn.Module]:
    if num_layers < 1:
        raise PyrovaeError(f"a flow has at least one layer; got {num_layers}")
    return [layer(k) for k in range(num_layers)]
