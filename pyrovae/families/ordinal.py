"""Ordered categories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints
from torch.nn.functional import logsigmoid

from pyrovae.errors import PyrovaeError
from pyrovae.families.base import Family, inverse_positive, location, positive
from pyrovae.families.special import solved


class Ordinal(Family):
    """P(x <= k) = sigma(c_k - f) with learned cut points c_0 < .. < c_{K-2}; x = 0 .. K - 1 (any dtype); nats.

    The cumulative logit, or proportional odds, model (McCullagh 1980). One number f per element. As f grows, so does x.

    Args:
        num_categories: K.
        shape: of the elements that have cut points of their own, broadcast against the event: () for one set that all
            share, (D,) for one for each column of a table.
    """

    def __init__(self, num_categories: int, *, shape: Sequence[int] = ()) -> None:
        super().__init__()
        if num_categories < 2:
            raise PyrovaeError(f"an ordinal variable needs at least two categories; got {num_categories}")
        self.num_categories = num_categories
        self.first = nn.Parameter(torch.full((*shape, 1), -(num_categories - 2) / 2))
        self.raw_gaps = nn.Parameter(torch.full((*shape, num_categories - 2), inverse_positive(1.0)))

    @property
    def cut_points(self) -> Tensor:
        """(*shape, K - 1), ordered."""
        return torch.cat([self.first, self.first + positive(self.raw_gaps).cumsum(-1)], -1)

    def forward(self, predictor: Tensor) -> TorchDistribution:
        return CumulativeLogit(location(predictor), self.cut_points)

    def params_at(self, mean: Tensor) -> Tensor:
        """The number that gives this mean at the present cut points."""
        with torch.no_grad():
            inside = mean.clamp(0.01, self.num_categories - 1.01)
            return solved(lambda f: CumulativeLogit(f, self.cut_points.to(mean)).mean, inside)


class CumulativeLogit(TorchDistribution):
    """P(x = k) = sigma(c_k - f) sigma(f - c_{k-1}) (1 - exp(c_{k-1} - c_k)): the difference, without taking it.

    Args:
        predictor: f, (*batch,).
        cut_points: c, (*shape, K - 1), where (*shape,) broadcasts to the batch's last dimensions.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "predictor": constraints.real,
        "cut_points": constraints.dependent(event_dim=1),
    }

    def __init__(self, predictor: Tensor, cut_points: Tensor, *, validate_args: bool | None = None) -> None:
        self.predictor, self.cut_points = predictor, cut_points
        super().__init__(torch.broadcast_shapes(predictor.shape, cut_points.shape[:-1]), validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> constraints.Constraint:
        return constraints.integer_interval(0, self.cut_points.shape[-1])

    def expand(self, batch_shape: Any, _instance: Any = None) -> CumulativeLogit:
        return CumulativeLogit(self.predictor.expand(batch_shape), self.cut_points, validate_args=self._validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        k, last = value.long(), self.cut_points.shape[-1]
        shape = torch.broadcast_shapes(k.shape, self.batch_shape)
        cuts = self.cut_points.expand(*shape, last)
        upper = cuts.gather(-1, k.expand(shape).clamp(max=last - 1).unsqueeze(-1)).squeeze(-1)
        lower = cuts.gather(-1, (k.expand(shape) - 1).clamp(min=0).unsqueeze(-1)).squeeze(-1)
        first, final = k == 0, k == last
        gap = (upper - lower).masked_fill(first | final, 1.0)
        inner = torch.log(-torch.expm1(-gap)).masked_fill(first | final, 0.0)
        below = logsigmoid(upper - self.predictor).masked_fill(final, 0.0)
        return below + logsigmoid(self.predictor - lower).masked_fill(first, 0.0) + inner

    def sample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        with torch.no_grad():
            noise = torch.rand(shape, dtype=self.predictor.dtype, device=self.predictor.device).clamp(1e-7, 1 - 1e-7)
            return ((self.predictor + noise.logit()).unsqueeze(-1) > self.cut_points).sum(-1).to(self.predictor)

    @property
    def mean(self) -> Tensor:
        """The sum over k of P(x > k)."""
        return (self.predictor.unsqueeze(-1) - self.cut_points).sigmoid().sum(-1)
