"""Densities of real numbers with heavier tails than a normal's."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from pyrovae.errors import PyrovaeError
from pyrovae.families.base import Family, concentration, inverse_positive, location, positive
from pyrovae.families.special import log_prob_in_float64


class Laplace(Family):
    """p(x) = exp(-|x - loc| / scale) / (2 scale), x real; nats. Two numbers per element: loc, raw scale.

    Its tails and its sharp mode suit residuals of which most are small and some large.
    """

    num_params = 2

    def forward(self, loc: Tensor, raw_scale: Tensor) -> TorchDistribution:
        return dist.Laplace(location(loc), positive(raw_scale))


class StudentT(Family):
    """p(x) = t_df((x - loc) / scale) / scale, x real; nats. Two numbers per element: loc, raw scale.

    log p = log G((df + 1) / 2) - log G(df / 2) - log(pi df) / 2 - log scale
            - (df + 1) / 2 log(1 + (x - loc)^2 / (df scale^2)),

    where G is the gamma function and df > 1, so that the mean exists. Takahashi et al. 2018, "Student-t variational
    autoencoder for robust density estimation".

    Args:
        initial_df: where the learned degrees of freedom start that all elements share; None for a third number per
            element.
    """

    def __init__(self, initial_df: float | None = 5.0) -> None:
        super().__init__()
        if initial_df is not None and not initial_df > 1.01:
            raise PyrovaeError(f"the degrees of freedom of a Student-t must exceed 1.01; got {initial_df}")
        self.num_params = 3 if initial_df is None else 2
        self.raw_df = None if initial_df is None else nn.Parameter(torch.tensor(inverse_positive(initial_df - 1)))

    def forward(self, loc: Tensor, raw_scale: Tensor, raw_df: Tensor | None = None) -> TorchDistribution:
        raw = self.raw_df if raw_df is None else raw_df
        assert raw is not None
        return StudentTInFloat64(1 + concentration(raw), location(loc), positive(raw_scale))


class StudentTInFloat64(dist.StudentT):
    """Torch's, scored in float64."""

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return log_prob_in_float64(dist.StudentT, {"df": self.df, "loc": self.loc, "scale": self.scale}, value)
