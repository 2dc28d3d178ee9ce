"""How a network reads what is no vector of real numbers of moderate size: labels, tokens, counts, levels.

A ``Reading`` puts a reader before a network for each of its parents. A reader is any module of one parent, such as::

    Reading(MLP([(64, 65), 10], 300, 80), OneHot(65), OneHot(10))  # q(z | x, y): tokens and a label, one-hot
    Reading(MLP([40, 8], 300, 784), None, nn.Embedding(10, 8))     # p(x | z, y): z as it is, the label embedded
    Reading(MLP(784, 300, 80), None, Ignore())                     # q(z | x), though y is given
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Size, Tensor, nn

from pyrovae import trees
from pyrovae.errors import PyrovaeError
from pyrovae.networks import Shape
from pyrovae.observed_values import ValuesAndMask
from pyrovae.readers import Exp, Ignore, LogCounts, OneHot, Reader, Scaled, Standardized, as_read, check_looked_up
from pyrovae.recorded import Recorded
from pyrovae.trees import Tree

__all__ = ["Exp", "Ignore", "LogCounts", "OneHot", "Reader", "Reading", "Scaled", "Standardized", "ValuesAndMask",
           "shapes_read"]  # fmt: skip


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
        for reader, parent in zip(self.readers, parents, strict=False):
            check_looked_up(reader, parent)
        read = [as_read(reader, parent) for reader, parent in zip(self.readers, parents, strict=False)]
        return trees.leaves([*read, *parents[len(read) :]])

    def batch_shape(self, *parents: Tree) -> Size:
        """See ``networks.Network.batch_shape``."""
        shape: Size = self.net.batch_shape(*self.read(*parents))  # type: ignore[operator]
        return shape

    def of_first(self, first: Tensor) -> Tensor:
        """See ``networks.Network.of_first``."""
        read = trees.leaves([as_read(self.readers[0], first)]) if len(self.readers) else [first]
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


def shapes_read(readers: Sequence[nn.Module | None], parents: Sequence[Tensor]) -> list[Shape]:
    """The event shapes of what readers make of parents with a leading data dimension: a network's ``in_shapes``."""
    read = Reading(nn.Identity(), *readers).read(*(parent[:1] for parent in parents))
    return [tuple(leaf.shape[1:]) for leaf in read]
