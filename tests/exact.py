"""What tests compare with: programs whose log p(x) is known in closed form, and quadrature for where it is not."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pyro.distributions as dist
import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

import pyrovae as pv

# ------------------------------------------------------------------------------------------------ linear-Gaussian


class GaussianGuide(nn.Module):
    """q(z | x) = N(A x + c + shift, spread^2 V): the exact posterior where spread = 1 and shift = 0."""

    def __init__(self, A: Tensor, c: Tensor, V: Tensor, spread: float, shift: float) -> None:
        super().__init__()
        self.A, self.c, self.tril = A, c + shift, spread * torch.linalg.cholesky(V)

    def forward(self, x: Tensor) -> Any:
        return dist.MultivariateNormal(x @ self.A.T + self.c, scale_tril=self.tril)


class LinearGaussian:
    """z ~ N(0, I), x = W z + b + sigma eps, whose every density is normal.

    Args:
        spread, shift: of the guide, see ``GaussianGuide``.

    Attributes:
        program: the VAE; ``log_prob(x)`` its exact log p(x), (N,); ``posterior(x)`` its exact p(z | x).

    With w = p(x, z) / q(z | x) and spread s, no shift, w / p(x) = s^D exp(-r^2 (1 - 1 / s^2) / 2), where r is the
    distance from the posterior mean in the posterior's metric. Hence for s >= 1 the weights are bounded by s^D p(x),
    and E[w^2] / p(x)^2 = (s^2 / sqrt(2 s^2 - 1))^D, finite for s^2 > 1/2 only. A shift multiplies the weights by the
    exponential of a linear function of z, which for s > 1 leaves them bounded, and all moments finite. For s < 1 their
    tail is that of a Pareto distribution of shape k = 1 - s^2, times powers of the logarithm that grow with D.
    """

    def __init__(
        self, latent: int, width: int, *, sigma: float = 0.7, seed: int = 0, spread: float = 1.0, shift: float = 0.0
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        dtype = torch.get_default_dtype()
        self.W, self.b = (torch.randn(width, *n, generator=generator, dtype=dtype) for n in ((latent,), ()))
        self.sigma = sigma
        eye = torch.eye(latent)
        self.V = torch.linalg.inv(eye + self.W.T @ self.W / sigma**2)
        self.A = self.V @ self.W.T / sigma**2
        self.c = -self.A @ self.b
        decoder = nn.Linear(latent, width)
        with torch.no_grad():
            decoder.weight.copy_(self.W)
            decoder.bias.copy_(self.b)
        self.program = pv.VAE(
            pv.priors.StandardNormal(latent),
            pv.Conditional(decoder, pv.families.FixedScaleNormal(sigma)),
            GaussianGuide(self.A, self.c, self.V, spread, shift),
        )

    @property
    def marginal(self) -> Any:
        cov = self.W @ self.W.T + self.sigma**2 * torch.eye(len(self.b))
        return dist.MultivariateNormal(self.b, covariance_matrix=cov)

    def log_prob(self, x: Tensor) -> Tensor:
        return self.marginal.log_prob(x)

    def posterior(self, x: Tensor) -> Any:
        return dist.MultivariateNormal(x @ self.A.T + self.c, covariance_matrix=self.V)

    def data(self, n: int, seed: int = 1) -> Tensor:
        """n data from the program itself."""
        torch.manual_seed(seed)
        return self.marginal.sample((n,))


# ---------------------------------------------------------------------------------------------------- quadrature


def grid(half_width: float = 10.0, step: float = 0.1) -> tuple[Tensor, float]:
    """The points of a square grid in the plane, (G, 2), and log(step^2)."""
    n = round(half_width / step)
    axis = torch.arange(-n, n + 1) * step
    return torch.cartesian_prod(axis, axis), 2 * math.log(step)


def integral(log_f: Tensor, log_cell: float) -> Tensor:
    """log of the integral of f over the plane from its logarithm at the points of ``grid``, (G, *) to (*).

    The trapezoid rule, whose error for analytic integrands falls faster than any power of the step. Asserts that the
    border carries no mass (tails), and that a grid twice as coarse gives the same (resolution).
    """
    side = math.isqrt(len(log_f))
    rounding = 1e-7 if log_f.dtype == torch.float64 else 1e-5
    log_f = log_f.double()
    square = log_f.unflatten(0, (side, side))
    total = log_f.logsumexp(0) + log_cell
    coarse = square[::2, ::2].flatten(0, 1).logsumexp(0) + log_cell + math.log(4)
    border = torch.cat([square[0], square[-1], square[:, 0], square[:, -1]]).logsumexp(0) + log_cell
    assert (border - total < math.log(1e-9)).all(), "the tails do not fit on the grid"
    torch.testing.assert_close(total, coarse, rtol=0, atol=rounding)
    return total


def log_prob_by_quadrature(program: pv.VAE, x: Any, *given: Tensor, **options: float) -> Tensor:
    """log of the integral over the plane of p(z | given) p(x | z, given), (N,), for a program with two latents."""
    points, log_cell = grid(**options)
    z = points[:, None]  # (G, 1, 2): against N rows
    with torch.no_grad():
        log_pz = program.prior(*given).log_prob(z)
        wide = z.expand(-1, len(pv.trees.leaves(x)[0]), -1)
        log_px_z = program.decoder(wide, *given).log_prob(x)
        return integral(log_pz + log_px_z, log_cell)


# ------------------------------------------------------------------------------------------------------- programs


class At(Messenger):
    """Gives latent sites fixed values, and leaves them latent."""

    def __init__(self, values: dict[str, Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.values and not msg["is_observed"]:
            msg["value"], msg["done"] = self.values[msg["name"]], True


def at(program: Any, **values: Tensor) -> Any:
    """``program`` with a guide that draws the given values."""

    def guide(*args: Any) -> Any:
        with At(values):
            return program.guide(*args)

    return SimpleNamespace(model=program.model, guide=guide)


def program(model: Any, guide: Any) -> Any:
    """A program from two functions."""
    return SimpleNamespace(model=model, guide=guide)


def wide_encoder(in_shapes: Any, latent: int = 2, scale: float = 1.4, hidden: int = 16) -> pv.Conditional:
    """A random normal encoder whose scales are near ``scale``: wider than the priors of the tests."""
    net = pv.networks.MLP(in_shapes, hidden, 2 * latent, activation=nn.Tanh)
    with torch.no_grad():
        net.output.bias[latent:] = pv.families.inverse_positive(scale)
        net.output.weight[latent:] *= 0.1
    return pv.Conditional(net, pv.families.normal)


# ------------------------------------------------------------------------------------------------------ statistics


def assert_mean(samples: Tensor, expected: Any, *, dim: int = 0, errors: float = 4.0) -> None:
    """The mean of independent samples is ``expected`` within so many standard errors."""
    n = samples.shape[dim]
    error = samples.std(dim) / math.sqrt(n)
    z = (samples.mean(dim) - expected) / error
    assert (z.abs() < errors).all(), f"{z.abs().max():.1f} standard errors from the expected mean"
