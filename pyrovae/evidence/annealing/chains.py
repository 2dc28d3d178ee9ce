"""Annealed importance sampling: chains that walk from the guide, or the prior, to the joint density.

Forwards (Neal 2001), u_0 ~ f_0 = q(u | x) and log w = sum_k (t_k - t_{k-1}) (log p(x, u_{k-1}) - log q(u_{k-1} | x)),
where u_k comes from u_{k-1} by a Hamiltonian transition that leaves f_k ~ q^(1 - t_k) p^(t_k) as it is. E[w] = p(x).
Backwards from u ~ p(u | x), the same steps in reverse order give E[1 / w] = 1 / p(x).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from pyrovae.arguments import whole
from pyrovae.errors import PyrovaeError
from pyrovae.evidence.annealing.latents import Point
from pyrovae.evidence.annealing.schedules import Adaptive, Pilot, Schedule, interpolated
from pyrovae.precision import float64

STATIONS = 100  # temperatures of a pilot at the most, 0 and 1 among them; chains of a thousand steps pass fewer
TRANSITIONS = 4  # of a pilot at each
ORDINARY = 30  # transitions of a pilot in all from a good guide; fewer from a better one, more from one far off
ALIKE = 0.5  # effective share of the pilot's chains that the next temperature leaves
GAIN = 0.7  # of the log step size, per transition, by the acceptance missed
BEGIN = 1e-12  # a temperature as good as 0, where a density of 0 is yet no number to multiply it by
ROUNDING = 1e-12  # of the logarithm of an effective share
HALVINGS = 25  # of the logarithm of a temperature
RENEWAL = 0.25  # of the log scales, per transition: few chains tell them to a fifth
JITTER = (0.7, 1.3)  # of the step size, chain by chain: no orbit closes on itself in every chain

Evaluate = Callable[[Tensor], Point]


@dataclass(frozen=True)
class Annealing:
    """How chains are annealed.

    Args:
        schedule: ``Adaptive()``, ``Linear()`` or ``Sigmoid()``.
        num_leapfrog: leapfrog steps of each transition.
        acceptance: at which the pilot aims.
        start: "guide", "prior", or "auto": the guide where its density can be evaluated at any z, else the prior.

    Raises:
        PyrovaeError: a number out of range, an unknown start, what is no schedule.
    """

    schedule: Schedule = field(default_factory=Adaptive)
    num_leapfrog: int = 3
    acceptance: float = 0.8
    start: Literal["auto", "guide", "prior"] = "auto"

    def __post_init__(self) -> None:
        if isinstance(self.schedule, type) or not callable(self.schedule):
            raise PyrovaeError(f"schedule must be Linear(), Sigmoid() or Adaptive(); got {self.schedule!r}")
        whole("num_leapfrog", self.num_leapfrog)
        if not 0 < self.acceptance < 1:
            raise PyrovaeError(f"acceptance must lie between 0 and 1; got {self.acceptance}")
        if self.start not in ("auto", "guide", "prior"):
            raise PyrovaeError(f"start must be 'auto', 'guide' or 'prior'; got {self.start!r}")


class Frozen(NamedTuple):
    """What a pilot settles for chains to come, which do not change it.

    Attributes:
        temperatures: t_0 = 0, ..., t_T = 1, (T + 1, n).
        stations: those of the pilot, (K, n).
        log_stride: log step size of each unconstrained dimension there, (K, n, D).
    """

    temperatures: Tensor
    stations: Tensor
    log_stride: Tensor

    def stride(self, k: int) -> Tensor:
        """Step sizes at t_k, (n, D)."""
        return interpolated(self.temperatures[k : k + 1], self.stations, self.log_stride)[0].exp()


def pilot(evaluate: Evaluate, u: Tensor, scale: Tensor, annealing: Annealing) -> Pilot:
    """Walk chains from ``u`` (C, n, D) to the joint density once, and learn temperatures and step sizes on the way.

    Each station is as far from the last as leaves the weights of its chains alike: few on an easy path, many where
    the density narrows by orders of magnitude. Step sizes and scales (n, D) change with what the chains meet, so these
    chains estimate nothing. A datum's own are settled when it has reached 1, whatever the others still do.
    """
    state = _begun(evaluate, u)
    t = length = stretch = torch.zeros_like(state.log_p[0])
    before = torch.zeros_like(state.log_p)
    log_step, log_scale = torch.full_like(t, -math.log(u.shape[2]) / 4), scale.log()
    met: list[Pilot] = []
    for left in reversed(range(STATIONS)):
        for _ in range(TRANSITIONS):
            stride = _strides(log_step, log_scale).exp()
            state, accepted = transition(evaluate, state, t.clamp(min=BEGIN), stride, annealing)
            log_step = log_step + GAIN * (accepted.mean(0) - annealing.acceptance)
            log_scale = log_scale.lerp(_scale(state.u, log_scale), RENEWAL)
        gain = state.log_p - state.log_q
        length = length + (_length(stretch * before) + _length(-stretch * gain)) / 2
        new = Pilot(t, length, _strides(log_step, log_scale))
        met.append(_settled(met[-1], new) if met else new)
        if (t >= 1).all():
            break
        stretch, before = _stretch(gain, 1 - t) if left > 1 else 1 - t, gain
        t = t + stretch
    return Pilot(*map(torch.stack, zip(*met, strict=True)))


def _settled(last: Pilot, new: Pilot) -> Pilot:
    """What is new of the data that were still on their way."""
    return Pilot(*(_where(last.temperatures < 1, *each) for each in zip(new, last, strict=True)))


def _begun(evaluate: Evaluate, u: Tensor) -> Point:
    """Where chains begin, in memory of its own: a captured graph writes its next result over this one."""
    return Point(*(part.clone() for part in evaluate(u)))


def _strides(log_step: Tensor, log_scale: Tensor) -> Tensor:
    return log_step[:, None].to(log_scale) + log_scale


def _scale(u: Tensor, log_scale: Tensor) -> Tensor:
    """log of the chains' standard deviations, (n, D); ``log_scale`` where they have none."""
    found = u.std(0, correction=0).log()
    return found.where(found.isfinite(), log_scale)


def _stretch(gain: Tensor, most: Tensor) -> Tensor:
    """The largest change of temperature after which a share ``ALIKE`` of the chains is effective, (n,)."""
    aim = math.sqrt(-math.log(ALIKE))
    low, high = (most * BEGIN).log(), most.log()
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        near = _length(middle.exp() * gain) <= aim
        low, high = middle.where(near, low), high.where(near, middle)
    return torch.where(_length(most * gain) <= aim, most, low.exp())


def _length(log_w: Tensor) -> Tensor:
    """sqrt(-log(ess / C)) of weights of which some differ from 0: the standard deviation of log w if that is small."""
    log_w = log_w.where(log_w.isfinite(), -math.inf)
    number = log_w.isfinite().sum(0).clamp(min=1).to(log_w).log()
    share = 2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0) - number
    return (-share - ROUNDING).clamp(min=0).sqrt().nan_to_num(0.0)


def frozen_by(pilot: Pilot, num_steps: int, annealing: Annealing) -> Frozen:
    """Temperatures and step sizes for ``num_steps`` steps."""
    temperatures = annealing.schedule(num_steps, pilot).expand(-1, pilot.length.shape[1])
    return Frozen(temperatures, pilot.temperatures, pilot.log_stride)


def forwards(evaluate: Evaluate, u: Tensor, frozen: Frozen, annealing: Annealing) -> tuple[Tensor, Tensor, Tensor]:
    """log w of chains from u ~ q: log w (C, n), where they end (C, n, D), and their acceptance rates (C, n)."""
    return _walk(evaluate, u, frozen, annealing, range(1, len(frozen.temperatures)))


def backwards(evaluate: Evaluate, u: Tensor, frozen: Frozen, annealing: Annealing) -> tuple[Tensor, Tensor, Tensor]:
    """log w of chains from u ~ p(u | x), walking back to q: as ``forwards`` has it, so that E[1 / w] = 1 / p(x)."""
    return _walk(evaluate, u, frozen, annealing, range(len(frozen.temperatures) - 1, 0, -1))


def _walk(
    evaluate: Evaluate, u: Tensor, frozen: Frozen, annealing: Annealing, order: range
) -> tuple[Tensor, Tensor, Tensor]:
    state = _begun(evaluate, u)
    log_w = torch.zeros_like(state.log_p)
    accepted = torch.zeros_like(log_w)
    stretch = frozen.temperatures.to(log_w).diff(dim=0)
    number = len(order)
    for count, k in enumerate(order):
        log_w += stretch[k - 1] * (state.log_p - state.log_q)
        if count < number - 1:
            at = k if order.step > 0 else k - 1
            state, rate = transition(evaluate, state, frozen.temperatures[at], frozen.stride(at), annealing)
            accepted += rate
    return log_w, state.u, accepted / max(number - 1, 1)


def transition(
    evaluate: Evaluate, state: Point, t: Tensor, stride: Tensor, annealing: Annealing
) -> tuple[Point, Tensor]:
    """A Hamiltonian transition that leaves q^(1 - t) p^t as it is, and its acceptance probability (C, n).

    Args:
        t: temperature of each datum, (n,).
        stride: step size of each datum's dimensions, (n, D).
    """
    momentum = torch.randn_like(state.u)
    low, high = JITTER
    stride = stride * (low + (high - low) * torch.rand_like(state.u[..., :1]))
    mixed = partial(_mixed, t=t)
    end, r = state, momentum
    for _ in range(annealing.num_leapfrog):
        r = r + 0.5 * stride * mixed(end.grad_q, end.grad_p)
        end = evaluate(end.u + stride * r)
        r = r + 0.5 * stride * mixed(end.grad_q, end.grad_p)
    gain = _mixed(end.log_q - state.log_q, end.log_p - state.log_p, t=t)
    gain = gain + 0.5 * (float64(momentum).square() - float64(r).square()).sum(-1)
    # nan where a density is none: never accepted
    probability = gain.clamp(max=0).exp().nan_to_num(0.0)
    accept = torch.rand_like(probability) < probability
    return Point(*(_where(accept, new, old) for new, old in zip(end, state, strict=True))), probability


def _mixed(q: Tensor, p: Tensor, *, t: Tensor) -> Tensor:
    """(1 - t) q + t p for (C, n) or (C, n, D)."""
    t = (t if q.dim() == 2 else t[:, None]).to(q)
    return q + t * (p - q)


def _where(condition: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """By a condition for the first dimensions of both."""
    condition = condition.to(new.device)
    return torch.where(condition.reshape(*condition.shape, *[1] * (new.dim() - condition.dim())), new, old)
