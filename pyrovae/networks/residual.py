"""Residual networks: every block adds a little to what it reads, so that depth costs the gradient nothing."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import gcd

import torch
from torch import Tensor, nn

from pyrovae import trees
from pyrovae.networks.base import Network, Shape, as_shape, as_shapes, join
from pyrovae.networks.convolutional import ConvDecoder, ConvEncoder, double

NEAR = 0.1  # the size of a block's last weights, of torch's usual ones: a network starts near its skips


class Block(nn.Module):
    """skip(h) + branch(h); the branch ends in a layer whose weights start small.

    Args:
        skip: identity where the branch keeps the shape.
        branch: layers that end in one with weight and bias.
    """

    def __init__(self, skip: nn.Module, *branch: nn.Module) -> None:
        super().__init__()
        self.skip, self.branch = skip, nn.Sequential(*branch)
        with torch.no_grad():
            for parameter in branch[-1].parameters():
                parameter.mul_(NEAR)

    def forward(self, h: Tensor) -> Tensor:
        total: Tensor = self.skip(h) + self.branch(h)
        return total


class ResidualMLP(Network):
    """h = W h + V silu(W' silu(norm(h))) at every hidden width, W the identity where the width stays.

    Args:
        in_shapes: the parent's event shape, or a list with one per parent.
        widths: the hidden widths, a block for each, then the output's event shape.

    Pre-activation blocks (He et al. 2016, "Identity mappings in deep residual networks") with layer normalisation
    (Ba et al. 2016), under which a row's output depends on that row alone.
    """

    def __init__(self, in_shapes: Shape | list[Shape], *widths: Shape) -> None:
        super().__init__()
        *hidden, out_shape = widths
        self.in_shapes, self.out_shape = as_shapes(in_shapes), as_shape(out_shape)
        first, *_ = sizes = [as_shape(h).numel() for h in hidden] or [self.out_shape.numel()]
        self.first = nn.Linear(sum(s.numel() for s in self.in_shapes), first)  # few latents bear no normalisation
        self.blocks = nn.Sequential(*(self._block(n, m) for n, m in pairwise([first, *sizes])))
        self.last = nn.Sequential(nn.LayerNorm(sizes[-1]), nn.SiLU())
        self.output = nn.Linear(sizes[-1], self.out_shape.numel())

    def _block(self, n: int, m: int) -> nn.Module:
        skip = nn.Identity() if n == m else nn.Linear(n, m)
        return Block(skip, nn.LayerNorm(n), nn.SiLU(), nn.Linear(n, m), nn.SiLU(), nn.Linear(m, m))

    def forward(self, *parents: trees.Tree) -> Tensor:
        h = self.blocks(self.first(join(self.parents(parents), self.in_shapes)))  # (*batch, width)
        return self.output(self.last(h)).unflatten(-1, self.out_shape)


def _blocks(channels: int, count: int) -> list[nn.Module]:
    """Residual blocks of two convolutions each, with group normalisation (Wu & He 2018)."""

    def layer() -> tuple[nn.Module, ...]:
        groups = max(1, gcd(channels, 32) // 4)  # of four channels or more: one alone would be normalised away
        return nn.GroupNorm(groups, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1)

    return [Block(nn.Identity(), *layer(), *layer()) for _ in range(count)]


class ResidualConvEncoder(ConvEncoder):
    """A ``ConvEncoder`` with residual blocks after each of its stride-2 convolutions.

    Args:
        in_shapes, out_shape, channels, hidden: as for ``ConvEncoder``.
        blocks: how many in each stage.

    He et al. 2016; the normalisation is over groups of channels of one image.
    """

    def __init__(
        self,
        in_shapes: Shape | list[Shape],
        out_shape: Shape,
        *,
        channels: Sequence[int] = (32, 64),
        hidden: int = 256,
        blocks: int = 1,
    ) -> None:
        self.num_blocks = blocks
        super().__init__(in_shapes, out_shape, channels=channels, hidden=hidden)

    def _stage(self, n: int, m: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(n, m, 3, stride=2, padding=1), *_blocks(m, self.num_blocks), nn.SiLU())


class ResidualConvDecoder(ConvDecoder):
    """A ``ConvDecoder`` with residual blocks after each of its transposed convolutions.

    Args:
        in_shapes, out_shape, channels, hidden: as for ``ConvDecoder``.
        blocks: how many in each stage.
    """

    def __init__(
        self,
        in_shapes: Shape | list[Shape],
        out_shape: Shape,
        *,
        channels: Sequence[int] = (32, 64),
        hidden: int = 256,
        blocks: int = 1,
    ) -> None:
        self.num_blocks = blocks
        super().__init__(in_shapes, out_shape, channels=channels, hidden=hidden)

    def _stage(self, n: int, m: int, size: tuple[int, int]) -> nn.Module:
        return nn.Sequential(double(n, m, size), *_blocks(m, self.num_blocks), nn.SiLU())
