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
from pyrovae.evidence.annealing.schedules import Adaptive, Pilot, Schedule, interpolated, sigmoid

STATIONS = 30  # temperatures of a pilot, a transition at each
GAIN = 0.7  # of the log step size, per transition, by the acceptance missed
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
        temperatures: t_0 = 0, ..., t_T = 1, (T + 1, n or 1).
        step: step size at t_1, ..., t_{T-1}, (T - 1, n).
        scale: of each latent dimension, the inverse square root of the mass, (n, D).
    """

    temperatures: Tensor
    step: Tensor
    scale: Tensor


def pilot(evaluate: Evaluate, u: Tensor, scale: Tensor, annealing: Annealing) -> Pilot:
    """Walk chains from ``u`` (C, n, D) to the joint density once, and learn the step sizes on the way.

    The step sizes change with what the chains meet, so these chains estimate nothing.
    """
    temperatures = sigmoid(torch.linspace(0, 1, STATIONS + 2))[1:-1].to(scale)
    log_step = torch.full_like(scale[:, 0], -math.log(scale.shape[1]) / 4)
    state, log_steps, speeds = _begun(evaluate, u), [], []
    for t in temperatures:
        state, accepted = transition(evaluate, state, t.expand_as(log_step), log_step.exp(), scale, annealing)
        log_step = log_step + GAIN * (accepted.mean(0).to(log_step) - annealing.acceptance)
        log_steps.append(log_step)
        speeds.append(_spread(state.log_p - state.log_q).to(log_step))
    return Pilot(temperatures, _smooth(torch.stack(log_steps)), _smooth(torch.stack(speeds)), scale)


def _begun(evaluate: Evaluate, u: Tensor) -> Point:
    """Where chains begin, in memory of its own: a captured graph writes its next result over this one."""
    return Point(*(part.clone() for part in evaluate(u)))


def _spread(values: Tensor) -> Tensor:
    """The standard deviation along dim 0 of the values that are numbers; 0 where there are fewer than two."""
    finite = values.isfinite()
    number = finite.sum(0).clamp(min=1)
    gap = values - values.where(finite, 0).sum(0) / number
    return (gap.where(finite, 0).square().sum(0) / number).sqrt()


def _smooth(values: Tensor) -> Tensor:
    """The mean of five neighbours along dim 0; fewer at the ends."""
    cumulated = torch.cat([torch.zeros_like(values[:1]), values.cumsum(0)])
    number = torch.arange(len(values))
    low, high = (number - 2).clamp(min=0), (number + 3).clamp(max=len(values))
    return (cumulated[high] - cumulated[low]) / (high - low).to(values)[:, None]


def frozen_by(pilot: Pilot, num_steps: int, annealing: Annealing) -> Frozen:
    """Temperatures and step sizes for ``num_steps`` steps."""
    temperatures = annealing.schedule(num_steps, pilot)
    size = pilot.log_step.shape[1]
    inner = temperatures[1:-1].expand(-1, size)
    knots = pilot.temperatures[:, None].expand_as(pilot.log_step)
    return Frozen(temperatures, interpolated(inner, knots, pilot.log_step).exp(), pilot.scale)


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
            t = frozen.temperatures[at].expand(u.shape[1])
            state, rate = transition(evaluate, state, t, frozen.step[at - 1], frozen.scale, annealing)
            accepted += rate
    return log_w, state.u, accepted / max(number - 1, 1)


def transition(
    evaluate: Evaluate, state: Point, t: Tensor, step: Tensor, scale: Tensor, annealing: Annealing
) -> tuple[Point, Tensor]:
    """A Hamiltonian transition that leaves q^(1 - t) p^t as it is, and its acceptance probability (C, n).

    Args:
        t, step: temperature and step size of each datum, (n,).
        scale: (n, D).
    """
    momentum = torch.randn_like(state.u)
    low, high = JITTER
    factor = low + (high - low) * torch.rand_like(state.u[..., :1])
    stride = factor * step[:, None] * scale
    mixed = partial(_mixed, t=t)
    end, r = state, momentum
    for _ in range(annealing.num_leapfrog):
        r = r + 0.5 * stride * mixed(end.grad_q, end.grad_p)
        end = evaluate(end.u + stride * r)
        r = r + 0.5 * stride * mixed(end.grad_q, end.grad_p)
    gain = _mixed(end.log_q - state.log_q, end.log_p - state.log_p, t=t)
    gain = gain + 0.5 * (momentum.double().square() - r.double().square()).sum(-1)
    # nan where a density is none: never accepted
    probability = gain.clamp(max=0).exp().nan_to_num(0.0)
    accept = torch.rand_like(probability) < probability
    return Point(*(_where(accept, new, old) for new, old in zip(end, state, strict=True))), probability


def _mixed(q: Tensor, p: Tensor, *, t: Tensor) -> Tensor:
    """(1 - t) q + t p for (C, n) or (C, n, D)."""
    t = (t if q.dim() == 2 else t[:, None]).to(q)
    return q + t * (p - q)


def _where(accept: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(accept if new.dim() == 2 else accept[..., None], new, old)
