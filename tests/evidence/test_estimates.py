"""Jackknife and truncated weights: against the formulas written out, and against log p(x)."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from exact import LinearGaussian
from torch import Tensor

import pyrovae as pv
from pyrovae.evidence.weights.streaming import KEPT, Accumulator


def accumulate(log_w: Tensor, chunk: int = 37) -> Accumulator:
    accumulator = Accumulator(log_w.shape[1], len(log_w))
    for part in log_w.split(chunk):
        accumulator.add(part)
    return accumulator


def jackknifed(log_w: Tensor) -> Tensor:
    """S L_S - (S - 1) mean_s L_(S-1) without s, one particle left out after another."""
    count = len(log_w)
    without = [torch.cat([log_w[:s], log_w[s + 1 :]]).logsumexp(0) - math.log(count - 1) for s in range(count)]
    return count * (log_w.logsumexp(0) - math.log(count)) - (count - 1) * torch.stack(without).mean(0)


def truncated(log_w: Tensor) -> Tensor:
    level = log_w.logsumexp(0) - math.log(len(log_w)) / 2  # sqrt(S) times the mean
    return torch.minimum(log_w, level).logsumexp(0) - math.log(len(log_w))


def kinds(count: int) -> Tensor:
    """One column each: normal, a Pareto tail without a mean, over 100 nats wide, equal, one that is all, half zero."""
    g = torch.Generator().manual_seed(count)
    normal, wild, half = torch.randn(3, count, generator=g, dtype=torch.float64)
    pareto = -3 * torch.rand(count, generator=g, dtype=torch.float64).log()
    one = torch.where(torch.arange(count) == count // 2, 800.0, normal)
    half[1::2] = -math.inf
    half[: 2 * (count > 3) : 2] = 0.3  # two of any weight at the least, for which the formula is finite
    return torch.stack([normal, pareto, 30 * wild, torch.full_like(normal, -500.0), one, half], 1)


@pytest.mark.parametrize("count", [2, 3, 5, 10, KEPT - 1, KEPT, KEPT + 1, 100, 226, 1000, 5000])
def test_both_are_the_formulas(count: int) -> None:
    """Exact in all but the power series, which leaves out less than 2e-10 nats, and the rounding of the reference."""
    log_w = kinds(count)
    result = accumulate(log_w)
    torch.testing.assert_close(result.jackknife, jackknifed(log_w), rtol=1e-10, atol=3e-10)
    torch.testing.assert_close(result.truncated, truncated(log_w), rtol=1e-14, atol=1e-12)
    assert (result.truncated <= result.log_mean).all()


def test_the_power_series_is_short_of_the_sum_by_less_than_its_bound() -> None:
    """The worst case: K + 1 equal weights, of which one is not among the K kept."""
    log_w = torch.zeros(KEPT + 1, 1).double()
    error = accumulate(log_w).jackknife.item()  # the exact value is 0
    bound = 1 / (6 * KEPT * (KEPT + 1) ** 4)
    assert -1.1 * bound < error < -1e-13  # the rest of the series would add


@pytest.mark.parametrize("chunk", [1, 7, 250])
def test_chunks_and_offsets_change_nothing(chunk: int) -> None:
    log_w = (kinds(500) * 2**20).round() / 2**20
    whole = accumulate(log_w, 500)
    for shift in (0.0, 2.0**14):
        parts = accumulate(log_w + shift, chunk)
        for name in ("jackknife", "truncated"):
            expected = getattr(whole, name) + shift
            torch.testing.assert_close(getattr(parts, name), expected, rtol=1e-12, atol=1e-9)


def test_weights_that_say_little() -> None:
    """All zero, all but one zero, a nan; and one particle, of which nothing can be left out."""
    log_w = torch.full((100, 3), -math.inf)
    log_w[7, 1], log_w[:, 2], log_w[40, 2] = 2.0, 0.0, math.nan
    result = accumulate(log_w)
    assert result.jackknife.tolist()[:2] == [-math.inf, math.inf] and result.jackknife[2].isnan()
    assert result.truncated[0] == -math.inf and result.truncated[2].isnan()
    assert result.truncated[1].item() == pytest.approx(2 - math.log(100) - math.log(10))  # cut at a tenth
    one = accumulate(torch.tensor([[-3.0]]))
    assert one.jackknife.isnan().all() and one.truncated.item() == -3.0


REPLICATES = 20_000


def _replicates(num_particles: int, spread: float, seed: int) -> tuple[pv.Evidence, float]:
    """One datum many times over: every row is a replicate of the estimators."""
    model = LinearGaussian(2, 3, spread=spread)
    x = model.data(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pv.EvidenceWarning)
        ev = pv.log_marginal(model.program, x.expand(REPLICATES, -1), num_particles=num_particles, seed=seed)
    return ev, model.log_prob(x).item()


@pytest.mark.parametrize("num_particles", [5, 10, 20])
def test_the_jackknife_is_less_biased_than_the_bound(double: None, num_particles: int) -> None:
    """Weights with E[w^2] / p^2 = 16 / 7, bounded: 20,000 replicates tell the biases by far more than their errors.

    The bound misses by about (16 / 7 - 1) / 2 S. What is left after the jackknife is of order 1 / S^2.
    """
    ev, log_p = _replicates(num_particles, 2.0, 0)
    assert ev.jackknife is not None
    raw, left = ev.log_prob - log_p, ev.jackknife - log_p
    error, raw_error = (each.std().item() / math.sqrt(REPLICATES) for each in (left, raw))
    assert abs(raw.mean().item() + (16 / 7 - 1) / (2 * num_particles)) < 1 / num_particles**2 + 4 * error
    assert abs(left.mean().item()) + 4 * error < abs(raw.mean().item()) - 4 * raw_error
    assert abs(left.mean().item()) < 2 / num_particles**2 + 4 * error
    if num_particles < 20:
        assert left.mean().item() > 4 * error  # above log p(x): no bound


def test_truncation_spares_variance_and_adds_bias(double: None) -> None:
    """A guide of 0.75 of the width in two dimensions: w has a mean and no variance worth the name."""
    ev, log_p = _replicates(50, 0.75, 1)
    assert ev.truncated is not None
    p_hat, cut = (ev.log_prob - log_p).exp(), (ev.truncated - log_p).exp()
    assert cut.std() < 0.8 * p_hat.std() and (ev.truncated <= ev.log_prob).all()
    assert (1 - cut.mean()) > 4 * cut.std() / math.sqrt(REPLICATES)


def test_an_exact_guide_leaves_nothing_to_mend(double: None) -> None:
    model = LinearGaussian(2, 5)
    x = model.data(4)
    ev = pv.log_marginal(model.program, x, num_particles=300, log_jacobian=-2.5)
    for values in (ev.jackknife, ev.truncated):
        torch.testing.assert_close(values, model.log_prob(x) - 2.5, rtol=0, atol=1e-9)


def test_the_summary_calls_neither_a_bound() -> None:
    ev, _ = _replicates(20, 2.0, 0)
    rows = {line.split("  ")[0]: line for line in ev.summary().split("\n")}
    assert "no bound" in rows["jackknife, mean"] and "not to be quoted as a bound" in rows["truncated, mean"]
    record = ev.record()
    assert record["mean_jackknife"] == pytest.approx(ev.jackknife.mean().item())  # type: ignore[union-attr]
    assert record["mean_truncated"] <= record["mean"] < record["mean_jackknife"]
    without = pv.Evidence(ev.log_prob, ev.standard_error, ev.ess, ev.pareto_k, 20, 3)
    assert "jackknife" not in without.summary() and "mean_jackknife" not in without.record()
