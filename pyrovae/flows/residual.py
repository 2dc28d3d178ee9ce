"""Layers without an inverse, x = u + g(u): they draw, score what they drew, and so serve as posteriors."""

from __future__ import annotations

import math

import torch
from pyro.distributions.transforms.planar import ConditionedPlanar
from pyro.distributions.transforms.radial import ConditionedRadial
from torch import Tensor
from torch.distributions import Transform

from pyrovae.errors import PyrovaeError
from pyrovae.flows.layers import Layer, OnePass, network


class Residual(Layer):
    """Base: a linear map of the context gives the parameters; without a context they are learned as they are.

    Args:
        start: where the parameters start, one after the other.
        sizes: how many each has.
    """

    def __init__(self, latent: int, context: int, start: Tensor, sizes: list[int]) -> None:
        super().__init__(latent, context)
        self.net, self.sizes = network((context,), sum(sizes)), sizes
        self.net.start_at(start)

    def parameters_at(self, context: Tensor | None) -> tuple[Tensor, ...]:
        """Each parameter, (*batch, size)."""
        numbers: Tensor = self.net(*self.given(context))
        return numbers.split(self.sizes, -1)


class Planar(Residual):
    """x = u + v tanh(w . u + b), with v . w > -1; b, v and w from the context (Rezende & Mohamed 2015)."""

    def __init__(self, latent: int, *, context: int = 0) -> None:
        w = torch.randn(latent) / math.sqrt(latent)
        v = w / w.square().sum() * math.log(math.e - 1)  # which the constraint maps to zero: the identity
        super().__init__(latent, context, torch.cat([torch.zeros(1), v, w]), [1, latent, latent])

    def forward(self, context: Tensor | None = None) -> Transform:
        return ConditionedPlanar(self.parameters_at(context))


class Radial(Residual):
    """x = u + beta (u - c) / (alpha + |u - c|), with beta > -alpha; c, alpha and beta from the context (ibid.)."""

    def __init__(self, latent: int, *, context: int = 0) -> None:
        super().__init__(latent, context, torch.cat([torch.randn(latent), torch.zeros(2)]), [latent, 1, 1])

    def forward(self, context: Tensor | None = None) -> Transform:
        return ConditionedRadial(self.parameters_at(context))


class Sylvester(Residual):
    """x = u + Q R tanh(S Q' u + b): R and S upper triangular, Q a product of Householder reflections.

    All four from the context, R and S with a tanh on the diagonal, so that r_dd s_dd > -1.

    Args:
        latent: D.
        reflections: how many make up Q.
        context: how many numbers the context has.

    van den Berg, Hasenclever, Tomczak & Welling 2018, their H-SNF.
    """

    def __init__(self, latent: int, *, reflections: int = 4, context: int = 0) -> None:
        if reflections < 1:
            raise PyrovaeError(f"an orthogonal matrix is made of at least one reflection; got {reflections}")
        square = latent**2
        s = torch.eye(latent).flatten()  # R starts at zero: the identity
        start = torch.cat([torch.zeros(square), s, torch.zeros(latent), torch.randn(reflections * latent)])
        super().__init__(latent, context, start, [square, square, latent, reflections * latent])

    def forward(self, context: Tensor | None = None) -> Transform:
        r, s, b, normals = self.parameters_at(context)
        square = (self.latent, self.latent)
        return SylvesterTransform(
            _triangular(r.unflatten(-1, square)), _triangular(s.unflatten(-1, square)), b,
            normals.unflatten(-1, (-1, self.latent)),
        )  # fmt: skip


def _triangular(raw: Tensor) -> Tensor:
    return raw.triu(1) + raw.diagonal(dim1=-2, dim2=-1).tanh().diag_embed()


class SylvesterTransform(OnePass):
    """y = x + Q R tanh(S Q' x + b), log |det| = sum_d log(1 + tanh'(.)_d r_dd s_dd) by Sylvester's identity.

    Args:
        R, S: (*batch, D, D), upper triangular.
        b: (*batch, D).
        normals: of the reflections whose product is Q, (*batch, H, D).
    """

    def __init__(self, R: Tensor, S: Tensor, b: Tensor, normals: Tensor) -> None:
        super().__init__()
        self.R, self.S, self.b = R, S, b
        self.normals = normals.unbind(-2)

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        rotated = x
        for normal in self.normals:
            rotated = _reflected(rotated, normal)
        h = torch.tanh(_product(self.S, rotated) + self.b)
        step = _product(self.R, h)
        for normal in reversed(self.normals):
            step = _reflected(step, normal)
        diagonals = self.R.diagonal(dim1=-2, dim2=-1) * self.S.diagonal(dim1=-2, dim2=-1)
        return x + step, torch.log1p((1 - h.square()) * diagonals).sum(-1)


def _product(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector[..., None])[..., 0]


def _reflected(x: Tensor, normal: Tensor) -> Tensor:
    return x - 2 * (x * normal).sum(-1, keepdim=True) / normal.square().sum(-1, keepdim=True) * normal
