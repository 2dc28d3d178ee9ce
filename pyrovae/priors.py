"""Priors: modules that map the conditioning variables, or nothing, to a distribution of the latents.

Any ``Conditional`` serves as a prior p(z | given), and any family as one that ignores what is given (``Learned``).
Writing another one takes a ``forward(*given)`` that returns a distribution with event shape (latent,).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from pyrovae import trees
from pyrovae.conditional import Conditional
from pyrovae.distributions import mixture
from pyrovae.errors import PyrovaeError
from pyrovae.families import Family, inverse_positive, out_shape, positive
from pyrovae.flows import Transforms
from pyrovae.networks import Constant
from pyrovae.recorded import Recorded


class Prior(Recorded, nn.Module):
    """Base of the priors: ``forward(*given)`` returns a distribution over z; batch shape () or (N,)."""

    def forward(self, *given: trees.Tree) -> TorchDistribution:
        raise TypeError(f"{type(self).__name__} must define forward(*given) -> Distribution")

    def example(self) -> TorchDistribution | None:
        """The distribution without anything given; None where that does not exist."""
        with torch.no_grad():
            try:
                return self()
            except Exception:  # whatever a forward of the user's raises that wants something given
                return None


def _check_latent(latent: int) -> None:
    if latent < 1:
        raise PyrovaeError(f"the number of latent dimensions must be at least 1; got {latent}")


class StandardNormal(Prior):
    """p(z) = prod_d Normal(z_d; 0, 1)."""

    loc: Tensor
    scale: Tensor

    def __init__(self, latent: int) -> None:
        super().__init__()
        _check_latent(latent)
        self.register_buffer("loc", torch.zeros(latent), persistent=False)
        self.register_buffer("scale", torch.ones(latent), persistent=False)

    def forward(self, *given: trees.Tree) -> TorchDistribution:
        return dist.Normal(self.loc, self.scale).to_event(1)


class Learned(Conditional):
    """p(z) = family(parameters), the parameters learned and the same for all data.

    Args:
        family: any family, such as ``pyrovae.families.Laplace()``; elementwise ones give independent dimensions.
        latent: the dimension of z.

    Example:
        >>> import pyrovae as pv
        >>> pv.priors.Learned(pv.families.normal, 3)().event_shape
        torch.Size([3])
    """

    def __init__(self, family: Callable[..., TorchDistribution], latent: int) -> None:
        _check_latent(latent)
        net = Constant(out_shape(family, (latent,)))
        if isinstance(family, Family):
            net.start_at(family.params_at(torch.zeros(latent)))
        super().__init__(net, family)


class NormalMixture(Prior):
    """p(z) = sum_k w_k prod_d Normal(z_d; m_kd, s_kd), all learned.

    Args:
        latent: the dimension of z.
        num_components: K.
        spread: standard deviation of the components' initial locations.
    """

    def __init__(self, latent: int, num_components: int, *, spread: float = 1.0) -> None:
        super().__init__()
        _check_latent(latent)
        if num_components < 1:
            raise PyrovaeError(f"a mixture needs at least one component; got {num_components}")
        self.logits = nn.Parameter(torch.zeros(num_components))
        self.loc = nn.Parameter(spread * torch.randn(num_components, latent))
        self.raw_scale = nn.Parameter(torch.full((num_components, latent), inverse_positive(1.0)))

    def forward(self, *given: trees.Tree) -> TorchDistribution:
        return mixture(self.logits, dist.Normal(self.loc, positive(self.raw_scale)).to_event(1))


class VampPrior(Prior):
    """p(z) = 1/K sum_k q(z | u_k): a mixture of the encoder's posteriors at learned pseudo-inputs.

    Args:
        encoder: the program's own encoder; the weights are shared, in memory and in training.
        pseudo_inputs: the u_k to start from, (K, *event_shape), for instance training data; they are copied. With a
            conditional encoder a tuple (x, *given): the pseudo-inputs then have pseudo-labels, learned too.

    Tomczak & Welling 2018, "VAE with a VampPrior".
    """

    def __init__(self, encoder: nn.Module, pseudo_inputs: trees.Tree) -> None:
        super().__init__()
        self.encoder = encoder
        parents = pseudo_inputs if isinstance(pseudo_inputs, tuple) else (pseudo_inputs,)
        trees.num_data(*parents)
        self.pseudo_inputs = nn.ParameterList(p.detach().to(torch.get_default_dtype(), copy=True) for p in parents)

    def forward(self, *given: trees.Tree) -> TorchDistribution:
        components = self.encoder(*self.pseudo_inputs)  # batch shape (K,)
        count = components.batch_shape[0]
        return mixture(self.pseudo_inputs[0].new_zeros(count), components)


class Flow(Prior):
    """z = f(u) with u ~ base: log p(z) = log p(u) - log |det df/du|, nats.

    Args:
        base: a prior of u, such as ``StandardNormal(latent)``; it may depend on what is given.
        transforms: from u to z, with an inverse, since a prior scores what the encoder drew; see ``pyrovae.flows``.

    A flow that itself depends on what is given is ``Conditional(net, pyrovae.families.Flow(...))``.

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

    def forward(self, *given: trees.Tree) -> TorchDistribution:
        return self.transforms(self.base(*given))
