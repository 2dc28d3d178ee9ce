"""Convolutional networks: images of any size and channel count to vectors, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Size, Tensor, nn

from pyrovae import trees
from pyrovae.errors import PyrovaeError
from pyrovae.networks.base import Network, Shape, as_shape, as_shapes, join


def _stages(size: Sequence[int], stages: int) -> list[tuple[int, int]]:
    """The image sizes of a stack of stride-2 convolutions: each stage halves, rounding up."""
    sizes = [(size[0], size[1])]
    for _ in range(stages):
        sizes.append((math.ceil(sizes[-1][0] / 2), math.ceil(sizes[-1][1] / 2)))
    return sizes


class ConvEncoder(Network):
    """Images of any size and channel count to a vector: stride-2 convolutions, then a dense layer.

    Args:
        in_shapes: (C, H, W), or a list whose first entry is that and whose others are joined after the convolutions.
        out_shape: the event shape of the output.
        channels: the channels of each stage; each stage halves height and width, rounding up.
        hidden: width of the dense layer before the output.
    """

    def __init__(
        self,
        in_shapes: Shape | list[Shape],
        out_shape: Shape,
        *,
        channels: Sequence[int] = (32, 64),
        hidden: int = 256,
    ) -> None:
        super().__init__()
        self.in_shapes, self.out_shape = as_shapes(in_shapes), as_shape(out_shape)
        image = _image_shape(self.in_shapes[0])
        pairs = zip([image[0], *channels[:-1]], channels, strict=True)
        self.convolutions = nn.Sequential(*(self._stage(n, m) for n, m in pairs))
        height, width = _stages(image[1:], len(channels))[-1]
        self.features = Size((channels[-1] * height * width,))
        joined = self.features.numel() + sum(s.numel() for s in self.in_shapes[1:])
        self.hidden = nn.Sequential(nn.Linear(joined, hidden), nn.SiLU())
        self.output = nn.Linear(hidden, self.out_shape.numel())

    def _stage(self, n: int, m: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(n, m, 3, stride=2, padding=1), nn.SiLU())

    def forward(self, *parents: trees.Tree) -> Tensor:
        image, *others = self.parents(parents)
        batch = image.shape[:-3]
        features = self.convolutions(image.reshape(-1, *self.in_shapes[0])).reshape(*batch, -1)
        rows = join([features, *others], [self.features, *self.in_shapes[1:]])
        return self.output(self.hidden(rows)).unflatten(-1, self.out_shape)


class ConvDecoder(Network):
    """A vector to images of any size and channel count: the mirror of ``ConvEncoder``.

    Args:
        in_shapes: the parent's event shape, or a list with one per parent.
        out_shape: (C, H, W), or (k * C, H, W) for a family of k parameters per element.
        channels: the channels of each stage, from the image's side inwards, as for the encoder.
        hidden: width of the dense layer after the input.
    """

    def __init__(
        self,
        in_shapes: Shape | list[Shape],
        out_shape: Shape,
        *,
        channels: Sequence[int] = (32, 64),
        hidden: int = 256,
    ) -> None:
        super().__init__()
        self.in_shapes, self.out_shape = as_shapes(in_shapes), as_shape(out_shape)
        image = _image_shape(self.out_shape)
        sizes = _stages(image[1:], len(channels))[::-1]  # smallest first
        self.start = Size((channels[-1], *sizes[0]))
        joined = sum(s.numel() for s in self.in_shapes)
        self.hidden = nn.Sequential(
            nn.Linear(joined, hidden), nn.SiLU(), nn.Linear(hidden, self.start.numel()), nn.SiLU()
        )
        widths = [*channels[::-1], channels[0]]
        stages = zip(widths[:-1], widths[1:], sizes[1:], strict=True)
        self.convolutions = nn.Sequential(*(self._stage(n, m, size) for n, m, size in stages))
        self.output = nn.Conv2d(channels[0], image[0], 3, padding=1)

    def _stage(self, n: int, m: int, size: tuple[int, int]) -> nn.Module:
        return nn.Sequential(double(n, m, size), nn.SiLU())

    def forward(self, *parents: trees.Tree) -> Tensor:
        rows = join(self.parents(parents), self.in_shapes)
        images = self.hidden(rows).reshape(-1, *self.start)
        return self.output(self.convolutions(images)).reshape(*rows.shape[:-1], *self.out_shape)


def double(n: int, m: int, size: tuple[int, int]) -> nn.Module:
    """A stride-2 transposed convolution onto ``size``: 2 s - 1 pixels from s, one more where the size is even."""
    padding = (1 - size[0] % 2, 1 - size[1] % 2)
    return nn.ConvTranspose2d(n, m, 3, stride=2, padding=1, output_padding=padding)


def _image_shape(shape: Size) -> Size:
    if len(shape) != 3:
        raise PyrovaeError(f"an image has the shape (channels, height, width); got {tuple(shape)}")
    return shape
