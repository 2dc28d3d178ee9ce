"""Densities of positive numbers."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from pyrovae.families.base import Family, concentration, inverse_softplus, location, positive
from pyrovae.families.special import log_prob_in_float64

LEAST = 1e-3  # of a mean to start at


class LogNormal(Family):
    """p(x) = Normal(log x; loc, scale) / x, x > 0; nats. Two numbers per element: loc, raw scale, both of log x."""

    num_params = 2

    def forward(self, loc: Tensor, raw_scale: Tensor) -> TorchDistribution:
        return dist.LogNormal(location(loc), positive(raw_scale))

    def params_at(self, mean: Tensor) -> Tensor:
        """log mean - scale^2 / 2 at the scale that raw 0 gives."""
        raw = torch.zeros_like(mean)
        return torch.cat([mean.clamp(min=LEAST).log() - positive(raw).square() / 2, raw])


class Gamma(Family):
    """p(x) = r^a x^(a - 1) exp(-r x) / G(a), x > 0, with mean m = a / r; nats. Two numbers per element: raw m, raw a.

    The standard deviation is m / sqrt(a): errors are in proportion to what is measured.
    """

    num_params = 2

    def forward(self, raw_mean: Tensor, raw_shape: Tensor) -> TorchDistribution:
        shape = concentration(raw_shape)
        return GammaInFloat64(shape, shape / positive(raw_mean))

    def params_at(self, mean: Tensor) -> Tensor:
        return torch.cat([inverse_softplus(mean.clamp(min=LEAST)), torch.zeros_like(mean)])


class GammaInFloat64(dist.Gamma):
    """Torch's, scored in float64, of x > 0: at 0 the density may be infinite."""

    support = constraints.positive  # type: ignore[assignment]

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return log_prob_in_float64(dist.Gamma, {"concentration": self.concentration, "rate": self.rate}, value)
