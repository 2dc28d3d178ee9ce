"""Dense networks: vectors, or anything flattened, to anything."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn

from pyrovae import trees
from pyrovae.networks.base import Network, Shape, as_shape, as_shapes, join


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
