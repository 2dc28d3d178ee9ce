"""A mixture of normals whose samples carry gradients to every parameter."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor, nn
from torch.distributions import constraints


class PathwiseNormalMixture(TorchDistribution):
    """sum_k w_k prod_d Normal(z_d; loc_kd, scale_kd), reparameterised implicitly.

    Let F_d(z_d | z_<d) be the conditional distribution functions, of one-dimensional mixtures. What F maps a draw to
    is uniform whatever the parameters, so a draw moves with them as dz = -(dF/dz)^-1 dF, dF/dz being triangular. Such
    gradients are unbiased, those with respect to the weights too, and need no draw of the other components (Graves
    2016; Figurnov, Mohamed & Mnih 2018).

    Args:
        logits: (*batch, K), unnormalised log-weights.
        loc, scale: (*batch, K, D).
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "logits": constraints.real_vector,
        "loc": constraints.independent(constraints.real, 2),
        "scale": constraints.independent(constraints.positive, 2),
    }
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, logits: Tensor, loc: Tensor, scale: Tensor, *, validate_args: bool | None = None) -> None:
        self.logits, self.loc, self.scale = logits, loc, scale
        super().__init__(logits.shape[:-1], loc.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> PathwiseNormalMixture:
        new = self._get_checked_instance(PathwiseNormalMixture, _instance)
        batch = Size(batch_shape)
        new.logits = self.logits.expand(batch + self.logits.shape[-1:])
        new.loc, new.scale = (t.expand(batch + t.shape[-2:]) for t in (self.loc, self.scale))
        super(PathwiseNormalMixture, new).__init__(batch, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        _, log_n = self._components(value)
        return torch.logsumexp(self.logits.log_softmax(-1) + log_n.sum(-1), -1)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            z = self._draw(Size(sample_shape))
        return z - self._displacement(z) if torch.is_grad_enabled() else z

    def _draw(self, sample_shape: Size) -> Tensor:
        # The largest of log w_k plus Gumbel noise has probability w_k.
        waiting = self.logits.new_empty(sample_shape + self.logits.shape).exponential_()
        index = (self.logits - waiting.log()).argmax(-1)[..., None, None]
        both = (t.expand(sample_shape + t.shape) for t in (self.loc, self.scale))
        loc, scale = (t.take_along_dim(index, -2).squeeze(-2) for t in both)
        return torch.normal(loc, scale)

    def _components(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """Standardised values, and log-densities, of every dimension under every component, (*batch, K, D)."""
        e = (value.unsqueeze(-2) - self.loc) / self.scale
        return e, -0.5 * e.square() - self.scale.log() - 0.5 * math.log(2 * math.pi)

    def _displacement(self, z: Tensor) -> Tensor:
        """Zero, with the gradient -dz, (*batch, D)."""
        e, log_n = self._components(z)
        before = nn.functional.pad(log_n.cumsum(-1)[..., :-1], (1, 0))  # of the dimensions to the left
        weight = (self.logits.unsqueeze(-1) + before).softmax(-2)  # of the components, given these
        below = torch.special.ndtr(e)
        F = (weight * below).sum(-2)
        with torch.no_grad():
            density = (weight * log_n.exp()).sum(-2)
            slope = -e / self.scale  # d log_n / dz
            dF = torch.einsum("...kd,...ke->...de", weight * (below - F.unsqueeze(-2)), slope)  # below the diagonal
            triangle = dF / density.unsqueeze(-1)
        right = ((F - F.detach()) / density).unsqueeze(-1)
        return torch.linalg.solve_triangular(triangle, right, upper=False, unitriangular=True).squeeze(-1)

    @property
    def mean(self) -> Tensor:
        return (self.logits.softmax(-1).unsqueeze(-1) * self.loc).sum(-2)

    @property
    def variance(self) -> Tensor:
        second = self.logits.softmax(-1).unsqueeze(-1) * (self.loc.square() + self.scale.square())
        return second.sum(-2) - self.mean.square()
