"""log p(x) to a tolerance: a pilot decides on the method and the budget of each datum, fresh samples estimate.

Whatever decides when to stop must be no part of the estimate: particles added until the error looks small stop too
early where the large weights are still to come. So the pilot's samples are forgotten; given what it decided,
E[p-hat] = p(x) for every datum.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyrovae import trees
from pyrovae.errors import PyrovaeError
from pyrovae.evidence.annealing.annealed import Annealed, passes
from pyrovae.evidence.annealing.chains import Annealing, forwards
from pyrovae.evidence.blocks import Block, Estimator, Setting, padded
from pyrovae.evidence.importance import Importance
from pyrovae.evidence.plan import Choice, Plan
from pyrovae.evidence.result import SPREAD
from pyrovae.evidence.running import Passes
from pyrovae.evidence.weights.draws import Wanted
from pyrovae.parameters import forget
from pyrovae.trees import Tree

PARTICLES = 500  # of the pilot, and the least that importance sampling gets: fewer have no tail that k-hat could judge
LARGEST_K = 0.5  # of the pilot, for importance sampling
LEAST_ESS = 10.0  # of the pilot, below which neither its standard error nor its k-hat means anything
SCOUTS, SCOUT_STEPS = 16, 50  # chains of the pilot, and their steps
QUANTILE = 0.84  # of a normal, for 80 %
CHAINS = 16  # that estimate
LEAST_STEPS = 100
SAFETY = 1.5  # the error aimed at is so much smaller: it is foretold to a third or so, and must come out below too


class Request(NamedTuple):
    """What is wanted.

    Attributes:
        tolerance: of each datum's standard error, nats.
        most_particles, most_steps: the largest budgets.
    """

    tolerance: float
    most_particles: int
    most_steps: int
    annealing: Annealing
    wanted: Wanted


def pilot_of(setting: Setting) -> Importance:
    """The pilot of importance sampling."""
    return Importance(setting, PARTICLES)


def to_tolerance(setting: Setting, request: Request, pilot: Estimator, run: Passes) -> tuple[list[Block], Plan]:
    """The estimates of all data, and how they came about."""
    plan = planned(setting, request, pilot, run)
    blocks, groups = [], plan.groups()
    for choice, index in groups.items():
        blocks += run(f"{choice}", _estimator(setting, request, choice, len(index)), index.numpy())
    order = torch.cat(list(groups.values())).argsort()
    return [Block.joined(blocks).taken(order)], plan


def planned(setting: Setting, request: Request, pilot: Estimator, run: Passes) -> Plan:
    """The method and budget of each datum, from samples that are then forgotten."""
    leapfrog = request.annealing.num_leapfrog
    figures = Block.joined(run("pilot", pilot, np.arange(setting.data.size))).figures
    needed = particles_needed(figures, request.tolerance)
    particles = rung(needed, PARTICLES, request.most_particles)
    able = needed <= request.most_particles
    doubtful = ~able | (particles > passes(CHAINS, LEAST_STEPS, leapfrog))

    found = _scouted(setting, request, doubtful, run)
    needed = steps_needed(found.variance, request.tolerance)
    steps = rung(needed, LEAST_STEPS, request.most_steps)
    annealed = passes(CHAINS, steps, leapfrog)
    cheaper = (needed <= request.most_steps) & (annealed < particles)
    by_annealing = doubtful & (~able | cheaper) & (not found.refusal)
    return Plan(
        tolerance=request.tolerance,
        by_annealing=by_annealing,
        num_particles=torch.where(by_annealing, CHAINS, particles),
        num_steps=torch.where(by_annealing, steps, 1),
        budget=torch.where(by_annealing, annealed, particles),
        pilot=PARTICLES + doubtful * (0 if found.refusal else passes(SCOUTS, SCOUT_STEPS, leapfrog)),
        start=found.start,
        refusal=found.refusal,
    )


def particles_needed(pilot: Mapping[str, Tensor], tolerance: float) -> Tensor:
    """How many particles each datum needs, (N,); infinity where importance sampling cannot be trusted.

    S (standard error / tolerance)^2, with a margin. That the error falls like S^-1/2 takes weights with a variance,
    which they have for k-hat < 1/2; a pilot's k-hat between 1/2 and the threshold is often above that in the end.

    Args:
        pilot: the figures of importance sampling with ``PARTICLES``.
    """
    sound = ~(pilot["pareto_k"] > LARGEST_K) & (pilot["ess"] >= LEAST_ESS) & pilot["log_prob"].isfinite()
    needed = PARTICLES * (SAFETY * pilot["standard_error"] / tolerance).square()
    return torch.where(sound, needed, math.inf)  # all weights equal have no k-hat


def steps_needed(variance: Tensor, tolerance: float) -> Tensor:
    """How many steps the chains of each datum need, (N,), by their variance after ``SCOUT_STEPS``; infinity for nan.

    The variance of log w falls like 1 / steps, and log w is normal in the limit of many, so that the standard error of
    the log of the mean of C weights is sqrt((exp(var) - 1) / C).
    """
    aim = min(tolerance, SPREAD) / SAFETY  # runs that differ by more than SPREAD are not trusted
    return (SCOUT_STEPS * variance / math.log1p(CHAINS * aim**2)).nan_to_num(math.inf)


def rung(needed: Tensor, least: int, most: int) -> Tensor:
    """The least of ``most``, a half, a quarter of it, ..., ``least`` that is enough, (N,); ``most`` where none is."""
    halvings = torch.log2(most / needed.clamp(min(least, most), most)).floor()
    return torch.ceil(most / 2**halvings).long()


class _Scouted(NamedTuple):
    """What a few short chains tell.

    Attributes:
        variance: of log w, (N,), nats^2; nan where there were none.
        start: of chains.
        refusal: why there can be none.
    """

    variance: Tensor
    start: str = "guide"
    refusal: str = ""


def _scouted(setting: Setting, request: Request, doubtful: Tensor, run: Passes) -> _Scouted:
    variance = torch.full(doubtful.shape, math.nan, dtype=torch.float64)
    index = doubtful.nonzero()[:, 0]
    if not len(index):
        return _Scouted(variance)
    try:
        scouts = _Scouts(setting, request.annealing, len(index))
    except PyrovaeError as error:
        return _Scouted(variance, refusal=str(error))
    blocks = run("pilot of annealing", scouts, index.numpy())
    variance[index] = upper(Block.joined(blocks).figures["variance"])
    return _Scouted(variance, scouts.start)


def upper(variance: Tensor) -> Tensor:
    """What the variance of log w is below in 80 % of cases, as ``SCOUTS`` normal ones have it: these few tell it to a
    third. Each datum goes by its own chains alone, so that its plan is the same whatever others stand beside it.

    (f / chi-square quantile) s^2 with f degrees of freedom, the quantile by Wilson and Hilferty (1931), PNAS 17(12).
    """
    ninth = 2 / (9 * (SCOUTS - 1))
    return variance / (1 - ninth - QUANTILE * math.sqrt(ninth)) ** 3


class _Scouts:
    """A few short chains for each datum."""

    def __init__(self, setting: Setting, annealing: Annealing, num_data: int) -> None:
        self.annealed = Annealed(setting, SCOUTS, SCOUT_STEPS, annealing=annealing, num_data=num_data)
        self.sizes, self.begin = self.annealed.sizes, self.annealed.begin
        self.compiled, self.start = self.annealed.compiled, self.annealed.start

    def block(self, rows: list[Tree]) -> Block:
        size, annealed = trees.num_data(*rows), self.annealed
        rows = padded(rows, self.sizes.block)
        evaluate, frozen = annealed.evaluate(rows), annealed.settled(rows)
        starts = (annealed.joint.draw(self.sizes.chunk, *rows) for _ in range(0, SCOUTS, self.sizes.chunk))
        log_w = torch.cat([forwards(evaluate, u, frozen, annealed.annealing)[0] for u in starts])
        forget(annealed.setting.program)
        return Block({"variance": _variance(log_w[:SCOUTS, :size]).cpu()})


def _variance(log_w: Tensor) -> Tensor:
    """Of log w over chains, (C, n) to (n,): or of the normal log w whose weights vary as these do, if that is more."""
    w = (log_w - log_w.amax(0)).exp()
    return log_w.var(0).maximum((w.var(0) / w.mean(0).square()).log1p())


def _estimator(setting: Setting, request: Request, choice: Choice, num_data: int) -> Estimator:
    number, steps = choice.num_particles, choice.num_steps
    if choice.by_annealing:
        how = request.annealing
        return Annealed(setting, number, steps, annealing=how, wanted=request.wanted, num_data=num_data)
    return Importance(setting, number, wanted=request.wanted, num_data=num_data)
