"""How a network reads what is no vector of real numbers of moderate size: labels, tokens, counts, levels.

A ``Reading`` puts a reader before a network for each of its parents. A reader is any module of one parent, such as::

    Reading(MLP([(64, 65), 10], 300, 80), OneHot(65), OneHot(10))  # q(z | x, y): tokens and a label, one-hot
    Reading(MLP([40, 8], 300, 784), None, nn.Embedding(10, 8))     # p(x | z, y): z as it is, the label embedded
    Reading(MLP(784, 300, 80), None, Ignore())                     # q(z | x), though y is given
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Size, Tensor, nn
from torch.distributions import Distribution, constraints

from pyrovae import trees
from pyrovae.errors import PyrovaeError
from pyrovae.networks import Shape
from pyrovae.observed_values import ValuesAndMask as ValuesAndMask
from pyrovae.recorded import Recorded
from pyrovae.trees import Tree


class Reading(Recorded, nn.Module):
    """net(reader_1(parent_1), reader_2(parent_2), ...).

    Args:
        net: a network of what the readers make.
        readers: one per parent, in their order: a module that maps the parent to a tensor, or to a tuple of tensors,
            each of which is a parent of ``net``; None reads the parent as it is, as are parents beyond the last reader.

    Raises:
        PyrovaeError: when called, fewer parents than readers; labels or tokens outside of what their reader takes
            (looked at while distributions are validated; ``fit`` looks at all data before its first step).

    Example:
        >>> import torch, pyrovae as pv
        >>> net = pv.readings.Reading(pv.networks.MLP([2, 3], 16, 4), None, torch.nn.Embedding(10, 3))
        >>> net(torch.randn(5, 2), torch.randint(10, (5,))).shape
        torch.Size([5, 4])
    """

    def __init__(self, net: nn.Module, *readers: nn.Module | None) -> None:
        super().__init__()
        self.net = net
        self.readers = nn.ModuleList(nn.Identity() if reader is None else reader for reader in readers)

    def forward(self, *parents: Tree) -> Tensor:
        found: Tensor = self.net(*self.read(*parents))
        return found

    def read(self, *parents: Tree) -> list[Tensor]:
        """What the network gets."""
        if len(parents) < len(self.readers):
            raise PyrovaeError(
                f"there are {len(self.readers)} readers and {len(parents)} parents: pass every conditioning variable "
                "(given)"
            )
        read = [_read(reader, parent) for reader, parent in zip(self.readers, parents, strict=False)]
        return trees.leaves([*read, *parents[len(read) :]])

    def batch_shape(self, *parents: Tree) -> Size:
        """See ``networks.Network.batch_shape``."""
        shape: Size = self.net.batch_shape(*self.read(*parents))  # type: ignore[operator]
        return shape

    def of_first(self, first: Tensor) -> Tensor:
        """See ``networks.Network.of_first``."""
        read = trees.leaves([_read(self.readers[0], first)]) if len(self.readers) else [first]
        like = next(self.parameters(), read[0])
        shapes: Any = self.net.in_shapes
        found: Tensor = self.net(*read, *(like.new_zeros(shape) for shape in shapes[len(read) :]))
        return found

    def start_at(self, params: Tensor) -> None:
        """See ``networks.Network.start_at``."""
        self.net.start_at(params)  # type: ignore[operator]

    @property
    def out_shape(self) -> Any:
        """The event shape of the network's output."""
        return self.net.out_shape

    @property
    def output(self) -> Any:
        """The network's last layer."""
        return self.net.output

    @property
    def causal(self) -> bool:
        """See ``networks.Network``; ``Autoregressive`` tries whether the readers keep to it."""
        return getattr(self.net, "causal", False)


class Reader(Recorded, nn.Module):
    """Base of the readers here; ``support`` says which values one takes, where it does not take all."""

    support: constraints.Constraint | None = None


class OneHot(Reader):
    """Whole numbers 0 .. num_levels - 1 of any dtype, (*batch, *event), as one-hot, (*batch, *event, num_levels)."""

    levels: Tensor
    one: Tensor  # which knows the program's dtype

    def __init__(self, num_levels: int) -> None:
        super().__init__()
        self.support = constraints.integer_interval(0, num_levels - 1)
        self.register_buffer("levels", torch.arange(num_levels), persistent=False)  # whole, where floats are not
        self.register_buffer("one", torch.ones(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        # Compared and not scattered: no branch, and no error on the device.
        return (x.unsqueeze(-1) == self.levels).to(self.one)


class Scaled(Reader):
    """Levels 0 .. num_levels - 1 of any dtype as x / (num_levels - 1), in [0, 1]: grey values, binary attributes."""

    top: Tensor

    def __init__(self, num_levels: int) -> None:
        super().__init__()
        if num_levels < 2:
            raise PyrovaeError(f"there must be at least two levels; got {num_levels}")
        self.support = constraints.interval(0, num_levels - 1)
        self.register_buffer("top", torch.tensor(num_levels - 1.0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x / self.top


class LogCounts(Reader):
    """log(1 + x) of counts x of any dtype, a few of which may be large; what is negative counts as 0."""

    one: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("one", torch.ones(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x if x.is_floating_point() else x.to(self.one)).clamp(min=0).log1p()


class Exp(Reader):
    """exp(z), of logarithms z: the point of the simplex whose logarithm a relaxed categorical gives."""

    def forward(self, z: Tensor) -> Tensor:
        return z.exp()


class Ignore(Reader):
    """Nothing of the parent: the network does not depend on it."""

    def forward(self, x: Tree) -> tuple[()]:
        return ()


def takes(reader: nn.Module) -> constraints.Constraint | None:
    """The values that a reader takes; None where it does not say."""
    if isinstance(reader, nn.Embedding):
        return constraints.integer_interval(0, reader.num_embeddings - 1)
    return getattr(reader, "support", None)


def check_values(reader: nn.Module, x: Tensor, name: str = "a parent") -> None:
    """Raises PyrovaeError where ``x`` holds a value that ``reader`` does not take."""
    support = takes(reader)
    if support is None:
        return
    inside = support.check(x.long() if x.dtype == torch.bool else x)
    if not inside.all():
        raise PyrovaeError(
            f"{name} holds {x[~inside][0].item():g}, and {type(reader).__name__} reads values {_words(support)}: "
            "labels outside the classes, or levels outside those, that the program was built for"
        )


def shapes_read(readers: Sequence[nn.Module | None], parents: Sequence[Tensor]) -> list[Shape]:
    """The event shapes of what readers make of parents with a leading data dimension: a network's ``in_shapes``."""
    read = Reading(nn.Identity(), *readers).read(*(parent[:1] for parent in parents))
    return [tuple(leaf.shape[1:]) for leaf in read]


def _read(reader: nn.Module, parent: Tree) -> Tree:
    support = takes(reader)
    if support is None:
        return reader(parent)
    if Distribution._validate_args:  # as of distributions, so never inside a traced step
        check_values(reader, parent)
    return reader(parent.long() if isinstance(reader, nn.Embedding) else parent)


def _words(support: Any) -> str:
    return f"{support.lower_bound} .. {support.upper_bound}"
