"""A family carried through a flow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor

from pyrovae.errors import PyrovaeError
from pyrovae.families.base import Family, VectorFamily, num_params, out_shape
from pyrovae.flows import Transforms


class Flow(VectorFamily):
    """x = f(u; h) with u ~ family(params) in R^D: the network gives the family's parameters and then h.

    log p(x) = log p(u) - log |det df/du|, nats. With context every layer is amortised: it depends on the data through
    h, as in Kingma et al. 2016, "Improving variational inference with inverse autoregressive flow".

    Args:
        family: of the base u; elementwise ones give independent dimensions.
        transforms: from u to x; see ``pyrovae.flows``.
        context: how many numbers h has; layers that were built for a context get all of them.

    Example:
        >>> import torch, pyrovae as pv
        >>> flow = pv.families.Flow(pv.families.normal, pv.flows.planar(2, context=3), context=3)
        >>> flow.out_shape((2,))
        torch.Size([7])
        >>> flow(torch.zeros(5, 7)).event_shape
        torch.Size([2])
    """

    def __init__(self, family: Family | Callable[..., TorchDistribution], transforms: Any, *, context: int = 0) -> None:
        super().__init__()
        self.family, self.context = family, context
        self.transforms = Transforms(transforms)
        if context < 0 or (context and not self.transforms.conditional):
            raise PyrovaeError(
                f"context={context}, and no transform takes any: build them with it, as in "
                f"pyrovae.flows.inverse_autoregressive(latent, context={max(context, 1)})"
            )

    def out_shape(self, event_shape: Sequence[int]) -> Size:
        self.width(event_shape)
        return Size((out_shape(self.family, event_shape).numel() + self.context,))

    def params_at(self, mean: Tensor) -> Tensor:
        """Those of the base, and a context of zeros: a flow starts near the identity."""
        base = self.family.params_at(mean) if isinstance(self.family, Family) else mean.new_zeros(0)
        return self._padded(base, mean.shape)

    def standard(self, event_shape: Sequence[int]) -> Tensor:
        base = self.family.standard(event_shape) if isinstance(self.family, Family) else torch.zeros(0)
        return self._padded(base, event_shape)

    def _padded(self, base: Tensor, event_shape: Sequence[int]) -> Tensor:
        return torch.cat([base, base.new_zeros(self.out_shape(event_shape).numel() - len(base))])

    def forward(self, params: Tensor) -> TorchDistribution:
        numbers, h = params[..., : params.shape[-1] - self.context], params[..., params.shape[-1] - self.context :]
        base = self._base(numbers)
        extra = len(base.batch_shape) - (params.dim() - 1)
        return self.transforms(base.to_event(extra) if extra else base, h if self.context else None)

    def _base(self, numbers: Tensor) -> TorchDistribution:
        count = num_params(self.family)
        if numbers.shape[-1] % count:
            raise PyrovaeError(
                f"{type(self.family).__name__} wants {count} numbers per dimension, and the network gives "
                f"{numbers.shape[-1]} besides the {self.context} of the context: build it with "
                "out_shape=family.out_shape((latent,))"
            )
        return self.family(*numbers.chunk(count, -1))
