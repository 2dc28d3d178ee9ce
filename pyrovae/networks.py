"""Networks: free of batch shape, aware of the event shapes of what goes in and out.

A network's ``in_shapes`` are the event shapes of its parents and ``out_shape`` that of its output; every dimension
further left is batch, of any number. An ``int`` stands for a vector; several parents are given as a list of shapes,
are broadcast against each other and joined: ``MLP([40, 10], 300, (1, 28, 28))`` reads z and y.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Size, Tensor, nn

from pyrovae import trees
from pyrovae.errors import PyrovaeError
from pyrovae.recorded import Recorded

Shape = int | Sequence[int]


def as_shape(shape: Shape) -> Size:
    """An event shape from an int (a vector) or a sequence of ints."""
    size = Size((shape,)) if isinstance(shape, int) else Size(shape)
    if any(n < 1 for n in size):
        raise PyrovaeError(f"every dimension of a shape must be at least 1; got {tuple(size)}")
    return size


def as_shapes(shapes: Shape | list[Shape]) -> tuple[Size, ...]:
    """The parents' event shapes: a list holds one per parent, anything else is a single parent's."""
    return tuple(as_shape(s) for s in shapes) if isinstance(shapes, list) else (as_shape(shapes),)


class Network(Recorded, nn.Module):
    """Base: joins the parents into rows and gives the output its shape.

    Subclasses set ``in_shapes``, ``out_shape`` and ``output`` (the last layer) by ``__init__``.
    """

    in_shapes: tuple[Size, ...]
    out_shape: Size
    output: nn.Module

    def parents(self, parents: Sequence[trees.Tree]) -> list[Tensor]:
        """The parents' leaves, each (*batch, *event_shape), checked against ``in_shapes``."""
        given = trees.leaves(parents)
        if len(given) != len(self.in_shapes):
            raise PyrovaeError(
                f"{type(self).__name__} has {len(self.in_shapes)} parent(s) of event shape "
                f"{[tuple(s) for s in self.in_shapes]} and got {len(given)}: pass every conditioning variable (given), "
                "or build the network with one shape per parent"
            )
        for parent, shape in zip(given, self.in_shapes, strict=True):
            _check(parent, shape, type(self).__name__)
        return given

    def start_at(self, params: Tensor) -> None:
        """Set the last layer's bias so that the network starts at the output ``params`` (of ``out_shape``)."""
        bias = self.output.bias
        assert isinstance(bias, Tensor)
        per_bias = params.reshape(bias.shape[0], -1).mean(1)  # a convolution has one bias per channel
        with torch.no_grad():
            bias.copy_(per_bias)


def _check(parent: Tensor, shape: Size, name: str) -> None:
    if not parent.is_floating_point():
        raise PyrovaeError(
            f"{name} reads floating-point data and got {parent.dtype}: scale images to [0, 1], make labels one-hot"
        )
    if parent.shape[parent.dim() - len(shape) :] != shape:
        raise PyrovaeError(
            f"{name} expects data of shape (..., {', '.join(map(str, shape))}); got {tuple(parent.shape)}"
        )


def join(parents: Sequence[Tensor], shapes: Sequence[Size]) -> Tensor:
    """Flatten each parent's event and concatenate: (*batch, sum of sizes), the batches broadcast."""
    flat = [p.reshape(*p.shape[: p.dim() - len(s)], s.numel()) for p, s in zip(parents, shapes, strict=True)]
    if len(flat) == 1:
        return flat[0]
    batch = torch.broadcast_shapes(*(f.shape[:-1] for f in flat))
    return torch.cat([f.expand(*batch, f.shape[-1]) for f in flat], -1)


class Constant(Network):
    """A tensor of ``out_shape`` that is learned and has no parents: what makes an unconditional ``Conditional``."""

    def __init__(self, out_shape: Shape) -> None:
        super().__init__()
        self.in_shapes, self.out_shape = (), as_shape(out_shape)
        self.value = nn.Parameter(torch.zeros(self.out_shape))

    def forward(self, *parents: trees.Tree) -> Tensor:
        return self.value

    def start_at(self, params: Tensor) -> None:
        with torch.no_grad():
            self.value.copy_(params)


class MLP(Network):
    """A multi-layer perceptron: ``MLP(in_shapes, *hidden, out_shape)``.

    Args:
        in_shapes: the parent's event shape, or a list with one per parent.
        widths: the hidden widths, then the output's event shape.
        activation: makes the nonlinearity between layers.
    """

    def __init__(
        self, in_shapes: Shape | list[Shape], *widths: Shape, activation: Callable[[], nn.Module] = nn.ReLU
    ) -> None:
        super().__init__()
        *hidden, out_shape = widths
        self.in_shapes, self.out_shape = as_shapes(in_shapes), as_shape(out_shape)
        self.activation = activation
        sizes = [sum(s.numel() for s in self.in_shapes), *(as_shape(h).numel() for h in hidden)]
        layers = [self._layer(n, m) for n, m in pairwise(sizes)]
        self.hidden = nn.Sequential(*layers)
        self.output = nn.Linear(sizes[-1], self.out_shape.numel())

    def _layer(self, n: int, m: int) -> nn.Module:
        return nn.Sequential(nn.Linear(n, m), self.activation())

    def forward(self, *parents: trees.Tree) -> Tensor:
        rows = join(self.parents(parents), self.in_shapes)  # (*batch, n)
        return self.output(self.hidden(rows)).unflatten(-1, self.out_shape)


class GatedMLP(MLP):
    """An MLP whose hidden layers are gated: h = (W x + b) * sigmoid(V x + c) (Dauphin et al. 2017; van den Oord 2016).

    Args: as ``MLP``, without an activation.
    """

    def __init__(self, in_shapes: Shape | list[Shape], *widths: Shape) -> None:
        super().__init__(in_shapes, *widths, activation=nn.GLU)

    def _layer(self, n: int, m: int) -> nn.Module:
        return nn.Sequential(nn.Linear(n, 2 * m), self.activation())  # one product for value and gate


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
        self.convolutions = nn.Sequential(
            *(nn.Sequential(nn.Conv2d(n, m, 3, stride=2, padding=1), nn.SiLU()) for n, m in pairs)
        )
        height, width = _stages(image[1:], len(channels))[-1]
        self.features = Size((channels[-1] * height * width,))
        joined = self.features.numel() + sum(s.numel() for s in self.in_shapes[1:])
        self.hidden = nn.Sequential(nn.Linear(joined, hidden), nn.SiLU())
        self.output = nn.Linear(hidden, self.out_shape.numel())

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
        self.convolutions = nn.Sequential(*(nn.Sequential(_double(n, m, size), nn.SiLU()) for n, m, size in stages))
        self.output = nn.Conv2d(channels[0], image[0], 3, padding=1)

    def forward(self, *parents: trees.Tree) -> Tensor:
        rows = join(self.parents(parents), self.in_shapes)
        images = self.hidden(rows).reshape(-1, *self.start)
        return self.output(self.convolutions(images)).reshape(*rows.shape[:-1], *self.out_shape)


def _double(n: int, m: int, size: tuple[int, int]) -> nn.Module:
    """A stride-2 transposed convolution onto ``size``: 2 s - 1 pixels from s, one more where the size is even."""
    padding = (1 - size[0] % 2, 1 - size[1] % 2)
    return nn.ConvTranspose2d(n, m, 3, stride=2, padding=1, output_padding=padding)


def _image_shape(shape: Size) -> Size:
    if len(shape) != 3:
        raise PyrovaeError(f"an image has the shape (channels, height, width); got {tuple(shape)}")
    return shape
