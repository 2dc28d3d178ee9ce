"""Layers with an inverse: elementwise maps whose parameters a network makes of other dimensions and of a context."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Transform, constraints

from pyrovae.errors import PyrovaeError
from pyrovae.flows.adapter import (
    AutoregressiveTransform,
    DependentTransform,
    MaskedMLP,
    MonotonicAffineTransform,
    MonotonicRQSTransform,
    unpack,
)
from pyrovae.networks import MLP, Constant, Network
from pyrovae.recorded import Recorded

SLOPE = 1e-3  # the least slope of an elementwise map, the greatest being its inverse; zuko's own has changed
NEAR = 0.01  # how near the identity a flow starts: the last layer of its networks is made that much smaller


class Layer(Recorded, nn.Module):
    """Base: ``forward(context)`` gives the transform of R^latent at a context, (*batch, context)."""

    def __init__(self, latent: int, context: int) -> None:
        super().__init__()
        if latent < 1 or context < 0:
            raise PyrovaeError(f"a flow has at least one dimension and no negative context; got {latent}, {context}")
        self.latent, self.context = latent, context

    def forward(self, context: Tensor | None = None) -> Transform:
        raise TypeError(f"{type(self).__name__} must define forward(context) -> Transform")

    def given(self, context: Tensor | None) -> tuple[Tensor, ...]:
        """The context as the parents of a network: none, or one."""
        if not self.context:
            return ()
        if context is None or context.shape[-1] != self.context:
            raise PyrovaeError(
                f"{type(self).__name__} is built for a context of {self.context} numbers and gets "
                f"{0 if context is None else context.shape[-1]}: pyrovae.families.Flow(..., context={self.context}) "
                "gives it as many; a prior has none"
            )
        return (context,)


def network(parents: Sequence[int], out: int, hidden: Sequence[int] = ()) -> Network:
    """A network of vectors that starts near zero; a learned constant where no parent has any numbers."""
    sizes: list[Any] = [size for size in parents if size]
    if not sizes:
        return Constant(out)
    net = MLP(sizes, *hidden, out, activation=nn.SiLU)  # smooth, and so are the densities
    shrink(net.output)
    return net


def shrink(last: Any) -> None:
    """Make the last layer's output small, and not zero: then no other layer would get a gradient."""
    with torch.no_grad():
        last.weight.mul_(NEAR)
        last.bias.zero_()


class Affine(Recorded, nn.Module):
    """x = exp(a) u + b in each dimension, a kept within +-6.9 smoothly; starts at the identity."""

    shapes = ((), ())

    def forward(self, shift: Tensor, raw_scale: Tensor) -> Transform:
        return MonotonicAffineTransform(shift, raw_scale, slope=SLOPE)


class Spline(Recorded, nn.Module):
    """A monotonic rational-quadratic spline in each dimension (Durkan et al. 2019); starts at the identity.

    Args:
        bins: how many pieces there are.
        bound: the spline maps [-bound, bound] onto itself; outside it is the identity.
    """

    def __init__(self, bins: int = 8, bound: float = 5.0) -> None:
        super().__init__()
        if bins < 2 or not bound > 0:
            raise PyrovaeError(f"a spline has at least two bins and a positive bound; got {bins}, {bound}")
        self.shapes, self.bound = ((bins,), (bins,), (bins - 1,)), bound

    def forward(self, widths: Tensor, heights: Tensor, slopes: Tensor) -> Transform:
        return MonotonicRQSTransform(widths, heights, slopes, bound=self.bound, slope=SLOPE)


class Coupling(Layer):
    """Half of the dimensions stays, and drives the map of the others: x_a = u_a, x_b = f(u_b; net(u_a, h)).

    One pass through the network in either direction. In one dimension nothing drives, and f depends on h alone.

    Args:
        latent: the number of dimensions; the first ``latent // 2`` drive.
        univariate: f, ``Affine()`` or ``Spline()``, or a module of yours: ``shapes`` of its parameters per dimension,
            and ``forward(*parameters)`` that gives a transform.
        hidden: widths of the network.
        context: how many numbers h has.
        reverse: the others drive, where there are any.

    Dinh, Sohl-Dickstein & Bengio 2017; Durkan et al. 2019.
    """

    def __init__(
        self,
        latent: int,
        univariate: Any,
        *,
        hidden: Sequence[int] = (64, 64),
        context: int = 0,
        reverse: bool = False,
    ) -> None:
        super().__init__(latent, context)
        self.univariate, self.first = univariate, latent // 2
        self.reverse = reverse and latent > 1
        driving = latent - self.first if self.reverse else self.first
        self.net = network((driving, context), (latent - driving) * _count(univariate), hidden)

    def forward(self, context: Tensor | None = None) -> Transform:
        given = self.given(context)

        def driven(a: Tensor) -> Transform:
            parents = (a, *given) if a.shape[-1] else given
            return _elementwise(self.univariate, self.net(*parents))

        return CouplingTransform(driven, (self.first, self.latent - self.first), reverse=self.reverse)


class Autoregressive(Layer):
    """x_d = f(u_d; net_d(u_1 .. u_d-1, h)), the network masked (Germain et al. 2015).

    One pass through the network from u to x; D passes back, which ``Inverse`` turns round.

    Args: as for ``Coupling``; each hidden layer has at least ``latent`` units, and ``latent`` is at least 2;
        ``reverse`` takes the dimensions in descending order.

    Kingma et al. 2016; Papamakarios, Pavlakou & Murray 2017.
    """

    def __init__(
        self,
        latent: int,
        univariate: Any,
        *,
        hidden: Sequence[int] = (64, 64),
        context: int = 0,
        reverse: bool = False,
    ) -> None:
        super().__init__(latent, context)
        if latent < 2 or min(hidden, default=latent) < latent:
            raise PyrovaeError(
                f"an autoregressive network has at least two dimensions (in one, use Coupling), and in every hidden "
                f"layer a unit for each: got {latent} dimensions and hidden layers of {list(hidden)}"
            )
        self.univariate = univariate
        order = torch.arange(latent).flip(0) if reverse else torch.arange(latent)
        follows = torch.cat([order[:, None] > order, torch.ones(latent, context, dtype=torch.bool)], 1)
        self.net = MaskedMLP(follows.repeat_interleave(_count(univariate), 0), hidden, activation=nn.SiLU)
        shrink(self.net[-1])

    def forward(self, context: Tensor | None = None) -> Transform:
        given = self.given(context)

        def driven(u: Tensor) -> Transform:
            parents = [parent.expand(*u.shape[:-1], parent.shape[-1]) for parent in (u, *given)]
            return _elementwise(self.univariate, self.net(torch.cat(parents, -1)))

        return AutoregressiveTransform(driven, passes=self.latent)


def _count(univariate: Any) -> int:
    """How many numbers the map wants per dimension."""
    return sum(math.prod(shape) for shape in univariate.shapes)


def _elementwise(univariate: Any, numbers: Tensor) -> Transform:
    """The map of a vector, from ``count`` numbers for each of its dimensions."""
    per_dimension = numbers.unflatten(-1, (-1, _count(univariate)))
    return DependentTransform(univariate(*unpack(per_dimension, univariate.shapes)), 1)


class OnePass(Transform):
    """Base of transforms that compute the value and the log-determinant together."""

    domain = codomain = constraints.real_vector
    bijective = True

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """f(x), (*batch, D), and log |det df / dx|, (*batch,)."""
        raise NotImplementedError

    def _call(self, x: Tensor) -> Tensor:
        return self.call_and_ladj(x)[0]

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return self.call_and_ladj(x)[1]


class CouplingTransform(OnePass):
    """y_a = x_a, y_b = f(x_b; x_a); the inverse is the coupling by the inverse of f."""

    def __init__(self, driven: Callable[[Tensor], Transform], sizes: tuple[int, int], *, reverse: bool) -> None:
        super().__init__()
        self.driven, self.sizes, self.reverse = driven, sizes, reverse

    @property
    def inv(self) -> Transform:
        return CouplingTransform(lambda a: self.driven(a).inv, self.sizes, reverse=self.reverse)

    def _inverse(self, y: Tensor) -> Tensor:
        return self.inv(y)

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, second = x.split(self.sizes, -1)
        a, b = (second, first) if self.reverse else (first, second)
        f: Any = self.driven(a)
        y, log_det = f.call_and_ladj(b)
        return torch.cat([y, a] if self.reverse else [a, y], -1), log_det
