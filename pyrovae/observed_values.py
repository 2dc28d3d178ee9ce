"""How a network reads data of which values are missing."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import constraints

from pyrovae.observations.missing import InOrMissing, filled, is_missing
from pyrovae.readers import Reader, as_read, takes


class ValuesAndMask(Reader):
    """A reader: the values of x, with 0 for what is missing, joined with the mask, 1 where x is seen.

    Args:
        reader: of the values, such as ``OneHot(5)`` or ``LogCounts()``; None reads them as they are.
        sentinel: what stands for a missing element of integer x; NaN does in floating-point x.
        event_dim: of x, 1 for columns, 3 for images. The mask is joined along the first of these: columns (D,) become
            (2 D,), images (C, H, W) become (2 C, H, W). Where the reader makes a vector of each element, as ``OneHot``
            does, the vector gets one more entry.

    Raises:
        PyrovaeError: when called, values seen that ``reader`` does not take, as ``Reading`` does.

    Example:
        >>> import torch, pyrovae as pv
        >>> pv.readings.ValuesAndMask()(torch.tensor([[0.3, torch.nan]]))
        tensor([[0.3000, 0.0000, 1.0000, 0.0000]])
        >>> net = pv.readings.Reading(pv.networks.MLP(2 * 3, 16, 4), pv.readings.ValuesAndMask())
        >>> net(torch.tensor([[0.3, torch.nan, 1.0]])).shape
        torch.Size([1, 4])
    """

    def __init__(self, reader: nn.Module | None = None, *, sentinel: int | None = None, event_dim: int = 1) -> None:
        super().__init__()
        self.reader = nn.Identity() if reader is None else reader
        self.sentinel, self.event_dim = sentinel, event_dim
        taken = takes(self.reader)
        self.support = None if taken is None else InOrMissing(taken, sentinel)

    def forward(self, x: Tensor) -> Tensor:
        missing = is_missing(x, self.sentinel)
        values: Tensor = as_read(self.reader, filled(x, takes(self.reader) or constraints.real, self.sentinel))
        if values.dim() == x.dim():
            return torch.cat([values.masked_fill(missing, 0), (~missing).to(values)], -self.event_dim)
        missing = missing.unsqueeze(-1)
        return torch.cat([values.masked_fill(missing, 0), (~missing).to(values)], -1)
