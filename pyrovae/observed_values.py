"""How a network reads data of which values are missing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pyrovae import trees
from pyrovae.observations.missing import is_missing
from pyrovae.recorded import Recorded


class ValuesAndMask(Recorded, nn.Module):
    """net([x with 0 for what is missing, 1 where x is seen], *others): the two joined along the first event dimension.

    Args:
        net: a network whose first parent has twice the first event dimension of x: (2 D,) for D columns, (2 C, H, W)
            for images of C channels.
        sentinel: what stands for a missing element of integer x; NaN does in floating-point x.

    Example:
        >>> import torch, pyrovae as pv
        >>> net = pv.readings.ValuesAndMask(pv.networks.MLP(2 * 3, 16, 4))
        >>> net(torch.tensor([[0.3, torch.nan, 1.0]])).shape
        torch.Size([1, 4])
    """

    def __init__(self, net: nn.Module, *, sentinel: int | None = None) -> None:
        super().__init__()
        self.net, self.sentinel = net, sentinel
        if hasattr(net, "out_shape"):
            self.out_shape = net.out_shape
        shapes: Any = getattr(net, "in_shapes", ((1,),))
        self.event_dim = len(shapes[0])

    def forward(self, x: Tensor, *others: trees.Tree) -> Tensor:
        missing = is_missing(x, self.sentinel)
        read = torch.cat([x.masked_fill(missing, 0), (~missing).to(x)], -self.event_dim)
        output: Tensor = self.net(read, *others)
        return output
