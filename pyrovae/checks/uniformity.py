"""Whether ranks are uniform: a test of their whole distribution function, and the band that belongs to it.

Of N independent ranks, uniform on 0 .. L, the number C_i that are at most i is binomial, N trials of probability
(i + 1) / (L + 1). The statistic is the most surprising of them,

    g = min_i min(1, 2 P(B_i <= C_i), 2 P(B_i >= C_i)),    i = 0 .. L - 1.

Its own distribution under uniform ranks comes from simulation, so that p-values and bands are simultaneous in i.

Saeilynoja, Buerkner & Vehtari 2022, "Graphical test for discrete uniformity and its applications in goodness-of-fit
evaluation and multiple sample comparison", Statistics and Computing 32.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from scipy.stats import binom
from torch import Tensor

SIMULATIONS = 10_000
AT_ONCE = 2**22  # simulated ranks and counts


def p_values(ranks: Tensor, num_draws: int) -> Tensor:
    """The p-value of each column of ranks (N, D) on 0 .. L = ``num_draws``, (D,).

    It is the share of simulated statistics as small as the observed one; and below the resolution of these the bound
    L g, which holds without simulation.
    """
    size = len(ranks)
    g = _statistic(_counts(ranks.T, num_draws), size)
    null = _null(size, num_draws)
    share = (1 + torch.searchsorted(null, g, right=True)) / (len(null) + 1)
    return torch.minimum(share, num_draws * g)


def band(num_data: int, num_draws: int, level: float = 0.05) -> tuple[Tensor, Tensor]:
    """Between which C_i / N all lie with probability 1 - ``level``: low and high, each (L,), for i = 0 .. L - 1."""
    g = _null(num_data, num_draws).quantile(level)
    below, above = _tails(num_data, num_draws)
    inside = 2 * torch.minimum(below, above) >= g  # (L, N + 1)
    counts = torch.arange(num_data + 1)
    low = torch.where(inside, counts, num_data).amin(1)
    high = torch.where(inside, counts, 0).amax(1)
    return low / num_data, high / num_data


def ecdf(ranks: Tensor, num_draws: int) -> Tensor:
    """C_i / N of each column of ranks (N, D), (D, L)."""
    return _counts(ranks.T, num_draws) / len(ranks)


def _counts(ranks: Tensor, num_draws: int) -> Tensor:
    """How many of the ranks in a row (D, N) are at most i, (D, L)."""
    offset = (num_draws + 1) * torch.arange(len(ranks))[:, None]
    histogram = torch.bincount((ranks + offset).flatten(), minlength=(num_draws + 1) * len(ranks))
    return histogram.unflatten(0, (len(ranks), -1)).cumsum(1)[:, :-1]


def _statistic(counts: Tensor, size: int) -> Tensor:
    below, above = _tails(size, counts.shape[1])
    point = torch.arange(counts.shape[1])
    tail = torch.minimum(below[point, counts], above[point, counts])
    return (2 * tail).clamp(max=1).amin(1)


@lru_cache(maxsize=16)
def _null(size: int, num_draws: int) -> Tensor:
    """Statistics of uniform ranks, in order; of a generator of their own, so that a p-value is one number."""
    generator = torch.Generator().manual_seed(0)
    rows = max(1, AT_ONCE // (size + num_draws))
    sizes = [min(rows, SIMULATIONS - start) for start in range(0, SIMULATIONS, rows)]
    ranks = (torch.randint(num_draws + 1, (n, size), generator=generator) for n in sizes)
    return torch.cat([_statistic(_counts(r, num_draws), size) for r in ranks]).sort().values


@lru_cache(maxsize=2)  # 160 MB for a thousand draws and ten thousand data
def _tails(size: int, num_draws: int) -> tuple[Tensor, Tensor]:
    """P(B_i <= c) and P(B_i >= c) for c = 0 .. N, each (L, N + 1)."""
    counts, p = np.arange(size + 1), (np.arange(1, num_draws + 1) / (num_draws + 1))[:, None]
    return torch.as_tensor(binom.cdf(counts, size, p)), torch.as_tensor(binom.sf(counts - 1, size, p))
