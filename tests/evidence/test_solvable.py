"""Every estimator on solvable programs: errors as its standard errors say, or flagged; bounds that are bounds."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from estimators import (
    BAD,
    ESTIMATORS,
    HALF,
    LEVEL,
    SANDWICHES,
    WIDE,
    Estimator,
    Sides,
    compared,
    found,
    made,
    p_values,
    sides,
)
from torch import Tensor

import pyrovae as pv

IMPORTANCE = "importance, 1,000 particles"
CASES = [(name, program) for name, estimator in ESTIMATORS.items() for program in estimator.tested]
FEW = 20  # particles


@pytest.mark.parametrize(("estimator", "program"), CASES)
def test_errors_are_as_claimed_or_flagged(double: None, estimator: str, program: str) -> None:
    """Standard normal where k-hat < 0.5 and ESS > 200: nearly everywhere or, under a bad guide, nearly nowhere.

    The variance exists under the guides that are fair, for there the weights w = p(x, z) / q(z | x) are bounded. Linear
    programs have the posterior N(m, V) and the guide N(m + a, c^2 V), c > 1: with r = z - m in the metric of V,
    log w = const - |r|^2 / 2 + |r - a|^2 / (2 c^2) is bounded above. (For c = 0.95 < 1 it is not, but w has moments of
    every order below 1 / (1 - c^2), about 10.) Under a prior as guide w = p(x | z) is a probability. The others are
    alike: Gamma and Beta with smaller parameters, half the posterior mixed with half of something else.

    Annealing is claimed where independent runs agree to 0.1 nats, for nearly all data of fair guides and, with more
    steps, of a bad one. After two steps from a bad guide nearly no datum passes that and k-hat's threshold.

    One in 10^3 such tests fails by chance. What they see, ``test_wrong_errors_are_seen`` says.
    """
    assert found(estimator, program).verdict == _expected(estimator, program)


def _expected(estimator: str, program: str) -> str:
    if found(estimator, program).exact:
        return "exact"
    return "normal" if made(program).fair or ESTIMATORS[estimator].mends else "flagged"


def test_the_closed_ones_are_tried(double: None) -> None:
    """Every program with a closed form is in the row of method="exact"."""
    assert set(ESTIMATORS["exact"].programs) == {name for _, name in CASES if made(name).closed}


@pytest.mark.parametrize("estimator", [name for name in ESTIMATORS if name not in ("exact", "annealed, 2 steps")])
@pytest.mark.parametrize(("scale", "shift"), [(0.75, 0.0), (1.4, 0.0), (1.0, 0.6), (1.0, -0.6)])
def test_wrong_errors_are_seen(double: None, estimator: str, scale: float, shift: float) -> None:
    """The tests have power: standard errors too small by a quarter or too large by 0.4, or a bias of 0.6, fail."""
    programs = ESTIMATORS[estimator].tested
    errors = found(estimator, WIDE if WIDE in programs else programs[0]).errors
    assert min(p_values(errors)) > LEVEL > min(p_values(errors / scale + shift))


def test_a_bad_guide_is_flagged_and_annealing_recovers(double: None) -> None:
    """k-hat flags nearly every datum; annealing finds the truth within its error, which importance sampling misses."""
    importance, annealed = found(IMPORTANCE, HALF), found("annealed, 150 steps", HALF)
    assert (importance.evidence.pareto_k > 0.5).double().mean() > 0.9
    assert importance.mean_error < -4 * importance.evidence.mean_standard_error
    assert abs(annealed.mean_error) < 4 * annealed.evidence.mean_standard_error


@pytest.mark.parametrize("program", BAD)
def test_large_errors_of_bad_guides_are_flagged(double: None, program: str) -> None:
    """Where the error is above 4 standard errors, k-hat is above 0.5 or ESS below 200."""
    result = found(IMPORTANCE, program)
    large = (result.evidence.log_prob - result.log_prob).abs() > 4 * result.evidence.standard_error
    assert large.any() and not (large & result.trusted).any()


def _too_high(program: Any, *rows: Tensor) -> pv.Evidence:
    return pv.log_marginal(program, *rows, num_particles=200, seed=0, log_jacobian=0.05)


def test_a_bound_that_is_none_is_seen(double: None) -> None:
    """The check of bounds can fail: 0.05 nats too much are many standard errors of a mean over 300 data."""
    estimator = Estimator(_too_high, ESTIMATORS[IMPORTANCE].trusted, ())
    assert compared(estimator, made("linear, 1 latent, wide")).crosses


# ----------------------------------------------------------------------------------- others from the same weights


def test_truncated_is_never_above_raw(double: None) -> None:
    for program in ESTIMATORS[IMPORTANCE].programs:
        evidence = found(IMPORTANCE, program).evidence
        assert (evidence.truncated <= evidence.log_prob).all(), program


def _by_few(program: str) -> tuple[Tensor, Tensor, float]:
    """Errors of the raw and the jackknife estimate by few particles, and the mean's standard error."""
    target = made(program)
    rows = target.data(300)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pv.EvidenceWarning)  # so few have no tail that k-hat could judge
        evidence = pv.log_marginal(target.program, *rows, num_particles=FEW, seed=0, compile=False)
    exact = target.log_prob(*rows)
    return evidence.log_prob - exact, evidence.jackknife - exact, evidence.mean_standard_error


def test_jackknife_is_nearer_than_raw(double: None) -> None:
    """In the mean no further off than raw plus its error; of all fair programs together, within 4 where raw is not."""
    fair = [name for name in ESTIMATORS[IMPORTANCE].programs if made(name).fair]
    raws, jackknives, errors = zip(*map(_by_few, fair), strict=True)
    for name, raw, jackknife, error in zip(fair, raws, jackknives, errors, strict=True):
        assert jackknife.mean().abs() <= raw.mean().abs() + error + 1e-9, name
    together = torch.tensor(errors).square().sum().sqrt()
    raw, jackknife = (torch.stack([each.mean() for each in all_of]).sum() / together for all_of in (raws, jackknives))
    assert raw < -4 and jackknife.abs() < 4, f"{raw:.1f} and {jackknife:.1f} standard errors off"


# ---------------------------------------------------------------------------------------------------- both sides


@pytest.mark.parametrize(
    ("method", "program"), [(method, name) for method, (_, programs) in SANDWICHES.items() for name in programs]
)
def test_bounds_do_not_cross(double: None, method: str, program: str) -> None:
    """Neither the lower bound, the exact value and the upper bounds nor the bounds each other, by 4 standard errors.

    Of their differences, datum by datum: they are smaller than the combined ones of both.
    """
    crossings = sides(method, program).crossings()
    assert max(crossings.values()) < 4, crossings


@pytest.mark.parametrize("method", SANDWICHES)
@pytest.mark.parametrize("sign", [1, -1])
def test_crossing_bounds_are_seen(double: None, method: str, sign: int) -> None:
    """An exact value that is off by 0.1 nats either way crosses a bound."""
    below, above, reverse = sides(method, "linear, with what is given")
    off = 0.1 * sign
    assert max(Sides(below + off, above - off, reverse - off).crossings().values()) > 4
