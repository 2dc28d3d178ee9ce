"""Recurrent networks: sequences to vectors, and a vector to the parameters of a sequence, step by step.

They read sequences of vectors; tokens become such by ``pyrovae.readings.Reading(net, torch.nn.Embedding(K, d))``.
"""

from __future__ import annotations

import torch
from torch import Size, Tensor, nn

from pyrovae import trees
from pyrovae.errors import PyrovaeError
from pyrovae.networks.base import Network, Shape, as_shape, as_shapes, join
from pyrovae.networks.recurrence import Recurrence, reading


class RecurrentEncoder(Network):
    """A sequence of T vectors to one vector: an LSTM in both directions, the last states of both, a linear layer.

    Args:
        in_shapes: (T, d), or a list whose first entry is that and whose others are joined after the recurrence.
        out_shape: the event shape of the output.
        width: of the states, in each direction.

    Example:
        >>> import torch, pyrovae as pv
        >>> net = pv.readings.Reading(pv.networks.RecurrentEncoder((7, 4), 6, width=8), torch.nn.Embedding(5, 4))
        >>> net(torch.randint(5, (3, 7))).shape
        torch.Size([3, 6])
    """

    def __init__(self, in_shapes: Shape | list[Shape], out_shape: Shape, *, width: int = 256) -> None:
        super().__init__()
        self.in_shapes, self.out_shape = as_shapes(in_shapes), as_shape(out_shape)
        _, size = _sequence(self.in_shapes[0])
        self.states = Size((2 * width,))
        self.reading = nn.ModuleList(reading(size, width) for _ in range(2))
        self.recurrences = nn.ModuleList(Recurrence(width) for _ in range(2))  # forwards and backwards
        joined = self.states.numel() + sum(s.numel() for s in self.in_shapes[1:])
        self.output = nn.Linear(joined, self.out_shape.numel())

    def forward(self, *parents: trees.Tree) -> Tensor:
        sequence, *others = self.parents(parents)
        ways = zip(self.reading, self.recurrences, (sequence, sequence.flip(-2)), strict=True)
        states = torch.cat([recurrence(reads(way))[..., -1, :] for reads, recurrence, way in ways], -1)
        rows = join([states, *others], [self.states, *self.in_shapes[1:]])
        return self.output(rows).unflatten(-1, self.out_shape)


class RecurrentDecoder(Network):
    """The numbers of step t of a sequence from what came before, x_<t, and a vector z: for ``Autoregressive``.

    An LSTM reads x_{t-1} and z, with the other parents, at every step; before the first comes a learned start.

    Args:
        in_shapes: [(T, d), latent, ...]: how x is read, and the shapes of the other parents.
        out_shape: (k * T,), k numbers for each step, stacked as a family wants them.
        width: of the states.
        word_dropout: the probability with which, in training mode, a step of what came before is replaced by a learned
            vector, drawn anew for every datum and particle. What is scored are all the true tokens; a decoder that
            cannot read them all needs z.

    Bowman et al. 2016, "Generating sentences from a continuous space".

    Example:
        >>> import torch, pyrovae as pv
        >>> net = pv.networks.RecurrentDecoder([(7, 4), 2], 5 * 7, width=8)
        >>> decoder = pv.Autoregressive(pv.readings.Reading(net, torch.nn.Embedding(5, 4)), pv.families.Categorical(5))
        >>> decoder(torch.randn(3, 2)).sample().shape
        torch.Size([3, 7])
    """

    causal = True

    def __init__(
        self, in_shapes: list[Shape], out_shape: Shape, *, width: int = 256, word_dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.in_shapes, self.out_shape = as_shapes(in_shapes), as_shape(out_shape)
        steps, size = _sequence(self.in_shapes[0])
        if len(self.out_shape) != 1 or self.out_shape[0] % steps:
            raise PyrovaeError(f"a decoder of {steps} steps gives (k * {steps},); got {tuple(self.out_shape)}")
        if not 0 <= word_dropout <= 1:
            raise PyrovaeError(f"word_dropout is a probability; got {word_dropout}")
        self.word_dropout = word_dropout
        self.start = nn.Parameter(0.1 * torch.randn(size))
        if word_dropout:
            self.unknown = nn.Parameter(0.1 * torch.randn(size))
        self.reading = reading(size, width)
        if others := sum(s.numel() for s in self.in_shapes[1:]):
            self.context = nn.Linear(others, 4 * width, bias=False)
        self.recurrence = Recurrence(width)
        self.output = nn.Linear(width, self.out_shape[0] // steps)

    def forward(self, *parents: trees.Tree) -> Tensor:
        sequence, *others = self.parents(parents)
        gates = self.reading(self._before(sequence, self.batch_shape(*parents)))  # (*batch, T, 4 * width)
        if others:
            gates = gates + self.context(join(others, self.in_shapes[1:])).unsqueeze(-2)
        params = self.output(self.recurrence(gates))  # (*batch, T, k)
        return params.transpose(-1, -2).flatten(-2)

    def _before(self, sequence: Tensor, batch: Size) -> Tensor:
        """What is known before each step, (*batch, T, d); without dropout only as many as there are sequences."""
        if self.training and self.word_dropout:
            sequence = sequence.expand(*batch, *self.in_shapes[0])
            kept = torch.rand_like(sequence[..., :1]) >= self.word_dropout
            sequence = torch.where(kept, sequence, self.unknown)
        start = self.start.expand(*sequence.shape[:-2], 1, -1)
        return torch.cat([start, sequence[..., :-1, :]], -2)


def _sequence(shape: Size) -> Size:
    if len(shape) != 2:
        raise PyrovaeError(
            f"a sequence is read as (steps, numbers in each); got {tuple(shape)}. Tokens are read by "
            "pyrovae.readings.Reading(net, torch.nn.Embedding(num_levels, d)), as (steps, d)"
        )
    return shape
