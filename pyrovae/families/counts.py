"""Counts more spread than a Poisson variable's."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from pyro.distributions.zero_inflated import ZeroInflatedDistribution
from torch import Tensor
from torch.nn.functional import softplus

from pyrovae.families.base import MIN_RATE, Family, concentration, inverse_softplus
from pyrovae.families.special import log_prob_in_float64

LEAST = 1e-3  # of a mean to start at
MAX_GATE = 15.0  # a logit: further out float32 loses the density that the gate is added to


class NegativeBinomial(Family):
    """P(x) = G(x + r) / (x! G(r)) (r / (r + m))^r (m / (r + m))^x for counts x = 0, 1, ..; nats.

    The mean is m, the variance m + m^2 / r: a Poisson variable whose rate is gamma distributed (Lopez et al. 2018,
    scVI, for counts of genes). Two numbers per element: raw m, raw r.
    """

    num_params = 2

    def forward(self, raw_mean: Tensor, raw_count: Tensor) -> TorchDistribution:
        count = concentration(raw_count)
        mean = softplus(raw_mean) + MIN_RATE
        return NegativeBinomialInFloat64(count, logits=mean.log() - count.log())

    def params_at(self, mean: Tensor) -> Tensor:
        return torch.cat([inverse_softplus(mean.clamp(min=LEAST)), torch.zeros_like(mean)])


class NegativeBinomialInFloat64(dist.NegativeBinomial):
    """Torch's, scored in float64."""

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        params = {"total_count": self.total_count, "logits": self.logits}
        return log_prob_in_float64(dist.NegativeBinomial, params, value)


class ZeroInflatedNegativeBinomial(NegativeBinomial):
    """P(x) = g [x = 0] + (1 - g) NegativeBinomial(x; m, r) for counts x = 0, 1, ..; nats.

    Zeros that say nothing of the count, as where a gene was not caught (Lopez et al. 2018, scVI). The mean is
    (1 - g) m. Three numbers per element: raw m, raw r, logit g.
    """

    num_params = 3

    def forward(self, raw_mean: Tensor, raw_count: Tensor, gate: Tensor) -> TorchDistribution:  # type: ignore[override]
        counts = super().forward(raw_mean, raw_count)
        return ZeroInflatedDistribution(counts, gate_logits=gate.clamp(-MAX_GATE, MAX_GATE))

    def params_at(self, mean: Tensor) -> Tensor:
        """m twice the mean, g one half."""
        return torch.cat([super().params_at(2 * mean), torch.zeros_like(mean)])
