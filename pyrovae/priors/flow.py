"""A flow as prior."""

from __future__ import annotations

from typing import Any

from pyro.distributions import TorchDistribution
from torch import nn

from pyrovae import trees
from pyrovae.flows import Transforms
from pyrovae.observations.base import example
from pyrovae.parameters import evaluating
from pyrovae.priors.base import Prior


class Flow(Prior):
    """z = f(u) with u ~ base: log p(z) = log p(u) - log |det df/du|, nats.

    Args:
        base: a prior of u, such as ``StandardNormal(latent)``; it may depend on what is given.
        transforms: from u to z, with an inverse, since a prior scores what the encoder drew; see ``pyrovae.flows``.

    A flow that itself depends on what is given is ``Conditional(net, pyrovae.families.Flow(...))``.

    Raises:
        PyrovaeError: when the program is built, layers of another dimension than the base, or that want a context.

    Rezende & Mohamed 2015; Huang et al. 2017, "Learnable explicit density for continuous latent space".

    Example:
        >>> import pyrovae as pv
        >>> prior = pv.priors.Flow(pv.priors.StandardNormal(2), pv.flows.masked_autoregressive(2))
        >>> prior().event_shape
        torch.Size([2])
    """

    def __init__(self, base: nn.Module, transforms: Any) -> None:
        super().__init__()
        self.base, self.transforms = base, Transforms(transforms)

    def example(self) -> TorchDistribution | None:
        """See ``Prior.example``; of the base's."""
        with evaluating(self):
            base = example(self.base)
            return None if base is None else self.transforms(base)

    def forward(self, *given: trees.Tree) -> TorchDistribution:
        return self.transforms(self.base(*given))
