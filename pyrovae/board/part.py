"""What an entry of the board is, and the kinds of values that decide which entries can be combined."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from pyrovae import families, networks
from pyrovae.conditional import Conditional

KINDS = {
    "real": "vectors of real numbers",
    "one-hot": "one-hot vectors",
    "log-simplex": "logarithms of vectors that sum to one",
    "bits": "0 and 1",
    "categories": "whole numbers 0 .. K - 1",
    "counts": "whole numbers from 0",
    "bags of words": "vectors of counts",
    "levels": "k / (L - 1), k = 0 .. L - 1",
    "unit interval": "numbers between 0 and 1",
    "positive": "positive numbers",
    "reals": "real numbers",
    "reals, some missing": "real numbers, NaN where one is missing",
    "angles": "radians, -pi .. pi",
    "mixed columns": "columns of different kinds",
    "images": "(channels, height, width)",
    "to images": "vectors, which become images",
    "sequences": "(steps, numbers in each)",
    "to sequences": "a sequence and a vector, which become numbers for each step from the steps before",
}
"""Of ``Part.values``: what it says of x, of z, or of what a network reads."""


@dataclass(frozen=True)
class Part:
    """One entry of the board.

    Attributes:
        make: of a prior: ``make(encoder, x, latent)``, where x are training data; of a likelihood:
            ``make(latent, width, *given)``, a decoder of data of ``width`` columns; of a posterior:
            ``make(width, latent, *given)``, an encoder; of a network ``make(in_shapes, out_shape)``. The widths of
            conditioning variables stand last, where there are any.
        equation: its density, or what a network computes, on one line.
        source: the reference.
        values: a name in ``KINDS``: what x is, for a likelihood; where z lies, for a prior or posterior, which can be
            combined only where they agree; for a network what it reads.
        exact: whether its density is exact; else how it is estimated.
        eager: why it cannot be traced; empty where it can.
        scores: of a posterior: whether it gives the density of points that it did not draw, which a mixture of it asks
            for (a VampPrior) and the path gradients do.
        given: of a prior: the widths of the conditioning variables that it reads. Decoder and encoder of its program
            are then made for them too.
    """

    make: Callable[..., nn.Module]
    equation: str
    source: str
    values: str = "real"
    exact: bool | str = True
    eager: str = ""
    scores: bool = True
    given: tuple[int, ...] = ()


HIDDEN = 16  # of the small networks of the board


def decoder(family: Callable[..., Any]) -> Callable[..., Conditional]:
    """How to make a decoder of a family's making: a small network."""

    def make(latent: int, width: int, *given: int) -> Conditional:
        made = family()
        out_shape = families.out_shape(made, (width,))
        return Conditional(networks.MLP([latent, *given], HIDDEN, out_shape, activation=nn.Tanh), made)

    return make


def encoder(family: Callable[..., Any]) -> Callable[..., Conditional]:
    """How to make an encoder of a family's making: a small network."""

    def make(width: int, latent: int, *given: int) -> Conditional:
        made = family()
        net = networks.MLP([width, *given], HIDDEN, families.out_shape(made, (latent,)), activation=nn.Tanh)
        if isinstance(made, families.Family):  # as wide as a prior, so that importance weights have light tails
            net.start_at(made.standard((latent,)))
        return Conditional(net, made)

    return make
