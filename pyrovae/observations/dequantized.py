"""Levels of grey, or any whole numbers, under densities of real numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.poutine.runtime import get_plates
from torch import Tensor, nn
from torch.distributions import constraints

from pyrovae.conditional import Product
from pyrovae.errors import PyrovaeError
from pyrovae.families import supports
from pyrovae.observations.base import Observation, auxiliary, example
from pyrovae.observations.missing import Incomplete
from pyrovae.placed import Placed
from pyrovae.supports import of_distribution, place
from pyrovae.trees import Tree


class Dequantized(Observation):
    """Levels k = 0 .. L - 1 as the cells of a density: P(k | z) = E_u p((k + u) / L | z) L^-D, u uniform on [0, 1)^D.

    x holds k / (L - 1), grey values in [0, 1]. The noise u is a site of model and guide, ``x.noise``, drawn anew for
    every particle, so that ``log_marginal`` integrates it out as it does z, and its figures are of the probabilities
    of the levels: comparable with those of discrete likelihoods, in bits per dimension too. The mass that p puts
    outside [0, 1] is lost, so these probabilities may sum to less than one.

    In the guide the noise is uniform (Theis, van den Oord & Bethge 2016), or drawn from q(u | x), which tightens the
    bound (variational dequantization: Ho et al. 2019, Flow++)::

        net = pv.networks.MLP(784, 256, pv.families.out_shape(pv.families.logit_normal, (784,)))
        pv.Dequantized(decoder, noise=pv.Conditional(net, pv.families.logit_normal))

    Args:
        decoder: p(v | z), a density of real numbers, on [0, 1] at least.
        num_levels: L.
        noise: q(u | x), a module that maps x to a distribution on [0, 1)^D, of x's event shape; uniform by default.

    Raises:
        PyrovaeError: fewer than two levels; a decoder that is no density of real numbers.

    Draws are levels; the mean of a reconstruction is on the same scale, to within half a level.
    """

    def __init__(self, decoder: nn.Module, *, num_levels: int = 256, noise: nn.Module | None = None) -> None:
        supports.checked(num_levels)
        shown = example(decoder)
        if shown is not None or isinstance(decoder, Product):
            _check_density(shown)
        if noise is not None:
            _check_noise(noise, shown)
        super().__init__(decoder)
        self.num_levels, self.noise = num_levels, noise

    def described(self, mean: Tensor) -> Tensor:
        """The mean of (k + u) / L."""
        return super().described(((self.num_levels - 1) * mean + 0.5) / self.num_levels)

    def observe(self, name: str, likelihood: Any, x: Tree) -> Tree:
        _check_density(likelihood)
        with Placed({} if x is not None else self._jointly(name, likelihood)):
            noise = auxiliary(f"{name}.noise", self._uniform(likelihood.event_shape))
            return pyro.sample(name, levels(likelihood, noise, self.num_levels), obs=x)

    def _jointly(self, name: str, density: Any) -> dict[str, Tensor]:
        """A level and the noise that goes with it, of one draw: its cell, and where in the cell it lies.

        Outside of [0, 1], where the mass is lost, so does the noise.
        """
        v = _in_plates(density).sample() * self.num_levels
        level = v.floor().clamp(0, self.num_levels - 1)
        half = self.num_levels * torch.finfo(v.dtype).eps / 4  # of a step of v: an end of the interval is none of it
        noise = v - level
        noise = torch.where((noise >= 0) & (noise <= 1), noise.clamp(half, 1 - half), noise)
        return {name: level / (self.num_levels - 1), f"{name}.noise": noise}

    def propose(self, name: str, x: Tree, *parents: Tree) -> None:
        q = self._uniform(x.shape[1:]) if self.noise is None else self.noise(x)
        if q.event_shape != x.shape[1:]:
            raise PyrovaeError(
                f"the noise has the event shape {tuple(q.event_shape)} and x {tuple(x.shape[1:])}: a dequantization "
                "draws one number for each of x"
            )
        auxiliary(f"{name}.noise", q)

    def _uniform(self, event_shape: Sequence[int]) -> TorchDistribution:
        like = next(self.parameters(), torch.empty(0))  # its dtype and device
        low = like.new_zeros(event_shape)
        return dist.Uniform(low, low + 1).to_event(len(event_shape))


def _in_plates(distribution: Any) -> Any:
    """The distribution as ``pyro.sample`` would draw from it here."""
    plates = [(plate.size, *[1] * (-plate.dim - 1)) for plate in get_plates() if plate.dim is not None]
    return distribution.expand(torch.broadcast_shapes(distribution.batch_shape, *plates))


def _check_density(likelihood: Any) -> None:
    if not isinstance(likelihood, TorchDistributionMixin):
        raise PyrovaeError(
            "a dequantization is of one tensor, and this decoder gives several: wrap those factors that want it, "
            "pv.Product({'image': pv.Dequantized(image_decoder), ..})"
        )
    if likelihood.support.is_discrete:
        raise PyrovaeError(
            f"a dequantization turns levels into real numbers, and this likelihood ({_name(likelihood)}) is of "
            "discrete values: give its decoder the levels as they are, without Dequantized, or dequantize a density "
            "such as pyrovae.families.normal"
        )


def _check_noise(noise: nn.Module, shown: Any) -> None:
    q = example(noise)
    if q is None:
        return
    if place(of_distribution(q)) not in (None, place(supports.open_unit_interval)):
        raise PyrovaeError(
            f"the noise of a dequantization lies between 0 and 1, and {_name(q)} does not: use "
            "pyrovae.families.logit_normal"
        )
    if shown is not None and q.event_shape != shown.event_shape:
        raise PyrovaeError(
            f"the noise has the event shape {tuple(q.event_shape)}, the decoder {tuple(shown.event_shape)}: a "
            "dequantization draws one number for each of x"
        )


def _name(distribution: Any) -> str:
    while isinstance(distribution, dist.Independent):
        distribution = distribution.base_dist
    return type(distribution).__name__


def levels(density: Any, noise: Tensor, num_levels: int) -> TorchDistribution:
    """``Levels`` of the elements where the density factorises, so that single ones can be masked; else of the whole."""
    if isinstance(density, Incomplete):
        return Incomplete(levels(density.base, noise, num_levels), density.sentinel)
    if isinstance(density, dist.Independent):
        return levels(density.base_dist, noise, num_levels).to_event(density.reinterpreted_batch_ndims)
    return Levels(density, noise, num_levels)


class Levels(TorchDistribution):
    """p((k + u) / L) L^-D at a given noise u, for x = k / (L - 1)."""

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(
        self, base: TorchDistribution, noise: Tensor, num_levels: int, *, validate_args: bool | None = None
    ) -> None:
        self.base, self.noise, self.num_levels = base, noise, num_levels
        super().__init__(base.batch_shape, base.event_shape, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True)
    def support(self) -> Any:
        return constraints.independent(supports.Levels(self.num_levels), self.event_dim)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Levels:
        return Levels(self.base.expand(batch_shape), self.noise, self.num_levels, validate_args=self._validate_args)

    def log_prob(self, x: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(x)
        last, eps = self.num_levels - 1, torch.finfo(self.noise.dtype).eps
        v = ((x * last).round() + self.noise) / self.num_levels
        v = v.clamp(eps / 4 / self.num_levels, 1 - eps / 2)  # where rounding took it to an end of the interval
        log_p: Tensor = self.base.log_prob(v) - self.event_shape.numel() * math.log(self.num_levels)
        return log_p

    def sample(self, sample_shape: Any = ()) -> Tensor:
        last = self.num_levels - 1
        return (self.base.sample(sample_shape) * self.num_levels).floor().clamp(0, last) / last

    @property
    def mean(self) -> Tensor:
        """(L E[v] - 1/2) / (L - 1), within [0, 1]: a level is about half a cell below the v that gives it."""
        return ((self.base.mean * self.num_levels - 0.5) / (self.num_levels - 1)).clamp(0, 1)
