"""Dense networks whose outputs see only earlier inputs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Size, Tensor, nn
from torch.nn import functional

from pyrovae import trees
from pyrovae.errors import PyrovaeError
from pyrovae.networks.base import Network, Shape, as_shape, as_shapes, join


class MaskedMLP(Network):
    """An MLP whose output for element t of an event sees x_<t, and all of the other parents: for ``Autoregressive``.

    Args:
        in_shapes: x's event shape, or a list of it and those of the other parents. One dimension more than that of the
            event is how x is read: (T, K) for T one-hot tokens.
        widths: the hidden widths, then the output's event shape, k numbers for each element as a family wants them:
            (k * C, H, W) for an event (C, H, W), whose order is that of its memory.
        activation: makes the nonlinearity between layers.

    Germain et al. 2015, "MADE: masked autoencoder for distribution estimation".

    Example:
        >>> import torch, pyrovae as pv
        >>> net = pv.networks.MaskedMLP([3, 2], 16, 3)
        >>> z = torch.zeros(3)
        >>> torch.autograd.functional.jacobian(lambda x: net(x, torch.ones(2)), z)[0]  # the first sees no other
        tensor([0., 0., 0.])
    """

    causal = True

    def __init__(
        self, in_shapes: Shape | list[Shape], *widths: Shape, activation: Callable[[], nn.Module] = nn.ReLU
    ) -> None:
        super().__init__()
        *hidden, out_shape = widths
        self.in_shapes, self.out_shape = as_shapes(in_shapes), as_shape(out_shape)
        count = _event(self.in_shapes[0], self.out_shape).numel()
        # A unit of degree m sees the first m elements, the output for element t (from 0) units of a degree up to t.
        others = sum(s.numel() for s in self.in_shapes[1:])
        read = torch.arange(count).repeat_interleave(self.in_shapes[0].numel() // count) + 1
        degrees = [torch.cat([read, torch.zeros(others, dtype=torch.long)])]
        degrees += [_hidden(as_shape(h).numel(), count, least=0 if others else 1) for h in hidden]
        self.hidden = nn.ModuleList(MaskedLinear(m[:, None] >= n) for n, m in pairwise(degrees))
        self.output = MaskedLinear(_out(self.out_shape, count)[:, None] >= degrees[-1])
        self.activation = activation()

    def forward(self, *parents: trees.Tree) -> Tensor:
        h = join(self.parents(parents), self.in_shapes)  # (*batch, n)
        for layer in self.hidden:
            h = self.activation(layer(h))
        found: Tensor = self.output(h).unflatten(-1, self.out_shape)
        return found


class MaskedLinear(nn.Linear):
    """A linear layer without the weights that ``mask`` (m, n) leaves out."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask.to(self.weight.dtype), persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        return functional.linear(input, self.weight * self.mask, self.bias)


def _event(read: Size, out: Size) -> Size:
    """The event shape of x, of which the network reads ``read`` and gives ``out``."""
    event = read[: len(out)]
    if len(read) - len(out) not in (0, 1) or event[1:] != out[1:] or out[0] % event[0]:
        raise PyrovaeError(
            f"a masked network that reads x as {tuple(read)} gives k numbers for each of its elements, stacked along "
            f"the first dimension: (k * {read[0]}, ...); got {tuple(out)}"
        )
    return event


def _hidden(width: int, count: int, least: int) -> Tensor:
    """The degrees of ``width`` units, spread evenly from ``least`` to count - 1; 0 alone where nothing is seen."""
    return torch.linspace(min(least, count - 1), count - 1, width).round().long()


def _out(shape: Size, count: int) -> Tensor:
    """The number of the element that each output is for."""
    return torch.arange(shape.numel()) % count
