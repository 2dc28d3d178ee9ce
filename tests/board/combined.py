"""Programs made of any parts of the board, with data that suit them, and exact sums over what x and z can be."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor, nn

import pyrovae as pv
from pyrovae import board

N, WIDTH, LATENT = 12, 2, 2  # data, columns, dimensions of z


class Points(NamedTuple):
    """Nodes (G, D) and log-weights (G,) of a quadrature: log of the integral of f is logsumexp(log f + log_weight)."""

    nodes: Tensor
    log_weight: Tensor


def listed(values: Tensor) -> Points:
    """A sum over the values."""
    return Points(values, torch.zeros(len(values)))


def line(count: int = 321, reach: float = 9.0) -> Points:
    """The real line by z = sinh(u): fine in the middle, and far out, for tails of any usual weight."""
    u = torch.linspace(-reach, reach, count)
    return Points(u.sinh()[:, None], u.cosh().log() + math.log(2 * reach / (count - 1)))


def halfline(count: int = 401, low: float = -25.0, high: float = 7.0) -> Points:
    """The positive numbers by x = exp(u)."""
    u = torch.linspace(low, high, count)
    return Points(u.exp()[:, None], u + math.log((high - low) / (count - 1)))


def interval(low: float = 0.0, high: float = 1.0, count: int = 400) -> Points:
    """An interval, by Gauss and Legendre after u = sin^2, which tames integrable ends."""
    u = (torch.arange(count) + 0.5) / count * (math.pi / 2)
    weight = 2 * u.sin() * u.cos() * (math.pi / 2 / count) * (high - low)
    return Points((low + (high - low) * u.sin() ** 2)[:, None], weight.log())


def product(*axes: Points) -> Points:
    """Every combination of the nodes of several axes."""

    def pair(a: Points, b: Points) -> Points:
        i, j = (
            t.flatten() for t in torch.meshgrid(torch.arange(len(a.nodes)), torch.arange(len(b.nodes)), indexing="ij")
        )
        return Points(torch.cat([a.nodes[i], b.nodes[j]], -1), a.log_weight[i] + b.log_weight[j])

    return reduce(pair, axes)


def counted(number: int) -> Points:
    return listed(torch.arange(number)[:, None].to(torch.get_default_dtype()))


class Kind(NamedTuple):
    """What x, or z, may be: a few data (N, width), and every value or a quadrature of them, one axis per column."""

    data: Callable[[], Tensor]
    axis: Callable[[], Points]


KINDS: dict[str, Kind] = {
    "bits": Kind(lambda: torch.rand(N, WIDTH).round(), lambda: counted(2)),
    "reals": Kind(lambda: torch.randn(N, WIDTH), line),
    "counts": Kind(lambda: torch.randint(5, (N, WIDTH)).to(torch.get_default_dtype()), lambda: counted(300)),
    "categories": Kind(lambda: torch.randint(4, (N, WIDTH)).to(torch.get_default_dtype()), lambda: counted(4)),
    "reals, some missing": Kind(lambda: torch.randn(N, WIDTH).masked_fill(torch.rand(N, WIDTH) < 0.3, torch.nan), line),
    "levels": Kind(lambda: torch.randint(8, (N, WIDTH)) / 7, lambda: listed(torch.arange(8)[:, None] / 7)),
}


def values(kind: str) -> Points:
    """All values of an x of the kind."""
    return product(*[KINDS[kind].axis()] * WIDTH)


def latents(kind: str, count: int = 161) -> Points:
    """All values of a z of the kind."""
    if kind == "one-hot":
        return listed(torch.eye(LATENT))
    return product(*[line(count)] * LATENT)


def legal(prior: str, posterior: str) -> bool:
    return board.PRIORS[prior].values == board.POSTERIORS[posterior].values


TRIPLES = [t for t in itertools.product(board.PRIORS, board.LIKELIHOODS, board.POSTERIORS) if legal(t[0], t[2])]


def encoder(posterior: str, kind: str) -> nn.Module:
    """An encoder of the posterior's making, of x of this kind."""
    make = board.POSTERIORS[posterior].make
    if "missing" not in kind:
        return make(WIDTH, LATENT)
    return pv.readings.Reading(make(2 * WIDTH, LATENT), pv.readings.ValuesAndMask())


def program(prior: str, likelihood: str, posterior: str, x: Tensor) -> pv.VAE:
    """The VAE of three parts of the board.

    Raises:
        PyrovaeError: where they cannot be combined.
    """
    reading = encoder(posterior, board.LIKELIHOODS[likelihood].values)
    decoder = board.LIKELIHOODS[likelihood].make(LATENT, WIDTH)
    return pv.VAE(board.PRIORS[prior].make(reading, x, LATENT), decoder, reading)
