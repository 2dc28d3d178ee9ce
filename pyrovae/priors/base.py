"""What a prior is, and those that are one family with parameters of its own."""

from __future__ import annotations

from collections.abc import Callable

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from pyrovae import families, trees
from pyrovae.conditional import Conditional
from pyrovae.errors import PyrovaeError
from pyrovae.families import Family, out_shape
from pyrovae.networks import Constant
from pyrovae.parameters import evaluating
from pyrovae.recorded import Recorded


class Prior(Recorded, nn.Module):
    """Base of the priors: ``forward(*given)`` returns a distribution over z; batch shape () or (N,)."""

    def forward(self, *given: trees.Tree) -> TorchDistribution:
        raise TypeError(f"{type(self).__name__} must define forward(*given) -> Distribution")

    def example(self) -> TorchDistribution | None:
        """The distribution without anything given, in evaluation mode; None where that does not exist."""
        with evaluating(self):
            try:
                return self()
            except Exception:  # whatever a forward of the user's raises that wants something given
                return None


def check_latent(latent: int) -> None:
    if latent < 1:
        raise PyrovaeError(f"the number of latent dimensions must be at least 1; got {latent}")


class StandardNormal(Prior):
    """p(z) = prod_d Normal(z_d; 0, 1)."""

    loc: Tensor
    scale: Tensor

    def __init__(self, latent: int) -> None:
        super().__init__()
        check_latent(latent)
        self.register_buffer("loc", torch.zeros(latent), persistent=False)
        self.register_buffer("scale", torch.ones(latent), persistent=False)

    def forward(self, *given: trees.Tree) -> TorchDistribution:
        return dist.Normal(self.loc, self.scale).to_event(1)


class Learned(Conditional):
    """p(z) = family(parameters), the parameters learned and the same for all data; they start at location 0, scale 1.

    Args:
        family: any family, such as ``pyrovae.families.Laplace()``; elementwise ones give independent dimensions.
        latent: the dimension of z.

    Example:
        >>> import pyrovae as pv
        >>> pv.priors.Learned(pv.families.normal, 3)().event_shape
        torch.Size([3])
    """

    def __init__(self, family: Family | Callable[..., TorchDistribution], latent: int) -> None:
        check_latent(latent)
        net = Constant(out_shape(family, (latent,)))
        if isinstance(family, Family):
            net.start_at(family.standard((latent,)))
        super().__init__(net, family)


class Normal(Learned):
    """p(z) = prod_d Normal(z_d; loc_d, scale_d), learned."""

    def __init__(self, latent: int) -> None:
        super().__init__(families.Normal(), latent)


class Laplace(Learned):
    """p(z) = prod_d Laplace(z_d; loc_d, scale_d), learned."""

    def __init__(self, latent: int) -> None:
        super().__init__(families.Laplace(), latent)


class StudentT(Learned):
    """p(z) = prod_d t_df(z_d; loc_d, scale_d), learned, the degrees of freedom shared.

    Args:
        latent: the dimension of z.
        initial_df: where the degrees of freedom start.
    """

    def __init__(self, latent: int, initial_df: float = 5.0) -> None:
        super().__init__(families.StudentT(initial_df), latent)


class Categorical(Learned):
    """P(z) = prod_d pi_d^z_d, learned, for a one-hot z of so many categories, which is enumerated."""

    def __init__(self, num_categories: int) -> None:
        super().__init__(families.OneHotCategorical(), num_categories)
