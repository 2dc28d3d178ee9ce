"""Densities of numbers between 0 and 1."""

from __future__ import annotations

import math

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import SigmoidTransform

from pyrovae.families.base import Family, concentration, inverse_softplus, positive
from pyrovae.families.special import log_prob_in_float64, log_sinhc, solved
from pyrovae.families.supports import open_unit_interval

INSIDE = 0.02  # of the interval, a mean to start at: the logits grow as one over the distance from an end
# Of a logit-normal. Near 1 a float32 is known to 6e-8 only: beyond a logit of 15 nothing is left of a draw's logit,
# and at one of 8 it is known to 1e-4, a tenth of the least scale.
FARTHEST, END, LEAST_SCALE, DEVIATIONS = 8.0, 15.0, 1e-3, 5.0


class ContinuousBernoulli(Family):
    """p(x) = exp(t (x - 1/2)) (t / 2) / sinh(t / 2), 0 <= x <= 1, with t the logit; nats. One number per element.

    It is p^x (1 - p)^(1 - x), normalised: what a bernoulli likelihood of grey values lacks (Loaiza-Ganem & Cunningham
    2019). A density of real numbers: of levels of grey it is one under ``pyrovae.Dequantized``.
    """

    def forward(self, logits: Tensor) -> TorchDistribution:
        return ExactContinuousBernoulli(logits=logits)

    def params_at(self, mean: Tensor) -> Tensor:
        """The logit whose mean this is."""
        return solved(_mean, mean.clamp(INSIDE, 1 - INSIDE))


class ExactContinuousBernoulli(dist.ContinuousBernoulli):
    """Torch's, with density, mean and draws made of the logits.

    Torch makes them of the probability, which in float32 costs digits near 1/2 (gradients are off by 0.003 there) and
    is capped at a logit of 16.
    """

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return self.logits * (value - 0.5) - log_sinhc(self.logits / 2)

    @property
    def mean(self) -> Tensor:
        return _mean(self.logits)

    def icdf(self, value: Tensor) -> Tensor:
        """The x below which ``value`` of the mass lies."""
        t = self.logits.abs().clamp(min=1e-6)  # below that x = value, to the last digit
        mirrored = torch.where(self.logits > 0, 1 - value, value).clamp(max=1 - torch.finfo(value.dtype).eps / 2)
        x = -torch.log1p(mirrored * torch.expm1(-t)) / t
        return torch.where(self.logits > 0, 1 - x, x)


def _mean(logits: Tensor) -> Tensor:
    """1 / (1 - exp(-t)) - 1 / t, by its series where that cancels."""
    small = logits.abs() < 0.5
    near, far = torch.where(small, logits, 0.0), torch.where(small, 1.0, logits)
    square = near.square()
    return torch.where(
        small,
        0.5 + near * (1 / 12 - square * (1 / 720 - square * (1 / 30240 - square / 1209600))),
        -1 / torch.expm1(-far) - 1 / far,
    )


class Beta(Family):
    """p(x) = x^(a - 1) (1 - x)^(b - 1) / B(a, b), 0 < x < 1; nats. Two numbers per element: raw a, raw b."""

    num_params = 2

    def forward(self, raw_a: Tensor, raw_b: Tensor) -> TorchDistribution:
        return BetaInFloat64(concentration(raw_a), concentration(raw_b))

    def params_at(self, mean: Tensor) -> Tensor:
        """a = 2 mean, b = 2 - a."""
        a = 2 * mean.clamp(INSIDE, 1 - INSIDE)
        return torch.cat([inverse_softplus(a), inverse_softplus(2 - a)])


class BetaInFloat64(dist.Beta):
    """Torch's, scored in float64, of 0 < x < 1: at the ends the density may be infinite."""

    support = open_unit_interval

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        params = {"concentration1": self.concentration1, "concentration0": self.concentration0}
        return log_prob_in_float64(dist.Beta, params, value)


class LogitNormal(Family):
    """p(x) = Normal(logit x; loc, scale) / (x (1 - x)), 0 < x < 1; nats. Two numbers per element, both of logit x.

    |loc| < 8, loc = 8 tanh(raw / 8), and 0.001 <= scale <= (15 - |loc|) / 5: the draws, which are numbers in float32,
    then hold their logits, so that log p is that of what was drawn. Other data come as near to 0 and 1 as they like.

    The noise of a variational dequantization, too (``pyrovae.Dequantized``).
    """

    num_params = 2

    def forward(self, loc: Tensor, raw_scale: Tensor) -> TorchDistribution:
        loc = FARTHEST * torch.tanh(loc / FARTHEST)
        scale = torch.minimum(positive(raw_scale).clamp(min=LEAST_SCALE), (END - loc.abs()) / DEVIATIONS)
        return LogitNormalDistribution(dist.Normal(loc, scale), [SigmoidTransform()])

    def params_at(self, mean: Tensor) -> Tensor:
        """The logit of the mean, which is then the median."""
        loc = mean.clamp(INSIDE, 1 - INSIDE).logit()
        return torch.cat([FARTHEST * torch.atanh(loc / FARTHEST), torch.zeros_like(mean)])


class LogitNormalDistribution(dist.TransformedDistribution):
    """sigmoid(y), y normal; has a mean, by quadrature."""

    support = open_unit_interval

    @property
    def mean(self) -> Tensor:
        """Within 1e-6 for scales up to 10: the trapezoidal rule over +-8 standard deviations, a node at a time."""
        nodes = [t / 8 for t in range(-64, 65)]
        total = sum(math.exp(-(t**2) / 2) for t in nodes)
        loc, scale = self.base_dist.loc, self.base_dist.scale
        parts = (math.exp(-(t**2) / 2) / total * torch.sigmoid(loc + scale * t) for t in nodes)
        return sum(parts, start=torch.zeros_like(loc))
