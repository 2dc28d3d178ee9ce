"""A normal whose scale is maximised in closed form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyrovae.errors import PyrovaeError
from pyrovae.families.base import MIN_SCALE, Family, location

DECAY = 0.9  # the stored scale is that of about the last ten batches
FAINT = 1e-6  # elements that the initial scale counts for, so that the first batch replaces it


class OptimalScaleNormal(Family):
    """Normal(loc, s), s the root mean squared residual of recent batches (Rybkin et al. 2021, optimal sigma-VAE); nats.

    s is a parameter that is shared by all data, as ``SharedScaleNormal``'s, and maximised in closed form instead of by
    gradients: given the locations and z, s^2 = sum w (x - loc)^2 / sum w maximises sum w log p(x | z). The weight w of
    an element is what the objective's gradient says that its log p counts for: zero where it is masked, q(z | x) where
    z is enumerated, the importance weight of its particle under ``iwae``. So s is stored when gradients are taken, for
    the next step: that of about the last ten batches, which are weighed by their size, and never less than 1e-4. What
    is not finite is not stored, and evaluation stores nothing.

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
        return (self.squares / self.count).sqrt().clamp(min=MIN_SCALE)

    def forward(self, loc: Tensor) -> TorchDistribution:
        normal = OptimalNormal(location(loc), self.scale)
        normal.family = self if self.training else None
        return normal

    @torch.no_grad()
    def store(self, residual: Tensor, weight: Tensor) -> None:
        """Count residuals of these weights, in place and without looking at a value: steps are traced."""
        weight = weight.abs() * weight.numel()  # objectives are means over a batch; in Pyro's losses they are negative
        squares = DECAY * self.squares + (weight * residual.square()).sum_to_size(self.squares.shape)
        count = DECAY * self.count + weight.sum_to_size(self.count.shape)
        good = squares.isfinite() & count.isfinite() & (count > DECAY * self.count)  # else nothing of it was seen
        self.squares.copy_(torch.where(good, squares, self.squares))
        self.count.copy_(torch.where(good, count, self.count))


class OptimalNormal(dist.Normal):
    """A normal that tells its family, while that trains, of the residuals that it scores."""

    has_rsample = False
    family: OptimalScaleNormal | None = None

    def expand(self, batch_shape: Any, _instance: Any = None) -> OptimalNormal:
        expanded: OptimalNormal = super().expand(batch_shape, _instance)
        expanded.family = self.family
        return expanded

    def log_prob(self, value: Tensor) -> Tensor:
        log_p: Tensor = super().log_prob(value)
        if self.family is not None and log_p.requires_grad:
            residual = (value - self.loc).detach()
            log_p.register_hook(_first(partial(self.family.store, residual)))
        return log_p


def _first(call: Callable[[Tensor], None]) -> Callable[[Tensor], None]:
    """Called for the first gradient only: an estimator with two roles takes one for each, the model's first."""
    calls = [call]

    def hook(gradient: Tensor) -> None:
        if calls:
            calls.pop()(gradient)

    return hook
