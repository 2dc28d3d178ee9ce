"""Sums and quadratures over what x and z can be, as nodes and log-weights."""

from __future__ import annotations

import math
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor


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
