"""Probabilities of levels x = k / (L - 1), k = 0 .. L - 1: grey values as the whole numbers that they are.

Those of a real density rounded to the nearest level; the first and the last level take the tails.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints
from torch.nn.functional import logsigmoid

from pyrovae.errors import PyrovaeError
from pyrovae.families.base import Family, location, positive
from pyrovae.families.special import log_ndtr, log_sinhc
from pyrovae.families.supports import Levels, checked


class Rounded(TorchDistribution):
    """A real density rounded to levels, elementwise.

    Subclasses say ``log_between(a, b, width)``, log P(a < t < b) of the standardised number t with b = a + width;
    ``log_below(b)``, log P(t < b), for a density that is even; and ``draw(shape)``.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "loc": constraints.real,
        "scale": constraints.positive,
    }

    def __init__(self, loc: Tensor, scale: Tensor, num_levels: int, *, validate_args: bool | None = None) -> None:
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        self.num_levels = num_levels
        super().__init__(self.loc.shape, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> constraints.Constraint:
        return Levels(self.num_levels)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Rounded:
        loc, scale = self.loc.expand(batch_shape), self.scale.expand(batch_shape)
        return type(self)(loc, scale, self.num_levels, validate_args=self._validate_args)

    def log_between(self, a: Tensor, b: Tensor, width: Tensor) -> Tensor:
        raise NotImplementedError

    def log_below(self, b: Tensor) -> Tensor:
        raise NotImplementedError

    def draw(self, shape: Size) -> Tensor:
        raise NotImplementedError

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        half = 0.5 / (self.num_levels - 1)
        a, b = (value - half - self.loc) / self.scale, (value + half - self.loc) / self.scale
        first, last = value < half, value > 1 - half
        ends = self.log_below(torch.where(first, b, -a))
        return torch.where(first | last, ends, self.log_between(a, b, 2 * half / self.scale))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            real = self.loc + self.scale * self.draw(self._extended_shape(sample_shape))
            return (real.clamp(0, 1) * (self.num_levels - 1)).round() / (self.num_levels - 1)

    @property
    def mean(self) -> Tensor:
        """The sum over k > 0 of P(x >= level k), a level at a time: no tensor holds all levels of all elements."""
        last = self.num_levels - 1
        above = (self.log_below((self.loc - (k - 0.5) / last) / self.scale).exp() for k in range(1, last + 1))
        return sum(above, start=torch.zeros_like(self.loc)) / last


class RoundedLogistic(Rounded):
    """P = sigma(b) - sigma(a) = sigma(b) sigma(-a) (1 - exp(a - b)), so that no difference is ever taken."""

    def log_between(self, a: Tensor, b: Tensor, width: Tensor) -> Tensor:
        return logsigmoid(b) + logsigmoid(-a) + torch.log(-torch.expm1(-width))

    def log_below(self, b: Tensor) -> Tensor:
        return logsigmoid(b)

    def draw(self, shape: Size) -> Tensor:
        return torch.rand(shape, dtype=self.loc.dtype, device=self.loc.device).clamp(1e-7, 1 - 1e-7).logit()


class RoundedNormal(Rounded):
    """P = Phi(b) - Phi(a), mirrored into the lower tail where Phi is small and its logarithm exact.

    Where the cell is narrow, so that the difference would cancel, the density at its middle times the integral of the
    exponential that touches it there.
    """

    NARROW = 0.02

    def log_between(self, a: Tensor, b: Tensor, width: Tensor) -> Tensor:
        middle = (a + b) / 2
        narrow = width < self.NARROW
        density = dist.Normal(torch.zeros_like(middle), 1.0, validate_args=False).log_prob(middle)
        touching = density + width.log() + log_sinhc(torch.where(narrow, middle * width / 2, 0.0))
        low, high = torch.where(middle > 0, -b, a), torch.where(middle > 0, -a, b)  # Phi(b) - Phi(a) mirrored
        log_low, log_high = log_ndtr(low), log_ndtr(high)
        difference = log_high + torch.log(-torch.expm1((log_low - log_high).clamp(max=-1e-4)))
        return torch.where(narrow, touching, difference)

    def log_below(self, b: Tensor) -> Tensor:
        return log_ndtr(b)

    def draw(self, shape: Size) -> Tensor:
        return torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)


class DiscretizedLogistic(Family):
    """P(x) = sigma((x + h - loc) / s) - sigma((x - h - loc) / s), h half a level, x = k / (L - 1); nats.

    The first level reaches down to minus infinity, the last one up to infinity (Kingma et al. 2016; Salimans et al.
    2017). Two numbers per element: loc, raw scale.

    Args:
        num_levels: L.
    """

    num_params = 2

    def __init__(self, num_levels: int = 256) -> None:
        super().__init__()
        self.num_levels = checked(num_levels)

    def forward(self, loc: Tensor, raw_scale: Tensor) -> TorchDistribution:
        return RoundedLogistic(location(loc), positive(raw_scale), self.num_levels)


class DiscretizedNormal(DiscretizedLogistic):
    """P(x) = Phi((x + h - loc) / s) - Phi((x - h - loc) / s), h half a level, x = k / (L - 1); nats.

    Else as ``DiscretizedLogistic``; slower, as Phi is.
    """

    def forward(self, loc: Tensor, raw_scale: Tensor) -> TorchDistribution:
        return RoundedNormal(location(loc), positive(raw_scale), self.num_levels)


class DiscretizedLogisticMixture(Family):
    """P(x) = sum_j w_j P_j(x), each a discretized logistic; x = k / (L - 1); nats. 3 J numbers per element.

    Salimans et al. 2017, PixelCNN++, with all its channels independent.

    Args:
        num_components: J.
        num_levels: L.
    """

    def __init__(self, num_components: int = 5, num_levels: int = 256) -> None:
        super().__init__()
        if num_components < 1:
            raise PyrovaeError(f"a mixture needs at least one component; got {num_components}")
        self.num_components, self.num_levels = num_components, checked(num_levels)
        self.num_params = 3 * num_components

    def forward(self, *params: Tensor) -> TorchDistribution:
        logits, loc, raw_scale = torch.stack(params, -1).chunk(3, -1)
        components = RoundedLogistic(location(loc), positive(raw_scale), self.num_levels)
        return dist.MixtureSameFamily(dist.Categorical(logits=logits), components)

    def params_at(self, mean: Tensor) -> Tensor:
        """Locations a little apart around the mean: equal components would stay equal."""
        apart = torch.linspace(-0.1, 0.1, self.num_components).tolist() if self.num_components > 1 else [0.0]
        zeros = [torch.zeros_like(mean)] * self.num_components
        return torch.cat([*zeros, *(mean + shift for shift in apart), *zeros])

    def standard(self, event_shape: Sequence[int]) -> Tensor:
        return self.params_at(torch.zeros(tuple(event_shape)))
