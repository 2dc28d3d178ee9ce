"""What all networks share: the event shapes of what goes in and out, and parents joined whatever their batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

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

    Subclasses set ``in_shapes``, ``out_shape`` and ``output`` (the last layer) by ``__init__``. ``causal = True`` says
    that the numbers for an element of the first parent depend on its earlier ones only: see ``pyrovae.Autoregressive``.
    """

    in_shapes: tuple[Size, ...]
    out_shape: Size
    output: nn.Module
    reads_integers: ClassVar[bool] = False
    causal: ClassVar[bool] = False

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
            self._check(parent, shape)
        return given

    def batch_shape(self, *parents: trees.Tree) -> Size:
        """The batch shape of ``self(*parents)``, without computing it."""
        return batch_of(self.parents(parents), self.in_shapes)

    def of_first(self, first: Tensor) -> Tensor:
        """The output for the first of the parents, with zeros for the others."""
        like = next(self.parameters(), first)
        found: Tensor = self(first, *(like.new_zeros(shape) for shape in self.in_shapes[1:]))
        return found

    def start_at(self, params: Tensor) -> None:
        """Set the last layer's bias so that the network starts at the output ``params`` (of ``out_shape``)."""
        bias = self.output.bias
        assert isinstance(bias, Tensor)
        per_bias = params.reshape(bias.shape[0], -1).mean(1)  # a convolution has one bias per channel
        with torch.no_grad():
            bias.copy_(per_bias)

    def _check(self, parent: Tensor, shape: Size) -> None:
        name = type(self).__name__
        if not (parent.is_floating_point() or self.reads_integers):
            raise PyrovaeError(
                f"{name} reads floating-point data and got {parent.dtype}: scale images to [0, 1], make labels "
                "one-hot, or say with pyrovae.readings.Reading how they are read"
            )
        if parent.shape[parent.dim() - len(shape) :] != shape:
            own = parent.shape[parent.dim() - len(shape) if parent.dim() > len(shape) else 1 :]  # of one datum
            raise PyrovaeError(f"{name} expects data of shape {_of_datum(shape)}; got {_of_datum(own)}")


def _of_datum(shape: Size) -> str:
    return f"({', '.join(['...', *map(str, shape)])})"


def batch_of(parents: Sequence[Tensor], shapes: Sequence[Size]) -> Size:
    """The batch shape that parents of these event shapes have in common."""
    return torch.broadcast_shapes(*(p.shape[: p.dim() - len(s)] for p, s in zip(parents, shapes, strict=True)))


def join(parents: Sequence[Tensor], shapes: Sequence[Size]) -> Tensor:
    """Flatten each parent's event and concatenate: (*batch, sum of sizes), the batches broadcast."""
    flat = [p.reshape(*p.shape[: p.dim() - len(s)], s.numel()) for p, s in zip(parents, shapes, strict=True)]
    if len(flat) == 1:
        return flat[0]
    batch = batch_of(parents, shapes)
    return torch.cat([f.expand(*batch, f.shape[-1]) for f in flat], -1)


class Constant(Network):
    """A tensor of ``out_shape`` that is learned and has no parents: what makes an unconditional ``Conditional``."""

    def __init__(self, out_shape: Shape) -> None:
        super().__init__()
        self.in_shapes, self.out_shape = (), as_shape(out_shape)
        self.value = nn.Parameter(torch.zeros(self.out_shape))

    def forward(self, *parents: trees.Tree) -> Tensor:
        return self.value

    def of_first(self, first: Tensor) -> Tensor:
        """The output for the first of the parents, with zeros for the others."""
        like = next(self.parameters(), first)
        found: Tensor = self(first, *(like.new_zeros(shape) for shape in self.in_shapes[1:]))
        return found

    def start_at(self, params: Tensor) -> None:
        with torch.no_grad():
            self.value.copy_(params)
