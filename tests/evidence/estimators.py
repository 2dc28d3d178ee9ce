"""Every estimator of log p(x), on which of the solvable programs it is tried, and what is found there.

experiments/evidence/solvable.py prints it all; the tests assert it, of the dear estimators for some programs. All is
meant to run in float64.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from scipy import stats
from solvable import SOLVABLE, Solvable
from torch import Tensor

import pyrovae as pv
from pyrovae.evidence import Annealing, Linear, Sigmoid

LEVEL = 1e-3  # of each of the two tests for each program and estimator; seeds are fixed
ROUNDING = 1e-9  # nats
SHARE = 0.9  # of the data that must at least be trusted where a method is good enough
STRAY = 0.05  # that may at most be where it is not


class Estimator(NamedTuple):
    """``run(program, *rows)``, on which programs, with how many data.

    ``trusted(evidence)``: where errors are claimed to be normal. ``mends``: good enough for bad guides, too.
    ``not_tested``: programs that are left to the experiment, for the tests' time.
    """

    run: Callable[..., pv.Evidence]
    trusted: Callable[[pv.Evidence], Tensor]
    programs: tuple[str, ...]
    num_data: int = 192
    mends: bool = False
    not_tested: tuple[str, ...] = ()

    @property
    def tested(self) -> list[str]:
        """Those of the programs that the tests try."""
        return [name for name in self.programs if name not in self.not_tested]


def _small_tail(ev: pv.Evidence) -> Tensor:
    """k-hat < 0.5, or none as all weights are equal, and ESS > 200."""
    return ~(ev.pareto_k >= 0.5) & (ev.ess > 200)


def _runs_agree(ev: pv.Evidence) -> Tensor:
    """Independent runs say the mean to 0.1 nats."""
    return ev.spread < 0.1


def _nowhere_doubted(ev: pv.Evidence) -> Tensor:
    """Neither do runs differ nor is k-hat above its threshold."""
    return _runs_agree(ev) & ~ev.unreliable


def _everywhere(ev: pv.Evidence) -> Tensor:
    return ~ev.log_prob.isnan()


def _annealed(num_steps: int, **annealing: Any) -> Callable[..., pv.Evidence]:
    how = Annealing(**annealing)
    return partial(
        pv.log_marginal, method="annealed", num_particles=64, num_steps=num_steps, annealing=how, seed=0, compile=False
    )


BAD = ("linear, 20 latents, half the width", "linear, 20 latents, sigma 0.01, twice the width")
HALF = "linear, 6 latents, half the width"
DISCRETE = ("discrete, enumerated by the guide", "discrete, sampled by the guide")  # nothing that chains could move
CURVED = ("gamma and Poisson", "beta and Bernoulli", "nonlinear, by quadrature", "nonlinear, the guide is the prior")
WIDE = "linear, 2 latents, wide, shifted"
# hard enough for the adaptive schedule to be another: where the path is easy it is the linear one
SCHEDULED = ("linear, 1 latent, very wide, shifted", CURVED[2], "mixture of normals as prior")
LAST = SCHEDULED[2:]


def _but(*left_out: str) -> tuple[str, ...]:
    return tuple(name for name in SOLVABLE if name not in left_out)


ESTIMATORS = {
    "importance, 1,000 particles": Estimator(
        partial(pv.log_marginal, num_particles=1000, seed=0, compile=False), _small_tail, _but(), num_data=300
    ),
    "to a tolerance of 0.05 nats": Estimator(
        partial(pv.log_marginal, tolerance=0.05, num_particles=8000, num_steps=100, seed=0, compile=False),
        lambda ev: ev.reached,
        _but(),
        not_tested=BAD,
    ),
    "exact": Estimator(partial(pv.log_marginal, method="exact"), _everywhere, _but(*CURVED)),
    "annealed, 30 steps": Estimator(
        _annealed(30), _runs_agree, _but(*BAD, HALF, *DISCRETE),
        not_tested=(
            "linear, 1 latent, exact guide",
            "linear, 1 latent, sigma 0.01, exact guide",
            "linear, 1 latent, wide",
            "linear, 1 latent, very wide, shifted",
            "linear, 2 latents, a bit narrow",
            "linear, 8 latents, sigma 0.1, wide",
            "linear, 20 latents, sigma 0.01, wide",
            "linear, with what is given",
            "hierarchical, top-down guide",
            CURVED[3],
        ),
    ),
    "annealed, 2 steps": Estimator(_annealed(2), _nowhere_doubted, (*BAD, HALF), not_tested=BAD[1:]),
    "annealed, 150 steps": Estimator(_annealed(150), _runs_agree, (HALF,), mends=True),
    "annealed from the prior, 40 steps": Estimator(
        _annealed(40, start="prior"), _runs_agree, (*CURVED[:2], CURVED[3])
    ),
    "annealed, linear schedule, 60 steps": Estimator(
        _annealed(60, schedule=Linear()), _runs_agree, SCHEDULED, not_tested=LAST
    ),
    "annealed, sigmoid schedule, 60 steps": Estimator(
        _annealed(60, schedule=Sigmoid()), _runs_agree, SCHEDULED, not_tested=LAST
    ),
}  # fmt: skip


class Found(NamedTuple):
    """The evidence, what it should be, for which data it is trusted, and for how many that should be so."""

    evidence: pv.Evidence
    log_prob: Tensor
    trusted: Tensor
    fair: bool

    @property
    def errors(self) -> Tensor:
        """(p-hat - p) / (standard error of p-hat), where it is trusted.

        p-hat is unbiased. log p-hat is too low by half its squared standard error in expectation, which this takes into
        account.
        """
        each = -torch.expm1(self.log_prob - self.evidence.log_prob) / self.evidence.standard_error
        return each[self.trusted]

    @property
    def share(self) -> float:
        """Of the data that are trusted."""
        return self.trusted.double().mean().item()

    @property
    def mean_error(self) -> float:
        """Of log p-hat, over the data."""
        return (self.evidence.log_prob - self.log_prob).mean().item()

    @property
    def exact(self) -> bool:
        """Whether no error is claimed: in closed form, by the exact guide, or by enumeration."""
        return self.evidence.standard_error.max().item() < ROUNDING

    @property
    def crosses(self) -> bool:
        """Whether a lower bound is above log p by more than 4 standard errors in the mean."""
        return self.evidence.is_bound and self.mean_error > 4 * self.evidence.mean_standard_error + ROUNDING

    @property
    def verdict(self) -> str:
        """ "exact", "normal" or "flagged" as it should be, or else what is wrong."""
        if self.crosses:
            return "A BOUND THAT IS NONE"
        if self.exact:
            good = torch.allclose(self.evidence.log_prob, self.log_prob, rtol=ROUNDING, atol=ROUNDING)
            return "exact" if good else "NOT EXACT"
        if not self.fair:
            return "flagged" if self.share < STRAY else "NOT FLAGGED"
        if self.share < SHARE:
            return "TOO OFTEN FLAGGED"
        return "normal" if min(p_values(self.errors)) > LEVEL else "NOT NORMAL"


@cache
def made(program: str) -> Solvable:
    """The program."""
    return SOLVABLE[program]()


@cache
def found(estimator: str, program: str) -> Found:
    """What an estimator finds of a program; once, whoever asks."""
    return compared(ESTIMATORS[estimator], made(program))


def compared(estimator: Estimator, solvable: Solvable) -> Found:
    """What an estimator finds."""
    rows = solvable.data(estimator.num_data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pv.EvidenceWarning)
        evidence = estimator.run(solvable.program, *rows)
    fair = solvable.fair or estimator.mends
    return Found(evidence, solvable.log_prob(*rows), estimator.trusted(evidence), fair)


def p_values(errors: Tensor) -> tuple[float, float]:
    """Of the hypothesis that errors are standard normal: by Kolmogorov and Smirnov, and by sum z^2, from both sides."""
    below = stats.chi2(len(errors)).cdf(errors.square().sum().item())
    return stats.kstest(errors.numpy(), "norm").pvalue, 2 * min(below, 1 - below)


# ---------------------------------------------------------------------------------------------------- both sides


SANDWICHES = {
    "importance": (dict(num_particles=100), _but(*BAD)),
    "annealed": (
        dict(num_particles=8, num_steps=20),
        (HALF, WIDE, "linear, with what is given", "hierarchical, bottom-up guide", "discrete in the model alone",
         *CURVED[:2]),
    ),
}  # fmt: skip
SIMULATED = 300


class Sides(NamedTuple):
    """By how much bounds miss log p of the data simulated for them: of each datum, >= 0 in expectation, nats."""

    below: Tensor
    above: Tensor
    above_reverse: Tensor

    def crossings(self) -> dict[str, float]:
        """By how many of its standard errors a bound is on the wrong side of log p, or two of each other."""
        gaps = self._asdict() | {"between": self.below + self.above, "around": self.below + self.above_reverse}
        return {name: -(gap.mean() / (_error(gap) + ROUNDING)).item() for name, gap in gaps.items()}


def _error(values: Tensor) -> Tensor:
    return values.std() / len(values) ** 0.5


@cache
def sides(method: str, program: str) -> Sides:
    """Of a sandwich of a program, whose data it simulates itself."""
    options, _ = SANDWICHES[method]
    target, (x, *given) = made(program), made(program).data(SIMULATED)
    result = pv.sandwich(
        target.program, *given, num_data=SIMULATED, method=method, like=x, seed=0, compile=False, **options
    )
    log_prob = target.log_prob(result.x, *given)
    return Sides(log_prob - result.lower, result.upper - log_prob, result.upper_reverse - log_prob)
