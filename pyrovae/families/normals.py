"""Normals whose elements depend on each other, and their mixtures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor

from pyrovae.errors import PyrovaeError
from pyrovae.families.base import VectorFamily, inverse_positive, location, positive
from pyrovae.pathwise import PathwiseNormalMixture

LARGEST = 30.0
SLOW = 0.1  # an untrained network's D (D - 1) / 2 numbers, or D R, would else drown s in correlated noise


def triangular(raw_diagonal: Tensor, below: Tensor) -> Tensor:
    """A lower triangular matrix (*, D, D) with diagonal ``positive(raw_diagonal)``, (*, D), and ``below`` it, row by
    row, (*, D (D - 1) / 2)."""
    return with_diagonal(positive(raw_diagonal), below)


def with_diagonal(diagonal: Tensor, below: Tensor) -> Tensor:
    """A lower triangular matrix of these elements."""
    size = diagonal.shape[-1]
    rows, columns = torch.tril_indices(size, size, -1, device=below.device)
    strict = below.new_zeros(*below.shape[:-1], size, size)
    strict[..., rows, columns] = below
    return strict + diagonal.diag_embed()


class FullNormal(VectorFamily):
    """Normal(loc, L L^T) with a full covariance: D + D (D + 1) / 2 numbers, log p in nats.

    L = diag(s) (I + B) is the Cholesky factor: D locations, D raw numbers whose softplus is s, its diagonal, and those
    of B, strictly lower triangular. In units of s no element exceeds 30, B = 30 tanh(raw / 300), so that
    training starts close to a diagonal covariance.

    Example:
        >>> import torch, pyrovae as pv
        >>> family = pv.families.FullNormal()
        >>> family(torch.zeros(3, *family.out_shape((2,)))).covariance_matrix.shape
        torch.Size([3, 2, 2])
    """

    def forward(self, params: Tensor) -> TorchDistribution:
        width = (math.isqrt(9 + 8 * params.shape[-1]) - 3) // 2
        loc, raw, below = params.split([width, width, width * (width - 1) // 2], -1)
        scale, strict = positive(raw), LARGEST * torch.tanh(SLOW * below / LARGEST)
        unit = with_diagonal(torch.ones_like(scale), strict)
        return dist.MultivariateNormal(location(loc), scale_tril=scale.unsqueeze(-1) * unit)

    def out_shape(self, event_shape: Sequence[int]) -> Size:
        width = self.width(event_shape)
        return Size((width * (width + 3) // 2,))

    def params_at(self, mean: Tensor) -> Tensor:
        """The mean, and the identity as covariance."""
        below = mean.new_zeros(len(mean) * (len(mean) - 1) // 2)
        return torch.cat([mean, torch.full_like(mean, inverse_positive(1.0)), below])


class LowRankNormal(VectorFamily):
    """Normal(loc, diag(s) (I + U U^T) diag(s)) with U of ``rank`` columns: D (rank + 2) numbers, log p in nats.

    In units of the scales s no element of U exceeds 30, U = 30 tanh(raw / 300), so that I + U^T U can be factorised in
    float32 whatever a network gives. Rezende, Mohamed & Wierstra 2014, section 4.3, with more than one direction.

    Args:
        rank: R; densities and samples cost about D R^2 and never a D by D matrix.
    """

    def __init__(self, rank: int) -> None:
        super().__init__()
        if rank < 1:
            raise PyrovaeError(f"the rank must be at least 1; got {rank}")
        self.rank = rank

    def forward(self, params: Tensor) -> TorchDistribution:
        width = params.shape[-1] // (self.rank + 2)
        loc, raw_scale, raw = params.split([width, width, width * self.rank], -1)
        raw = raw.unflatten(-1, (width, self.rank))
        scale, factor = positive(raw_scale), LARGEST * torch.tanh(SLOW * raw / LARGEST)
        return dist.LowRankMultivariateNormal(location(loc), scale.unsqueeze(-1) * factor, scale.square())

    def out_shape(self, event_shape: Sequence[int]) -> Size:
        width = self.width(event_shape)
        return Size((width * (self.rank + 2),))

    def params_at(self, mean: Tensor) -> Tensor:
        """The mean, scales of 1 and a small random U, SLOW of a unit: at U = 0 its gradient is zero."""
        factor = torch.randn(len(mean) * self.rank).to(mean)
        return torch.cat([mean, torch.full_like(mean, inverse_positive(1.0)), factor])


class NormalMixture(VectorFamily):
    """sum_k w_k prod_d Normal(z_d; loc_kd, scale_kd): K (2 D + 1) numbers, log p in nats.

    Its samples carry gradients to all of them, the weights too (see ``PathwiseNormalMixture``).

    Args:
        num_components: K.
    """

    def __init__(self, num_components: int) -> None:
        super().__init__()
        if num_components < 1:
            raise PyrovaeError(f"a mixture needs at least one component; got {num_components}")
        self.num_components = num_components

    def forward(self, params: Tensor) -> TorchDistribution:
        count = self.num_components
        logits, rest = params.split([count, params.shape[-1] - count], -1)
        loc, raw_scale = rest.unflatten(-1, (2, count, -1)).unbind(-3)
        return PathwiseNormalMixture(logits, location(loc), positive(raw_scale))

    def out_shape(self, event_shape: Sequence[int]) -> Size:
        width = self.width(event_shape)
        return Size((self.num_components * (2 * width + 1),))

    def params_at(self, mean: Tensor) -> Tensor:
        """Equal weights, scales of 1, and locations around the mean: components in one place would stay together."""
        loc = mean + torch.randn(self.num_components, len(mean)).to(mean)
        scale = torch.full_like(loc, inverse_positive(1.0))
        return torch.cat([mean.new_zeros(self.num_components), (loc - loc.mean(0) + mean).flatten(), scale.flatten()])
