"""A categorical over levels, affordable for images."""

from __future__ import annotations

from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints

from pyrovae.errors import PyrovaeError
from pyrovae.families.base import Family
from pyrovae.families.supports import Levels, checked


class CategoricalLevels(Family):
    """P(x) = softmax(W f + c)_k for x = k / (L - 1), with f a few numbers per element and W, c shared by all; nats.

    A categorical over levels that says nothing about which of them are close. Logits straight from a network would be
    L numbers per element; here they are a linear map, of learned W (L x F), of F.

    Args:
        num_levels: L.
        num_features: F, how many numbers per element the network gives.
    """

    def __init__(self, num_levels: int = 256, num_features: int = 8) -> None:
        super().__init__()
        if num_features < 1:
            raise PyrovaeError(f"there must be at least one feature; got {num_features}")
        self.num_levels, self.num_params = checked(num_levels), num_features
        self.logits = nn.Linear(num_features, num_levels)

    def forward(self, *features: Tensor) -> TorchDistribution:
        return LevelsCategorical(self.logits(torch.stack(features, -1)))


class LevelsCategorical(TorchDistribution):
    """A categorical over k / (L - 1); logits (*batch, L)."""

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {"logits": constraints.real_vector}

    def __init__(self, logits: Tensor, *, validate_args: bool | None = None) -> None:
        self.logits = logits
        super().__init__(logits.shape[:-1], validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> constraints.Constraint:
        return Levels(self.logits.shape[-1])

    def expand(self, batch_shape: Any, _instance: Any = None) -> LevelsCategorical:
        return LevelsCategorical(
            self.logits.expand(*batch_shape, self.logits.shape[-1]), validate_args=self._validate_args
        )

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        k = (value * (self.logits.shape[-1] - 1)).round().long()
        shape = torch.broadcast_shapes(k.shape, self.batch_shape)
        log_p = self.logits.log_softmax(-1).expand(*shape, self.logits.shape[-1])
        return log_p.gather(-1, k.expand(shape).unsqueeze(-1)).squeeze(-1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        level = dist.Categorical(logits=self.logits, validate_args=False).sample(sample_shape)
        return level.to(self.logits) / (self.logits.shape[-1] - 1)

    @property
    def mean(self) -> Tensor:
        return self.logits.softmax(-1) @ torch.linspace(0, 1, self.logits.shape[-1]).to(self.logits)
