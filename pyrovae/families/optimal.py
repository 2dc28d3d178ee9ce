"""A normal whose scale is maximised in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyrovae.errors import PyrovaeError
from pyrovae.families.base import MIN_SCALE, Family, location

DECAY = 0.9  # the stored scale is that of about the last ten batches
FAINT = 1e-6  # elements that the initial scale counts for


class OptimalScaleNormal(Family):
    """Normal(loc, s), s the root mean squared residual of the batch (Rybkin et al. 2021, optimal sigma-VAE); nats.

    s is a parameter that is shared by all data, as ``SharedScaleNormal``'s, and maximised in closed form instead of by
    gradients: given the locations, s^2 = mean (x - loc)^2 maximises the batch's log p(x | z). It is held fixed where
    gradients are taken. Each step stores it; evaluation (validation, ``pyrovae.log_marginal``, whatever is without
    gradients) uses what was stored, the same for all data: the root mean square of about the last ten batches, which
    are weighed by their size. Never below 1e-4.

    One number per element, loc. A likelihood only: a posterior would measure the noise it has drawn itself.

    Args:
        initial_scale: before the first step.
        shape: of the scale, broadcast against the event: () for one that all elements share, (D,) for one for each
            column of a table.
    """

    squares: Tensor
    count: Tensor

    def __init__(self, initial_scale: float = 1.0, *, shape: Sequence[int] = ()) -> None:
        super().__init__()
        if not initial_scale > MIN_SCALE:
            raise PyrovaeError(f"the initial scale must exceed {MIN_SCALE}; got {initial_scale}")
        self.register_buffer("squares", torch.full(tuple(shape), FAINT * initial_scale**2))
        self.register_buffer("count", torch.full(tuple(shape), FAINT))

    @property
    def scale(self) -> Tensor:
        """What is stored, of the given shape."""
        return scale_of(self.squares, self.count)

    def forward(self, loc: Tensor) -> TorchDistribution:
        normal = OptimalNormal(location(loc), self.scale)
        normal.family = self if self.training and torch.is_grad_enabled() else None
        return normal

    @torch.no_grad()
    def maximised(self, residual: Tensor, seen: Tensor | None) -> Tensor:
        """The scale at these residuals, which is stored too; ``seen`` is the mask of those that count."""
        seen = torch.ones_like(residual) if seen is None else seen.to(residual).expand_as(residual)
        squares = (residual.square() * seen).sum_to_size(self.squares.shape)
        count = seen.sum_to_size(self.count.shape)
        self.squares.mul_(DECAY).add_(squares)
        self.count.mul_(DECAY).add_(count)
        return scale_of(squares, count)


def scale_of(squares: Tensor, count: Tensor) -> Tensor:
    """The root mean square, at least 1e-4."""
    return (squares / count.clamp(min=FAINT / 2)).sqrt().clamp(min=MIN_SCALE)


class OptimalNormal(dist.Normal):
    """A normal that takes its scale, while its family trains, from what it scores."""

    has_rsample = False
    family: OptimalScaleNormal | None = None
    seen: Tensor | None = None

    def expand(self, batch_shape: Any, _instance: Any = None) -> OptimalNormal:
        expanded: OptimalNormal = super().expand(batch_shape, _instance)
        expanded.family, expanded.seen = self.family, self.seen
        return expanded

    def mask(self, mask: Any) -> TorchDistribution:
        """Residuals that are masked do not count."""
        own = self.expand(self.batch_shape)
        if isinstance(mask, Tensor):
            own.seen = mask if self.seen is None else mask & self.seen
        masked: TorchDistribution = super(OptimalNormal, own).mask(mask)
        return masked

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        residual = value - self.loc
        scale = self.scale if self.family is None else self.family.maximised(residual.detach(), self.seen)
        normal = dist.Normal(torch.zeros_like(residual), scale, validate_args=False)
        log_p: Tensor = normal.log_prob(residual)
        return log_p
