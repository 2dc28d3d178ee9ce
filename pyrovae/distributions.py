"""Densities that neither torch nor Pyro has in a form fast enough."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints

from pyrovae.precision import float64


def mixture(logits: Tensor, components: TorchDistribution) -> TorchDistribution:
    """sum_k softmax(logits)_k p_k(z), where ``components`` has batch shape (K,).

    Normals take the fast forms ``DiagonalNormalMixture`` and ``FullNormalMixture``; anything else is torch's
    MixtureSameFamily.
    """
    if _is_diagonal_normal(components):
        return DiagonalNormalMixture(logits, components.base_dist.loc, components.base_dist.scale)
    if isinstance(components, dist.MultivariateNormal) and len(components.batch_shape) == 1:
        return FullNormalMixture(logits, components.loc, components.scale_tril)
    return dist.MixtureSameFamily(dist.Categorical(logits=logits), components)


def _is_diagonal_normal(components: TorchDistribution) -> bool:
    independent = isinstance(components, dist.Independent) and components.reinterpreted_batch_ndims == 1
    return independent and isinstance(components.base_dist, dist.Normal) and len(components.batch_shape) == 1


Precision = Callable[[Tensor], Tensor]  # of what a density is made of


def same(x: Tensor) -> Tensor:
    return x


class _NormalMixture(TorchDistribution):
    """sum_k w_k Normal_k(z). The components have no batch dimension, so that expanding is a label; the weights may.

    Subclasses say what a square is, (z - m)^T C^-1 (z - m) + D log 2 pi, and draw. Densities are made in float64
    under ``no_grad``, else in the dtype of the parameters.
    """

    support = constraints.real_vector
    has_rsample = False
    logits: Tensor
    loc: Tensor

    def __init__(self, validate_args: bool | None) -> None:
        super().__init__(self.logits.shape[:-1], self.loc.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> _NormalMixture:
        new: _NormalMixture = type(self).__new__(type(self)) if _instance is None else _instance
        new.__dict__.update(self.__dict__)
        TorchDistribution.__init__(new, Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        exact = same if torch.is_grad_enabled() else float64  # where figures are reported; training can do with float32
        log_weights = exact(self.logits).log_softmax(-1) - self._log_scales(exact)
        log_prob = torch.logsumexp(log_weights - 0.5 * self._squares(exact(value), exact), -1).to(value)
        return log_prob.expand(torch.broadcast_shapes(log_prob.shape, self.batch_shape))

    @torch.no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        own = len(self.batch_shape) - (self.logits.dim() - 1)  # where the dimensions of the weights begin
        weights = dist.Categorical(logits=self.logits.expand(*self.batch_shape[own:], -1))
        return self._drawn(weights.sample(Size(sample_shape) + self.batch_shape[:own]))

    @property
    def mean(self) -> Tensor:
        return (self.logits.softmax(-1) @ self.loc).expand(self.batch_shape + self.event_shape)

    @property
    def variance(self) -> Tensor:
        second = self.logits.softmax(-1) @ (self.loc.square() + self._variances())
        return second.expand(self.batch_shape + self.event_shape) - self.mean.square()

    def _squares(self, value: Tensor, exact: Precision) -> Tensor:  # (*batch, K)
        raise NotImplementedError

    def _log_scales(self, exact: Precision) -> Tensor:  # half the log-determinants of the covariances, (K,)
        raise NotImplementedError

    def _variances(self) -> Tensor:  # (K, D)
        raise NotImplementedError

    def _drawn(self, index: Tensor) -> Tensor:
        raise NotImplementedError


class DiagonalNormalMixture(_NormalMixture):
    """sum_k w_k prod_d Normal(z_d; loc_kd, scale_kd), with a log-density made of one matrix product.

    The square (z - m)^2 / s^2 is expanded so that the (points x K x D) tensor of the direct form never exists: with
    500 components that is the difference between an affordable prior and none. Locations are centred first, which
    keeps the cancellation small: about 1e-7 (|z - mean| / s)^2 while training in float32, and none that matters under
    ``no_grad``, where the product is made in float64.

    Args:
        logits: (K,), unnormalised log-weights; or (N, K), of each datum, -inf for a component that it does without.
        loc, scale: (K, D).

    ``log_prob`` maps (*batch, D) to (*batch,), in nats.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "logits": constraints.real_vector,
        "loc": constraints.independent(constraints.real, 2),
        "scale": constraints.independent(constraints.positive, 2),
    }

    def __init__(self, logits: Tensor, loc: Tensor, scale: Tensor, *, validate_args: bool | None = None) -> None:
        self.logits, self.loc, self.scale = logits, loc, scale
        super().__init__(validate_args)

    def _squares(self, value: Tensor, exact: Precision) -> Tensor:
        loc, precision = exact(self.loc), exact(self.scale).pow(-2)
        centre = loc.mean(0)
        z, m = value - centre, loc - centre
        weight = torch.cat([precision, -2 * m * precision], -1)  # (K, 2 D)
        constant = (m.square() * precision).sum(-1) + self.loc.shape[-1] * math.log(2 * math.pi)
        return torch.cat([z.square(), z], -1) @ weight.T + constant

    def _log_scales(self, exact: Precision) -> Tensor:
        return exact(self.scale).log().sum(-1)

    def _variances(self) -> Tensor:
        return self.scale.square()

    def _drawn(self, index: Tensor) -> Tensor:
        return torch.normal(self.loc[index], self.scale[index])


class FullNormalMixture(_NormalMixture):
    """sum_k w_k Normal(z; loc_k, L_k L_k^T), with a log-density made of one matrix product, by the inverses of L.

    Args:
        logits: (K,), unnormalised log-weights; or (N, K), of each datum.
        loc: (K, D).
        scale_tril: L, (K, D, D), lower triangular with a positive diagonal.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "logits": constraints.real_vector,
        "loc": constraints.independent(constraints.real, 2),
        "scale_tril": constraints.independent(constraints.lower_cholesky, 1),
    }

    def __init__(self, logits: Tensor, loc: Tensor, scale_tril: Tensor, *, validate_args: bool | None = None) -> None:
        self.logits, self.loc, self.scale_tril = logits, loc, scale_tril
        super().__init__(validate_args)

    def _squares(self, value: Tensor, exact: Precision) -> Tensor:
        loc, (count, width) = exact(self.loc), self.loc.shape
        eye = torch.eye(width, dtype=loc.dtype, device=loc.device)
        inverse = torch.linalg.solve_triangular(exact(self.scale_tril), eye, upper=False)  # (K, D, D)
        centre = loc.mean(0)
        m = (inverse @ (loc - centre).unsqueeze(-1)).squeeze(-1)  # (K, D)
        z = ((value - centre) @ inverse.reshape(count * width, width).T).unflatten(-1, (count, width))
        return (z - m).square().sum(-1) + width * math.log(2 * math.pi)

    def _log_scales(self, exact: Precision) -> Tensor:
        return exact(self.scale_tril).diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def _variances(self) -> Tensor:
        return self.scale_tril.square().sum(-1)

    def _drawn(self, index: Tensor) -> Tensor:
        noise = torch.randn((*index.shape, *self.event_shape), dtype=self.loc.dtype, device=self.loc.device)
        return self.loc[index] + (self.scale_tril[index] @ noise.unsqueeze(-1)).squeeze(-1)
