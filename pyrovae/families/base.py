"""What a family is, and how many numbers it wants from a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor, nn

from pyrovae.errors import PyrovaeError
from pyrovae.recorded import Recorded

MIN_SCALE = 1e-4  # keeps the density of a normal finite when its network drives the scale to zero
MIN_RATE = 1e-6  # keeps a count finite in log-density where the network says that it never occurs
MAX_LOCATION = 1e10  # the gradient of its square, over the square of MIN_SCALE twice, is finite in float32
MAX_SCALE = 1e10  # so that its square, and products with what it scales, do not overflow
MAX_CONCENTRATION = 1e6  # where a beta, gamma or Student-t density has long taken the shape of its limit


def positive(raw: Tensor) -> Tensor:
    """A scale from any real number: softplus(raw) + 1e-4, so that no density grows without bound; at most 1e10."""
    return (nn.functional.softplus(raw) + MIN_SCALE).clamp(max=MAX_SCALE)


def location(raw: Tensor) -> Tensor:
    """A location: the number itself, held within +-1e10, so that no square of it overflows."""
    return raw.clamp(-MAX_LOCATION, MAX_LOCATION)


def concentration(raw: Tensor) -> Tensor:
    """A concentration, shape or count parameter from any real number: ``positive(raw)``, at most 1e6."""
    return positive(raw).clamp(max=MAX_CONCENTRATION)


def inverse_softplus(value: Tensor) -> Tensor:
    """The number whose softplus is ``value`` > 0."""
    return value + torch.log(-torch.expm1(-value))


def inverse_positive(scale: float) -> float:
    """The raw number of a scale: ``positive(inverse_positive(s)) = s`` for s > 1e-4."""
    value = scale - MIN_SCALE
    return value + math.log(-math.expm1(-value))


def num_params(family: Callable[..., TorchDistribution]) -> int:
    """How many numbers per element a family wants from the network: what it says, or one."""
    return getattr(family, "num_params", 1)


class Family(Recorded, nn.Module):
    """Base of the library's families: a module, so that a family may own parameters (a shared scale)."""

    num_params = 1

    def out_shape(self, event_shape: Sequence[int]) -> Size:
        """The event shape of the network's output: k numbers per element, stacked along the first dimension."""
        return Size((self.num_params * event_shape[0], *event_shape[1:]))

    def of(self, params: Tensor, dim: int) -> TorchDistribution:
        """The distribution of numbers (*batch, k * C, ...), where ``dim`` is the dimension of k * C."""
        distribution: TorchDistribution = self(*params.chunk(self.num_params, dim))
        return distribution

    def params_at(self, mean: Tensor) -> Tensor:
        """The parameters, in the network's layout, that give ``mean``: where an output bias should start.

        By default the first parameter is the mean and the others start at zero.
        """
        others = [torch.zeros_like(mean)] * (self.num_params - 1)
        return torch.cat([mean, *others])

    def standard(self, event_shape: Sequence[int]) -> Tensor:
        """The parameters where a prior starts: location 0, and whatever else is positive at 1."""
        others = [torch.full(tuple(event_shape), inverse_positive(1.0))] * (self.num_params - 1)
        return torch.cat([torch.zeros(tuple(event_shape)), *others])


class VectorFamily(Family):
    """Base of families of a whole vector: ``family(params)`` gets the network's output as it is.

    The distribution has event shape (D,) and is not the product over its elements, so single missing values cannot
    be integrated out by leaving out their factors.
    """

    def out_shape(self, event_shape: Sequence[int]) -> Size:
        raise TypeError(f"{type(self).__name__} must define out_shape(event_shape)")

    def width(self, event_shape: Sequence[int]) -> int:
        """D. Raises PyrovaeError where the event is no vector: the product over its rows would be another family."""
        if len(event_shape) != 1:
            raise PyrovaeError(
                f"{type(self).__name__} is of vectors; got events of shape {tuple(event_shape)}: flatten them"
            )
        return event_shape[0]

    def params_at(self, mean: Tensor) -> Tensor:
        """Zeros, of ``out_shape(mean.shape)``: a mean of each element says little about the whole."""
        return mean.new_zeros(self.out_shape(mean.shape))

    def standard(self, event_shape: Sequence[int]) -> Tensor:
        return self.params_at(torch.zeros(tuple(event_shape)))


def out_shape(family: Callable[..., TorchDistribution], event_shape: Sequence[int]) -> Size:
    """The event shape of the network's output that makes ``family`` a distribution of events of this shape."""
    if isinstance(family, Family):
        return family.out_shape(event_shape)
    return Size((num_params(family) * event_shape[0], *event_shape[1:]))
