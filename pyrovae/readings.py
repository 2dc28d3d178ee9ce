"""How a network reads data that are no real numbers of moderate size."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pyrovae import trees
from pyrovae.errors import PyrovaeError
from pyrovae.networks import Network
from pyrovae.observed_values import ValuesAndMask
from pyrovae.recorded import Recorded

__all__ = ["LogCounts", "OneHot", "ValuesAndMask"]


class OneHot(Recorded, nn.Module):
    """net(one_hot(x), *others): reads integers x (*batch, T) in 0 .. num_levels - 1 as (*batch, T, num_levels).

    Args:
        net: a network whose first parent has the event shape (T, num_levels).
        num_levels: how many values x takes.

    Example:
        >>> import torch, pyrovae as pv
        >>> net = pv.readings.OneHot(pv.networks.MLP((5, 3), 16, 4), 3)
        >>> net(torch.tensor([[0, 1, 2, 2, 0]])).shape
        torch.Size([1, 4])
    """

    def __init__(self, net: Network, num_levels: int) -> None:
        super().__init__()
        self.net, self.num_levels, self.out_shape = net, num_levels, net.out_shape

    def forward(self, x: Tensor, *others: trees.Tree) -> Tensor:
        if x.is_floating_point() or x.dtype == torch.bool:
            raise PyrovaeError(f"OneHot reads integers 0 .. {self.num_levels - 1} and got {x.dtype}: pass x.long()")
        # Compared and not scattered: no branch, no error on the device, and a value outside gives zeros.
        levels = torch.arange(self.num_levels, device=x.device)
        dtype = next(self.net.parameters()).dtype
        return self.net((x.unsqueeze(-1) == levels).to(dtype), *others)


class LogCounts(Recorded, nn.Module):
    """net(log(1 + x), *others): reads counts, a few of which may be large; what is negative counts as 0.

    Args:
        net: a network whose first parent has the event shape of x.
    """

    def __init__(self, net: Network) -> None:
        super().__init__()
        self.net, self.out_shape = net, net.out_shape

    def forward(self, x: Tensor, *others: trees.Tree) -> Tensor:
        return self.net(x.clamp(min=0).log1p(), *others)
