"""Families of single elements: numbers of a network, elementwise, to one distribution per element."""

from __future__ import annotations

from collections.abc import Sequence

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from pyrovae.errors import PyrovaeError
from pyrovae.families.base import MIN_RATE, MIN_SCALE, Family, inverse_positive, inverse_softplus, location, positive
from pyrovae.families.special import log_prob_in_float64


class Bernoulli(Family):
    """Bernoulli(logits), x in {0, 1}; log p in nats, computed from logits so that it stays finite."""

    def forward(self, logits: Tensor) -> TorchDistribution:
        return dist.Bernoulli(logits=logits)

    def params_at(self, mean: Tensor) -> Tensor:
        """The logit of the mean, clipped to [.001, .999] (Burda, Grosse & Salakhutdinov 2016)."""
        return mean.clamp(0.001, 0.999).logit()


class Normal(Family):
    """Normal(loc, scale) with a scale per element: two numbers per element, scale = softplus(raw) + 1e-4."""

    num_params = 2

    def forward(self, loc: Tensor, raw_scale: Tensor) -> TorchDistribution:
        return dist.Normal(location(loc), positive(raw_scale))


class FixedScaleNormal(Family):
    """Normal(loc, scale) with a given scale, the same for all elements and never trained."""

    scale: Tensor

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        if not scale > 0:
            raise PyrovaeError(f"the scale of a normal must be positive; got {scale}")
        self.register_buffer("scale", torch.tensor(float(scale)))

    def forward(self, loc: Tensor) -> TorchDistribution:
        return dist.Normal(location(loc), self.scale)


class SharedScaleNormal(Family):
    """Normal(loc, scale) with a learned scale shared by all data (Rybkin et al. 2021, sigma-VAE).

    Args:
        initial_scale: where the scale starts.
        shape: of the scale, broadcast against the event: () for one that all elements share, (D,) for one for each
            column of a table.
    """

    def __init__(self, initial_scale: float = 1.0, *, shape: Sequence[int] = ()) -> None:
        super().__init__()
        if not initial_scale > MIN_SCALE:
            raise PyrovaeError(f"the initial scale must exceed {MIN_SCALE}; got {initial_scale}")
        self.raw_scale = nn.Parameter(torch.full(tuple(shape), inverse_positive(initial_scale)))

    def forward(self, loc: Tensor) -> TorchDistribution:
        return dist.Normal(location(loc), positive(self.raw_scale))


class Categorical(Family):
    """Categorical over ``num_categories`` values 0, 1, ...: that many logits per element; x integer (any dtype)."""

    def __init__(self, num_categories: int) -> None:
        super().__init__()
        if num_categories < 2:
            raise PyrovaeError(f"a categorical needs at least two categories; got {num_categories}")
        self.num_params = num_categories

    def forward(self, *logits: Tensor) -> TorchDistribution:
        return _categorical(torch.stack(logits, -1))

    def of(self, params: Tensor, dim: int) -> TorchDistribution:
        # So many numbers are not taken apart and put together again.
        return _categorical(params.unflatten(dim, (self.num_params, -1)).movedim(dim, -1))

    def standard(self, event_shape: Sequence[int]) -> Tensor:
        """Uniform."""
        return self.params_at(torch.zeros(tuple(event_shape)))

    def params_at(self, mean: Tensor) -> Tensor:
        """Uniform: a mean says nothing about which category."""
        return mean.new_zeros(self.num_params * mean.shape[0], *mean.shape[1:])


def _categorical(logits: Tensor) -> TorchDistribution:
    # Torch subtracts logsumexp, which in float32 takes the digits of logits that are all large.
    return dist.Categorical(logits=logits.log_softmax(-1))


class Poisson(Family):
    """Poisson(rate) for counts x = 0, 1, 2, ...; rate = softplus(raw) + 1e-6.

    log p = x log rate - rate - log x!, nats. A softplus and not an exponential, whose density overflows.
    """

    def forward(self, raw: Tensor) -> TorchDistribution:
        return PoissonInFloat64(nn.functional.softplus(raw) + MIN_RATE)

    def params_at(self, mean: Tensor) -> Tensor:
        """The raw number whose softplus is the mean, which is kept above .001."""
        return inverse_softplus(mean.clamp(min=0.001))


class PoissonInFloat64(dist.Poisson):
    """Torch's, scored in float64."""

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return log_prob_in_float64(dist.Poisson, {"rate": self.rate}, value)
