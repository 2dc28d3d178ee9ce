"""The Pareto shape k-hat: how heavy the tail of a datum's importance weights is, hence how far to trust its estimate.

The largest weights are taken for draws of a generalized Pareto distribution; its shape k says which moments of the
weights exist: the variance for k < 1/2, the mean for k < 1. k-hat is a diagnostic only: no weight is smoothed here.

References:
    Vehtari, Simpson, Gelman, Yao, Gabry (2024), "Pareto smoothed importance sampling", JMLR 25(72).
    Zhang, Stephens (2009), "A new and efficient estimation method for the generalized Pareto distribution",
    Technometrics 51(3).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pyrovae.errors import PyrovaeError

ROUNDING = 1e-6
"""Log-weights closer than ROUNDING * (100 + |log w|) nats count as equal, 1e-4 nats at the least.

A log-weight is a difference of sums of log-probabilities, of the order of 10^2 nats even where it is itself near 0.
Under an exact guide all are equal, and what is left is rounding: measured with 10 to 3072 observed dimensions, the tail
then spreads over at most 2e-7 of (100 + |log w|) in float32 and 1e-15 in float64. A Pareto fit to that is noise, and
ties between the few values left make it infinite: the best guide would be reported as the worst. One constant serves
both precisions, since a float64 log-weight may be the sum of float32 terms, and 1e-4 nats matter to no estimate. For
terms that are float64 throughout, 1e-14 will do; in half precision rounding spreads over nats: no constant helps.
"""

LOG_TINY = math.log(torch.finfo(torch.float64).tiny)  # weights this far below the largest are no tail; ArviZ's rule


def tail_length(num_particles: int) -> int:
    """Number of largest weights that k-hat needs, the cutoff among them: M = ceil(min(S / 5, 3 sqrt S)) + 1, at most S.

    This is ArviZ 0.23's rule. ArviZ 1.x takes floor instead of ceil: one weight fewer unless the minimum is whole.
    """
    if num_particles < 1:
        raise PyrovaeError(f"the number of particles must be at least 1; got {num_particles}")
    return min(math.ceil(min(num_particles / 5, 3 * math.sqrt(num_particles))) + 1, num_particles)


def threshold(num_particles: int) -> float:
    """k-hat above which S particles are too few: min(1 - 1 / log10 S, 0.7); not positive up to S = 10."""
    return min(1 - 1 / math.log10(num_particles), 0.7) if num_particles > 1 else -math.inf


def pareto_k(tail: Tensor, num_particles: int, *, rounding: float = ROUNDING) -> Tensor:
    """k-hat of each datum, by the rule of ArviZ 0.23's ``psislw``, all data at once.

    The tail is the weights strictly above the M-th largest, and above the smallest normal float64 times the largest; so
    ties at the cutoff shorten it, datum by datum. (ArviZ 1.x keeps ties and underflows in the tail, and reports nan or
    raises ValueError where there are many; it also takes the log-weights negated.)

    Args:
        tail: the M = ``tail_length(num_particles)`` largest log-weights of each datum, (M, N), in any order, nats.
        num_particles: S, how many log-weights these are the largest of.
        rounding: log-weights closer than ``rounding * (100 + |log w|)`` are equal; see ``ROUNDING``.

    Returns:
        (N,) float64. inf where the tail has four weights or fewer, as it has up to S = 20. nan where there is no tail:
        the M largest weights are equal to rounding (an exact guide, a single particle, a latent with few values),
        every weight is zero, or one is nan or infinite.

    Raises:
        PyrovaeError: the tail has another shape.
    """
    if tail.dim() != 2 or tail.shape[0] != tail_length(num_particles):
        raise PyrovaeError(
            f"{num_particles} particles need a tail of shape ({tail_length(num_particles)}, N); got {tuple(tail.shape)}"
        )
    tail = tail.to(torch.float64)
    top = tail.amax(0)
    excess, length = _excess(tail, top)
    k = torch.where(length > 4, _shape(excess, length), math.inf)
    flat = top - tail.amin(0) <= rounding * (100 + top.abs())
    return torch.where(flat | ~top.isfinite(), math.nan, k)


def _excess(tail: Tensor, top: Tensor) -> tuple[Tensor, Tensor]:
    """w / cutoff - 1 in descending order, 0 outside the tail, (M, N); and the lengths of the tails, (N,)."""
    cutoff = torch.maximum(tail.amin(0), top + LOG_TINY)
    # k does not depend on the weights' scale, so the cutoff's own is as good as any, and spares a cancellation.
    excess = torch.expm1(tail - cutoff).clamp(min=0).sort(0, descending=True).values
    return excess, (tail > cutoff).sum(0, dtype=tail.dtype)


def _shape(x: Tensor, n: Tensor) -> Tensor:
    """Zhang and Stephens' estimate of k from n excesses x, (M, N) padded with 0, shrunk towards 1/2; (N,).

    With b = -k / sigma the likelihood, maximised over sigma, is L(b) = n (log(-b / k(b)) - k(b) - 1), where
    k(b) = mean_i log(1 - b x_i). The estimate is k(E[b]), with the mean of b under exp L on a grid below 1 / max x.
    """
    grid = _grid(x, n)
    profile = torch.stack([_profile(b, x, n) for b in grid])
    weights = profile.masked_fill(grid.isnan(), -math.inf).softmax(0)  # (points, N)
    weights = weights.masked_fill(weights < 10 * torch.finfo(weights.dtype).eps, 0)
    b = (weights * grid.nan_to_num()).sum(0) / weights.sum(0)
    # A prior worth ten observations: with few of them k-hat would scatter widely.
    return (n * _k(b, x, n) + 10 * 0.5) / (n + 10)


def _grid(x: Tensor, n: Tensor) -> Tensor:
    """b_j = 1 / max x + (1 - sqrt(m / (j - 1/2))) / (3 x*), j = 1 .. m = 30 + floor(sqrt n); x* is the first quartile.

    Shape (points, N), as many points as the longest tail needs; nan after a datum's own m.
    """
    m = 30 + n.sqrt().floor()
    j = torch.arange(1, 31 + math.isqrt(x.shape[0]), dtype=x.dtype, device=x.device)[:, None]
    rank = n - torch.floor(n / 4 + 0.5)  # of the quartile from above
    quartile = x.gather(0, rank.long().clamp(0, x.shape[0] - 1)[None])
    return torch.where(j <= m, 1 / x[0] + (1 - torch.sqrt(m / (j - 0.5))) / (3 * quartile), math.nan)


def _profile(b: Tensor, x: Tensor, n: Tensor) -> Tensor:
    k = _k(b, x, n)
    return n * (torch.log(-b / k) - k - 1)


def _k(b: Tensor, x: Tensor, n: Tensor) -> Tensor:
    return torch.log1p(-b * x).sum(0) / n  # the padding adds log 1
