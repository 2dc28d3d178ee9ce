"""Levels of grey, or any whole numbers, under densities of real numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints

from pyrovae.errors import PyrovaeError
from pyrovae.observations.base import Observation, auxiliary
from pyrovae.trees import Tree


class Dequantized(Observation):
    """Levels k = 0 .. L - 1 as the cells of a density: P(k | z) = E_{u ~ U[0, 1)^D} p((k + u) / L | z) L^-D.

    x holds k / (L - 1), grey values in [0, 1]. The noise u is a site of model and guide, drawn anew for every
    particle, so that ``log_marginal`` integrates it out as it does z, and its figures are of the probabilities of the
    levels: comparable with those of discrete likelihoods, in bits per dimension too.

    Args:
        decoder: p(v | z), of real numbers v in [0, 1].
        num_levels: L.

    Theis, van den Oord & Bethge 2016.
    """

    def __init__(self, decoder: nn.Module, *, num_levels: int = 256) -> None:
        if num_levels < 2:
            raise PyrovaeError(f"there must be at least two levels; got {num_levels}")
        super().__init__(decoder)
        self.num_levels = num_levels

    def observe(self, name: str, likelihood: Any, x: Tree) -> Tree:
        noise = auxiliary(f"{name}.noise", self._uniform(likelihood.event_shape))
        return pyro.sample(name, Levels(likelihood, noise, self.num_levels), obs=x)

    def propose(self, name: str, x: Tree, *parents: Tree) -> None:
        auxiliary(f"{name}.noise", self._uniform(x.shape[1:]))

    def _uniform(self, event_shape: Sequence[int]) -> TorchDistribution:
        like = next(self.parameters(), torch.empty(0))  # its dtype and device
        low = like.new_zeros(event_shape)
        return dist.Uniform(low, low + 1).to_event(len(event_shape))


class Levels(TorchDistribution):
    """p((k + u) / L) L^-D at a given noise u, for x = k / (L - 1)."""

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    support = constraints.unit_interval

    def __init__(self, base: TorchDistribution, noise: Tensor, num_levels: int) -> None:
        self.base, self.noise, self.num_levels = base, noise, num_levels
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Levels:
        return Levels(self.base.expand(batch_shape), self.noise, self.num_levels)

    def log_prob(self, x: Tensor) -> Tensor:
        level = (x * (self.num_levels - 1)).round()
        cells = self.event_shape.numel() * math.log(self.num_levels)
        log_p: Tensor = self.base.log_prob((level + self.noise) / self.num_levels) - cells
        return log_p

    def sample(self, sample_shape: Any = ()) -> Tensor:
        level = (self.base.sample(sample_shape) * self.num_levels).floor().clamp(0, self.num_levels - 1)
        return level / (self.num_levels - 1)
