"""Importance weights in a stream: every result of a block of data, in memory that does not grow with the particles.

``Accumulator`` keeps the moments and the largest of the weights, ``Reservoir`` keeps draws in proportion to them. Both
take the particles in chunks of log-weights (C, N), and how these are cut does not matter.
"""

from __future__ import annotations

import math
from itertools import accumulate

import torch
from torch import Tensor

from pyrovae import trees
from pyrovae.errors import PyrovaeError
from pyrovae.evidence.weights import pareto
from pyrovae.precision import float64

TOGETHER = 2**15  # log-weights
KEPT = 64  # of the largest weights at the least: all of them, for so few particles
ORDERS = 5  # of the sums of powers of those not kept


class Accumulator:
    """Log mean weight of each datum over S particles, with its standard error, effective sample size and k-hat.

    All results are (N,) float64 and can be read once S particles are in. A nan among the weights of a datum makes its
    results nan; weights of zero (-inf) are weights like any other.

    Args:
        num_data: N.
        num_particles: S.
        device: where the state lives; it must know float64.
    """

    def __init__(self, num_data: int, num_particles: int, device: torch.device | str = "cpu") -> None:
        self.num_data, self.num_particles = num_data, num_particles
        self.count = self._taken = 0  # particles given, and of these taken in
        self._kept = max(pareto.tail_length(num_particles), min(KEPT, num_particles))
        zeros = torch.zeros(num_data, dtype=torch.float64, device=device)
        # Of the weights scaled by exp(-max): mean, and sum of squared deviations. The latter, not the sum of squares,
        # since under a nearly exact guide the variance is lost in the rounding of the squares.
        self._max, self._mean, self._deviations = zeros - math.inf, zeros, zeros
        self._tail = zeros.new_empty(0, num_data)  # the largest
        self._powers = zeros.new_full((ORDERS, num_data), -math.inf)  # log sum_s w_s^p of all others, p = 1 .. ORDERS
        self._waiting: list[Tensor] = []  # chunks that are taken in together, since each costs a dozen small operations

    @torch.no_grad()
    def add(self, log_w: Tensor) -> None:
        """Take in a chunk of C further particles.

        Args:
            log_w: log-weights (C, N) in nats, any floating type.

        Raises:
            PyrovaeError: another shape, no particle, or more of them than announced.
        """
        self._check(log_w)
        self._waiting.append(log_w.detach().clone())  # a captured graph writes its next result over this one
        self.count += log_w.shape[0]
        if self.count == self.num_particles or sum(chunk.numel() for chunk in self._waiting) >= TOGETHER:
            self._take_in()

    def _take_in(self) -> None:
        log_w = float64(torch.cat(self._waiting)).to(self._max.device)
        self._waiting.clear()
        self._add_moments(log_w)
        candidates = torch.cat([self._tail, log_w])
        self._tail, kept = candidates.topk(min(self._kept, len(candidates)), dim=0)  # a nan counts as largest
        if len(candidates) > self._kept:
            self._powers = torch.logaddexp(self._powers, _log_powers(candidates.scatter(0, kept, -math.inf)))

    def _check(self, log_w: Tensor) -> None:
        if log_w.dim() != 2 or log_w.shape[1] != self.num_data or not log_w.shape[0]:
            raise PyrovaeError(f"a chunk of log-weights must be (C, {self.num_data}); got {tuple(log_w.shape)}")
        if self.count + log_w.shape[0] > self.num_particles:
            raise PyrovaeError(f"{self.count + log_w.shape[0]} particles where {self.num_particles} were announced")

    def _add_moments(self, log_w: Tensor) -> None:
        """Merge the moments of two sets: Chan, Golub, LeVeque (1983), The American Statistician 37(3)."""
        old, new = self._taken, log_w.shape[0]
        self._taken += new
        log_max = torch.maximum(self._max, log_w.amax(0))
        scale = torch.where(log_max.isfinite(), log_max, 0)  # -inf - -inf is nan; any scale does where all is zero
        shrink = torch.exp(self._max - scale) if old else 0.0
        w = torch.exp(log_w - scale)
        gap = w.mean(0) - self._mean * shrink
        self._deviations = (
            self._deviations * shrink**2 + (w - w.mean(0)).square().sum(0) + gap.square() * old * new / (old + new)
        )
        self._mean = self._mean * shrink + gap * new / (old + new)
        self._max = log_max

    def _whole(self, result: Tensor) -> Tensor:
        if self.count != self.num_particles:
            raise PyrovaeError(f"only {self.count} of {self.num_particles} particles are in")
        return result

    @property
    def max_log_w(self) -> Tensor:
        """The largest log-weight, nats."""
        return self._whole(self._max)

    @property
    def log_mean(self) -> Tensor:
        """log (1/S sum_s w_s), nats; -inf where every weight is zero."""
        return self._whole(self._max + self._mean.log())

    @property
    def standard_error(self) -> Tensor:
        """Standard error of ``log_mean`` by the delta method, nats: sqrt((S sum w^2 / (sum w)^2 - 1) / (S - 1)).

        nan for a single particle, and where every weight is zero. Too small where k-hat is above its threshold: the
        weights that would have made it large were not drawn.
        """
        squared_variation = self._deviations / self._mean.square() / self.num_particles  # S sum w^2 / (sum w)^2 - 1
        return self._whole(torch.sqrt(squared_variation / (self.num_particles - 1 or math.nan)))

    @property
    def ess(self) -> Tensor:
        """Effective sample size (sum w)^2 / sum w^2, from 1 to S; 0 where every weight is zero."""
        ess = self.num_particles / (1 + self._deviations / self._mean.square() / self.num_particles)
        return self._whole(ess.masked_fill(self._mean == 0, 0))

    @property
    def tail(self) -> Tensor:
        """The M = ``pareto.tail_length(S)`` largest log-weights, (M, N), in no particular order."""
        return self._whole(self._tail).topk(pareto.tail_length(self.num_particles), dim=0).values

    @property
    def jackknife(self) -> Tensor:
        """Jackknifed ``log_mean``, nats: S L_S - (S - 1) mean_s L_(S-1) without s, where L_S is log (1/S sum_s w_s).

        Its bias is of order 1 / S^2, that of ``log_mean`` of order 1 / S, where the weights have the moments for it. It
        is no bound: it may lie above log p(x) in expectation. With shares r_s = w_s / sum w it is

            L_S - (S - 1) log(S / (S - 1)) - (S - 1) / S sum_s log(1 - r_s),

        exact over the K >= 64 weights kept. The others have shares below 1 / (K + 1); their part is summed as a power
        series to order 5, which leaves out less than 1 / (6 K (K + 1)^4), below 2e-10 nats.

        nan for a single particle; -inf where every weight is zero; inf where all but one are.

        Reference:
            Nowozin (2018), "Debiasing evidence approximations: on importance-weighted autoencoders and jackknife
            variational inference", ICLR, of first order.
        """
        count = self.num_particles
        if count == 1:
            return self._whole(torch.full_like(self._mean, math.nan))
        log_total = self.log_mean + math.log(count)
        orders = _orders(log_total)
        rest = (torch.exp(self._powers - orders * log_total) / orders).sum(0) - self._log_remainders(log_total)
        jackknife = self.log_mean + (count - 1) * (rest / count - math.log1p(1 / (count - 1)))
        return jackknife.where(self._max > -math.inf, self._max)

    def _log_remainders(self, log_total: Tensor) -> Tensor:
        """sum of log(1 - r) over the weights kept, (N,)."""
        order = self._tail.sort(0, descending=True).values
        others = torch.cat([order[1:], self._powers[:1]]).logsumexp(0)  # 1 - r would round to 0 for a dominating weight
        return torch.log1p(-torch.exp(order[1:] - log_total)).sum(0) + others - log_total

    @property
    def truncated(self) -> Tensor:
        """log (1/S sum_s min(w_s, sqrt(S) mean w)), nats: never above ``log_mean``, and of less variance.

        With shares r_s = w_s / sum w it is L_S + log(1 - sum_s max(r_s - 1 / sqrt S, 0)): fewer than sqrt(S) weights
        are above the level, all of them kept. What it cuts off is what the largest weights tell of the tail, so it is
        further from log p(x) in expectation where these matter.

        Reference:
            Ionides (2008), "Truncated importance sampling", Journal of Computational and Graphical Statistics 17(2).
        """
        level = self.num_particles**-0.5
        shares = torch.exp(self._tail - self.log_mean - math.log(self.num_particles))
        truncated = self.log_mean + torch.log1p(-(shares - level).clamp(min=0).sum(0))
        return truncated.where(self._max > -math.inf, self._max)

    @property
    def pareto_k(self) -> Tensor:
        """k-hat, see ``pareto.pareto_k``."""
        return pareto.pareto_k(self.tail, self.num_particles)

    def figures(self) -> dict[str, Tensor]:
        """By the names of ``Evidence``, on the CPU."""
        same = ("standard_error", "ess", "pareto_k", "jackknife", "truncated")
        figures = {"log_prob": self.log_mean, **{name: getattr(self, name) for name in same}}
        return {name: figure.cpu() for name, figure in figures.items()}


def _log_powers(log_w: Tensor) -> Tensor:
    """log sum_s w_s^p for p = 1 .. ORDERS, (ORDERS, N)."""
    top = log_w.amax(0)
    w = torch.exp(log_w - torch.where(top.isfinite(), top, 0))
    sums = torch.stack([power.sum(0) for power in accumulate([w] * ORDERS, torch.mul)])
    return _orders(top) * top + sums.log()


def _orders(like: Tensor) -> Tensor:
    return torch.arange(1, ORDERS + 1, dtype=like.dtype, device=like.device)[:, None]


class Reservoir:
    """R draws of each datum, resampled with replacement in proportion to weight while the particles stream by.

    Each of the R slots of each datum is a weighted reservoir of size one, independent of the others given the
    particles: on a chunk of total weight c it is replaced with probability c / (total so far, c included), by a
    particle of the chunk drawn in proportion to weight. So a slot always holds particle s with probability w_s / sum w.

    Reference:
        Chao (1982), "A general purpose unequal probability sampling plan", Biometrika 69(3), for a sample of size one.

    Args:
        num_draws: R.
    """

    def __init__(self, num_draws: int) -> None:
        if num_draws < 1:
            raise PyrovaeError(f"the number of draws must be at least 1; got {num_draws}")
        self.num_draws = num_draws
        self._slots: trees.Tree = None
        self._log_total: Tensor | None = None

    @torch.no_grad()
    def add(self, log_w: Tensor, values: trees.Tree, generator: torch.Generator | None = None) -> None:
        """Take in a chunk of C further particles.

        Args:
            log_w: log-weights (C, N), nats.
            values: tree of tensors (C, N, *event), on one device with the log-weights.
            generator: source of the random numbers; the global one if None.

        Raises:
            PyrovaeError: a leaf does not begin with the shape of the log-weights, or N has changed.
        """
        self._check(log_w, values)
        log_w = float64(log_w)
        chunk = log_w.logsumexp(0)
        total = chunk if self._log_total is None else torch.logaddexp(self._log_total, chunk)
        shape = (2, self.num_draws, log_w.shape[1])
        where = log_w.device if generator is None else generator.device
        whether, which = torch.rand(shape, generator=generator, dtype=torch.float64, device=where).to(log_w.device)
        replace = whether < torch.exp(chunk - total)  # never where all weights are zero: the probability is nan
        index = _choose(log_w, which)
        old = trees.tree_map(lambda leaf: None, values) if self._slots is None else self._slots
        self._slots = trees.tree_map(
            lambda new, slot: _replace(slot, new.to(log_w.device), index, replace), values, old
        )
        self._log_total = total

    def _check(self, log_w: Tensor, values: trees.Tree) -> None:
        shapes = [tuple(leaf.shape) for leaf in trees.leaves(values)]
        if log_w.dim() != 2 or any(shape[:2] != tuple(log_w.shape) for shape in shapes):
            raise PyrovaeError(f"log-weights must be (C, N), values (C, N, ...); got {tuple(log_w.shape)} and {shapes}")
        if self._log_total is not None and len(self._log_total) != log_w.shape[1]:
            raise PyrovaeError(f"the reservoir holds {len(self._log_total)} data; got a chunk of {log_w.shape[1]}")

    @property
    def log_total(self) -> Tensor:
        """log sum_s w_s over all particles so far, (N,) float64, nats."""
        if self._log_total is None:
            raise PyrovaeError("the reservoir is empty: add particles first")
        return self._log_total

    @property
    def valid(self) -> Tensor:
        """Whether a datum's slots hold draws, (N,) bool: not where all weights are zero, or one is nan or infinite."""
        return self.log_total.isfinite()

    @property
    def values(self) -> trees.Tree:
        """The draws: a tree like the values, each (R, N, *event); nan in floating leaves where data are not valid."""
        valid = self.valid
        return trees.tree_map(lambda leaf: blank(leaf, valid), self._slots)

    @property
    def slots(self) -> trees.Tree:
        """The draws with nothing blanked: some particle where data are not valid."""
        return self._slots


def _choose(log_w: Tensor, uniform: Tensor) -> Tensor:
    """Indices (R, N) of particles in proportion to weight, by the inverse of the cumulated weights."""
    cumulated = log_w.softmax(0).cumsum(0).T.contiguous()  # (N, C)
    point = uniform.T * cumulated[:, -1:]
    # right=True: the first particle above the point, hence never one of weight zero
    return torch.searchsorted(cumulated, point.contiguous(), right=True).clamp(max=len(log_w) - 1).T


def _replace(slot: Tensor | None, new: Tensor, index: Tensor, replace: Tensor) -> Tensor:
    picked = new[index, torch.arange(new.shape[1], device=new.device)]  # (R, N, *event)
    return picked if slot is None else torch.where(_align(replace, picked), picked, slot)


def blank(leaf: Tensor, valid: Tensor) -> Tensor:
    """A leaf (R, N, *event) with nan for the data that are not valid; unchanged where it holds integers."""
    return torch.where(_align(valid[None], leaf), leaf, math.nan) if leaf.is_floating_point() else leaf


def _align(mask: Tensor, leaf: Tensor) -> Tensor:
    """A mask (R or 1, N) with trailing ones for the leaf's event."""
    return mask.reshape(*mask.shape, *[1] * (leaf.dim() - 2))
