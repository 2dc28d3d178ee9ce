"""The one building block: a module that maps its parents to a distribution."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from pyrovae.errors import PyrovaeError
from pyrovae.families import Family, VectorFamily, num_params
from pyrovae.recorded import Recorded
from pyrovae.trees import Tree


class Conditional(Recorded, nn.Module):
    """p(v | parents) = family(net(parents)).

    Args:
        net: maps the parents to a tensor (*batch, *out_shape).
        family: maps that tensor, split into ``family.num_params`` tensors along the first event dimension, to a
            distribution (see ``pyrovae.families``).
        event_dim: how many rightmost dimensions of the network's output belong to one datum. By default
            ``len(net.out_shape)``, or 1 where the network does not say.

    Whatever the family leaves beyond the batch dimensions is declared to be the event, so that one log-prob per
    datum comes out: (*batch,), in nats.

    Raises:
        PyrovaeError: a family of vectors and a network of images.

    Example:
        >>> import torch, pyrovae as pv
        >>> decoder = pv.Conditional(pv.networks.MLP(2, 16, (1, 8, 8)), pv.families.bernoulli)
        >>> decoder(torch.randn(5, 3, 2)).event_shape
        torch.Size([1, 8, 8])
    """

    def __init__(self, net: nn.Module, family: Callable[..., TorchDistribution], event_dim: int | None = None) -> None:
        super().__init__()
        self.net = net
        self.family = family
        self.event_dim = event_dim if event_dim is not None else len(getattr(net, "out_shape", (1,)))
        if isinstance(family, VectorFamily):
            family.width(getattr(net, "out_shape", (1,) * self.event_dim))

    def forward(self, *parents: Tree) -> TorchDistribution:
        return self._of(self.net(*parents))

    def example(self) -> TorchDistribution | None:
        """The distribution of one datum where the network gives zeros, which shows its event shape and its support
        before there are data; None where the network does not say its ``out_shape``, or where zeros are nothing to the
        family, as after a softplus."""
        shape = getattr(self.net, "out_shape", None)
        if shape is None or type(self).forward is not Conditional.forward:
            return None
        like = next(self.parameters(), torch.empty(0))  # its dtype and device
        try:
            with torch.enable_grad():  # so that bounds that depend on the network can be told from others
                return self._of(like.new_zeros(shape, requires_grad=True))
        except PyrovaeError:
            raise
        except Exception:  # whatever a family of the user's raises
            return None

    def _of(self, params: Tensor) -> TorchDistribution:
        lead = params.dim() - self.event_dim
        distribution = self._distribution(params, lead)
        extra = len(distribution.batch_shape) - lead
        if extra < 0:
            raise PyrovaeError(
                f"the family gave batch shape {tuple(distribution.batch_shape)} from parameters of shape "
                f"{tuple(params.shape)} with {self.event_dim} event dimension(s): it swallowed data dimensions"
            )
        return distribution.to_event(extra) if extra else distribution

    def _distribution(self, params: Tensor, dim: int) -> TorchDistribution:
        """The family's, of numbers whose first event dimension is ``dim``."""
        count = num_params(self.family)
        if count > 1 and params.shape[dim] % count:
            raise PyrovaeError(
                f"{type(self.family).__name__} wants {count} numbers per element, stacked along the first event "
                f"dimension; the network gives {params.shape[dim]}, which {count} does not divide"
            )
        try:
            if isinstance(self.family, Family):
                return self.family.of(params, dim)
            return self.family(*params.chunk(count, dim))
        except TypeError as error:
            raise PyrovaeError(
                f"the family cannot be called with {count} parameter(s) per element: {error}. A family that wants more "
                "than one says so: family.num_params = 2"
            ) from error


class Product(Recorded, nn.Module):
    """p(x | parents) = prod_k p(x_k | parents): one conditional per entry, for an ``x`` that is a dict or a tuple.

    Args:
        factors: a mapping or a sequence of conditionals, in the structure of ``x``.
    """

    def __init__(self, factors: Mapping[str, nn.Module] | Sequence[nn.Module]) -> None:
        super().__init__()
        self.factors = nn.ModuleDict(factors) if isinstance(factors, Mapping) else nn.ModuleList(factors)

    def forward(self, *parents: Tree) -> Any:
        if isinstance(self.factors, nn.ModuleDict):
            return {name: factor(*parents) for name, factor in self.factors.items()}
        return tuple(factor(*parents) for factor in self.factors)
