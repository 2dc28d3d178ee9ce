"""One of D categories, made continuous."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Size, Tensor
from torch.distributions import constraints
from torch.distributions.relaxed_categorical import ExpRelaxedCategorical

from pyrovae.errors import PyrovaeError
from pyrovae.families.base import VectorFamily


class LogSimplex(constraints.Constraint):
    """Logarithms of the points of the simplex: vectors whose exponentials sum to one."""

    event_dim = 1

    def check(self, value: Tensor) -> Any:
        return value.logsumexp(-1).abs() < 1e-4

    def __repr__(self) -> str:
        return "LogSimplex()"


class LogRelaxedCategorical(ExpRelaxedCategorical, TorchDistributionMixin):
    """torch's ``ExpRelaxedCategorical``, with the support that it has, of which no draw is outside."""

    support = LogSimplex()  # type: ignore[assignment]

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return super().expand(batch_shape, _instance or type(self).__new__(type(self)))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        # What is subtracted to bring scores of thousands, at a low temperature, to the simplex is rounded as they are.
        return super().rsample(sample_shape).log_softmax(-1)


class RelaxedOneHotCategorical(VectorFamily):
    """z = log softmax((logits + g) / temperature), g from Gumbel: the logarithm of a point of the simplex, (D,).

    The point comes closer to a corner, the one-hot vector of a category, the lower the temperature; its samples are
    reparameterised. z is its logarithm and not the point itself, since a point rounds to zero in float32 where its
    density does not: at temperature 0.1 often. A density of z is finite at every temperature, and p(z) / q(z | x) is
    what it is for the points. A decoder reads the point itself by ``pyrovae.readings.Reading(net, Exp())``.

    log p(z) = log Gamma(D) + (D - 1) log temperature + sum_d (a_d - logsumexp_e a_e), a = logits - temperature z, with
    respect to dz_1 ... dz_D-1 / exp(z_D).

    Args:
        temperature: one value for all data, not trained. Maddison et al. find 2/3 good for a posterior, 0.5 for a
            prior.

    As a posterior it needs a relaxed prior: ``pyrovae.priors.Learned(pv.families.RelaxedOneHotCategorical(0.5), D)``.

    Maddison, Mnih & Teh 2017, "The concrete distribution"; Jang, Gu & Poole 2017.
    """

    temperature: Tensor

    def __init__(self, temperature: float) -> None:
        super().__init__()
        if not temperature > 0:
            raise PyrovaeError(f"the temperature must be positive; got {temperature}")
        self.register_buffer("temperature", torch.tensor(float(temperature)))

    def forward(self, logits: Tensor) -> TorchDistribution:
        relaxed: Any = LogRelaxedCategorical(self.temperature, logits=logits)
        return relaxed

    def out_shape(self, event_shape: Sequence[int]) -> Size:
        return Size((self.width(event_shape),))
