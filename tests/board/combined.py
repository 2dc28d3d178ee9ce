"""Programs made of any parts of the board, with data that suit them, and exact sums over what x and z can be."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import reduce
from typing import Any, NamedTuple

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
    """What x, or z, may be: a few data (N, width), and every value or a quadrature of them, of one column or of all."""

    data: Callable[[], Tensor]
    axis: Callable[[], Points]


KINDS: dict[str, Kind] = {
    "bits": Kind(lambda: torch.rand(N, WIDTH).round(), lambda: counted(2)),
    "reals": Kind(lambda: torch.randn(N, WIDTH), line),
    "counts": Kind(lambda: torch.randint(5, (N, WIDTH)).to(torch.get_default_dtype()), lambda: counted(300)),
    "categories": Kind(lambda: torch.randint(4, (N, WIDTH)).to(torch.get_default_dtype()), lambda: counted(4)),
    "reals, some missing": Kind(lambda: torch.randn(N, WIDTH).masked_fill(torch.rand(N, WIDTH) < 0.3, torch.nan), line),
    "levels": Kind(lambda: torch.randint(8, (N, WIDTH)) / 7, lambda: listed(torch.arange(8)[:, None] / 7)),
    "positive": Kind(lambda: torch.randn(N, WIDTH).exp(), halfline),
    "unit interval": Kind(lambda: 0.02 + 0.96 * torch.rand(N, WIDTH), interval),
    "angles": Kind(lambda: torch.pi * (2 * torch.rand(N, WIDTH) - 1), lambda: interval(-math.pi, math.pi)),
    "bags of words": Kind(
        lambda: torch.randint(5, (N, WIDTH)).to(torch.get_default_dtype()),
        lambda: listed(torch.stack([torch.arange(8), 7 - torch.arange(8)], -1).to(torch.get_default_dtype())),
    ),
    "mixed columns": Kind(
        lambda: torch.stack([torch.randn(N).exp(), torch.randint(4, (N,))], -1),
        lambda: product(halfline(), counted(4)),
    ),
}


def values(kind: str) -> Points:
    """All values of an x of the kind."""
    axis = KINDS[kind].axis()
    return axis if axis.nodes.shape[-1] == WIDTH else product(*[axis] * WIDTH)


def latents(kind: str, count: int = 161) -> Points:
    """All values of a z of the kind."""
    if kind == "one-hot":
        return listed(torch.eye(LATENT))
    if kind == "log-simplex":  # with two categories the density is that of the difference of the logarithms
        difference, log_weight = line(2 * count)
        return Points(nn.functional.logsigmoid(torch.cat([difference, -difference], -1)), log_weight)
    return product(*[line(count)] * LATENT)


SCORING = {"VampPrior"}  # priors that ask for the density of the encoder's distribution at other points
AVERAGING = {"exemplars"}  # priors that ask for its mean, which flows have not


def legal(prior: str, posterior: str) -> bool:
    p, q = board.PRIORS[prior], board.POSTERIORS[posterior]
    asked = (prior in SCORING and not q.scores) or (prior in AVERAGING and posterior.endswith("flow"))
    return p.values == q.values and not asked


TRIPLES = [t for t in itertools.product(board.PRIORS, board.LIKELIHOODS, board.POSTERIORS) if legal(t[0], t[2])]


def encoder(posterior: str, likelihood: str) -> pv.Conditional:
    """An encoder of the posterior's making, for x of the likelihood's kind."""
    missing = "missing" in board.LIKELIHOODS[likelihood].values
    made: Any = board.POSTERIORS[posterior].make(2 * WIDTH if missing else WIDTH, LATENT)
    if not missing:
        return made
    return pv.Conditional(pv.readings.Reading(made.net, pv.readings.ValuesAndMask()), made.family)


def program(prior: str, likelihood: str, posterior: str, x: Tensor) -> pv.VAE:
    """The VAE of three parts of the board.

    Raises:
        PyrovaeError: where they cannot be combined.
    """
    q: Any = encoder(posterior, likelihood)
    with torch.no_grad():  # close to the bias, which is as wide as a prior: weights of light tails, on the whole
        q.net.output.weight.mul_(0.3)
    decoder = board.LIKELIHOODS[likelihood].make(LATENT, WIDTH)
    return pv.VAE(board.PRIORS[prior].make(q, x, LATENT), decoder, q)
