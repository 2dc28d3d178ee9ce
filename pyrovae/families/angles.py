"""Densities on the circle."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyrovae.families.base import MAX_CONCENTRATION, Family
from pyrovae.families.supports import angles
from pyrovae.precision import float64


class VonMises(Family):
    """p(x) = exp(a cos x + b sin x) / (2 pi I0(c)) for angles -pi <= x <= pi, c = |(a, b)|; nats.

    Two numbers per element: a, b, the concentration c times the direction's cosine and sine, so that a network never
    has to jump where the angle does. At (0, 0) it is uniform.
    """

    num_params = 2

    def forward(self, a: Tensor, b: Tensor) -> TorchDistribution:
        a = a + 1e-6  # the direction of (0, 0) has no gradient
        return Circular(torch.atan2(b, a), torch.hypot(a, b).clamp(max=MAX_CONCENTRATION))

    def params_at(self, mean: Tensor) -> Tensor:
        """Uniform: the mean of angles depends on where the circle is cut."""
        return torch.cat([torch.zeros_like(mean)] * 2)

    def standard(self, event_shape: Sequence[int]) -> Tensor:
        """Uniform."""
        return self.params_at(torch.zeros(tuple(event_shape)))


class Circular(dist.VonMises):
    """Torch's, of -pi <= x <= pi where it integrates to one, scored in float64 with the scaled Bessel function.

    log p = -2 c sin((x - loc) / 2)^2 - log(2 pi) - log(I0(c) exp(-c)): nothing large is subtracted.
    """

    support = angles

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        c, away = float64(self.concentration), float64(value) - float64(self.loc)
        log_p = -2 * c * (away / 2).sin().square() - math.log(2 * math.pi) - torch.special.i0e(c).log()
        return log_p.to(self.loc)

    def expand(self, batch_shape: torch.Size, _instance: object = None) -> Circular:
        return Circular(
            self.loc.expand(batch_shape), self.concentration.expand(batch_shape), validate_args=self._validate_args
        )
