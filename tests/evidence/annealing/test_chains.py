"""Chains: weights unbiased both ways, transitions that leave their density as it is, on densities in closed form.

Every test of a transition was seen to fail with the acceptance step left out, and with the second half of a leapfrog
step left out; that of E[w] with a transition before the first weight, and with step sizes that go on adapting.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from exact import LinearGaussian, assert_mean
from scipy import stats
from torch import Tensor

import pyrovae as pv
from pyrovae.evidence.annealing import chains
from pyrovae.evidence.annealing.chains import (
    Annealing,
    Evaluate,
    Frozen,
    backwards,
    forwards,
    frozen_by,
    pilot,
    transition,
)
from pyrovae.evidence.annealing.latents import Joint, Point
from pyrovae.evidence.annealing.schedules import Adaptive, Linear, Schedule, Sigmoid

SCHEDULES = [Linear(), Sigmoid(), Adaptive()]
Density = Callable[[Tensor], Tensor]


@pytest.fixture
def short_pilot(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of what holds with any step sizes."""
    monkeypatch.setattr(chains, "STATIONS", 6)


def evaluated(log_q: Density, log_p: Density) -> Evaluate:
    """Densities of u (C, n, D) and their gradients."""

    def evaluate(u: Tensor) -> Point:
        with torch.enable_grad():
            u = u.detach().requires_grad_()
            q, p = log_q(u).double(), log_p(u).double()
            grads = [torch.autograd.grad(f.sum(), u, materialize_grads=True)[0] for f in (q, p)]
        return Point(u.detach(), q.detach(), p.detach(), *grads)

    return evaluate


def normal(loc: float, scale: float) -> Density:
    return lambda u: torch.distributions.Normal(loc, scale).log_prob(u).sum(-1)


def settled(evaluate: Evaluate, start: Tensor, num_steps: int, annealing: Annealing) -> Frozen:
    torch.manual_seed(100)
    return frozen_by(pilot(evaluate, start, start.std(0), annealing), num_steps, annealing)


# ------------------------------------------------------------------------------------------------ E[w], both ways


@pytest.mark.parametrize(
    ("schedule", "num_leapfrog"), [(Linear(), 1), (Linear(), 5), (Sigmoid(), 5), (Adaptive(), 5)], ids=repr
)
@pytest.mark.parametrize(("spread", "shift"), [(2.0, 0.0), (1.5, 1.0), (0.8, 0.0)])
def test_weights_are_unbiased_both_ways(
    double: None, short_pilot: None, schedule: Schedule, num_leapfrog: int, spread: float, shift: float
) -> None:
    """E[w] / p = 1 from the guide, E[1 / w] p = 1 from exact posterior draws, within 4 s.e. of 8,000 chains.

    Three steps only, so that the chains are far from equilibrium: the identities need none. Under a guide that is
    narrower than the posterior w has a heavy tail, and under one that is wider 1 / w has: no test of those.
    """
    model = LinearGaussian(2, 3, spread=spread, shift=shift)
    x, count = model.data(2), 4000
    joint = Joint(model.program, pv.log_terms, [x])
    annealing = Annealing(schedule=schedule, num_leapfrog=num_leapfrog)
    evaluate: Evaluate = lambda u: joint.point(u, x)  # noqa: E731
    with torch.no_grad():
        frozen = settled(evaluate, joint.draw(16, x), 3, annealing)
        assert frozen.temperatures.shape == (4, 2) and frozen.stride(1).shape == (2, 2)
        log_w, _, rate = forwards(evaluate, joint.draw(count, x), frozen, annealing)
        assert 0.3 < rate.mean() < 1.0
        if spread > 1:
            assert_mean((log_w - model.log_prob(x)).exp(), 1.0)
        if spread < 1:
            log_w, _, _ = backwards(evaluate, model.posterior(x).sample((count,)), frozen, annealing)
            assert_mean((model.log_prob(x) - log_w).exp(), 1.0)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_both_ways_from_a_light_tailed_pair(double: None, short_pilot: None, schedule: Schedule) -> None:
    """q and p = c N of the same scale, shifted: w and 1 / w have all moments."""
    log_c, count = 0.7, 20_000
    evaluate = evaluated(normal(0.0, 1.0), lambda u: normal(0.8, 1.0)(u) + log_c)
    annealing = Annealing(schedule=schedule, num_leapfrog=2)
    frozen = settled(evaluate, torch.randn(16, 1, 1), 4, annealing)
    torch.manual_seed(0)
    ahead, end, _ = forwards(evaluate, torch.randn(count, 1, 1), frozen, annealing)
    back, origin, _ = backwards(evaluate, 0.8 + torch.randn(count, 1, 1), frozen, annealing)
    assert_mean((ahead - log_c).exp(), 1.0)
    assert_mean((log_c - back).exp(), 1.0)
    assert ahead.mean() < log_c < back.mean()
    # p-expectations from the ends, weighted: E[w u] / E[w] = 0.8; backwards, E[u / w] / E[1 / w] = 0
    assert_mean((ahead - log_c).exp() * (end[..., 0] - 0.8), 0.0)
    assert_mean((log_c - back).exp() * origin[..., 0], 0.0)


def test_more_steps_narrow_the_weights(double: None) -> None:
    """The bias of log p-hat falls towards 0 as 1 / T."""
    evaluate = evaluated(normal(0.0, 3.0), normal(2.0, 0.5))
    annealing = Annealing()
    gaps = []
    for num_steps in (1, 8, 64):
        frozen = settled(evaluate, 3 * torch.randn(16, 1, 2), num_steps, annealing)
        log_w, _, _ = forwards(evaluate, 3 * torch.randn(2000, 1, 2), frozen, annealing)
        gaps.append(-log_w.mean().item())
    assert gaps[0] > 3 * gaps[1] > 9 * gaps[2] > 0


def test_one_step_is_importance_sampling(double: None, short_pilot: None) -> None:
    evaluate = evaluated(normal(0.0, 1.0), normal(0.5, 0.9))
    u = torch.randn(50, 3, 1)
    frozen = settled(evaluate, u, 1, Annealing())
    log_w, end, rate = forwards(evaluate, u, frozen, Annealing())
    assert end.equal(u) and not rate.any()
    torch.testing.assert_close(log_w, normal(0.5, 0.9)(u) - normal(0.0, 1.0)(u))


def test_a_graph_may_write_over_what_it_gave_before(double: None, short_pilot: None) -> None:
    """As a captured CUDA graph does: the chains are the same."""
    plain = evaluated(normal(0.0, 1.0), normal(1.0, 0.7))
    held: list[Point] = []

    def overwriting(u: Tensor) -> Point:
        point = Point(*(part.clone() for part in plain(u)))
        if held:
            for own, new in zip(held[0], point, strict=True):
                own.copy_(new)
        else:
            held.append(point)
        return held[0]

    results = []
    for evaluate in (plain, overwriting):
        u = torch.randn(20, 1, 1, generator=torch.Generator().manual_seed(0))
        frozen = settled(evaluate, u, 5, Annealing())
        torch.manual_seed(1)
        results.append([*frozen, *forwards(evaluate, u, frozen, Annealing())])
    assert all(a.equal(b) for a, b in zip(*results, strict=True))


# ------------------------------------------------------------------------------------------------------ transitions


def moved(
    evaluate: Evaluate, u: Tensor, t: float, step: float, times: int, num_leapfrog: int = 3
) -> tuple[Tensor, Tensor]:
    state, rates = evaluate(u), torch.zeros(u.shape[:2])
    annealing = Annealing(num_leapfrog=num_leapfrog)
    for _ in range(times):
        state, rate = transition(evaluate, state, torch.full((1,), t), torch.full((1, u.shape[2]), step), annealing)
        rates = rates + rate
    return state.u, rates / times


def same_distribution(samples: Tensor, cdf: Callable[[object], object]) -> None:
    p = stats.kstest(samples.numpy(), cdf).pvalue
    assert p > 1e-4, f"Kolmogorov-Smirnov: p = {p:.1e}"


@pytest.mark.parametrize("num_leapfrog", [1, 3])
@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_a_transition_leaves_the_mixed_density_as_it_is(double: None, t: float, num_leapfrog: int) -> None:
    """q^(1 - t) p^t of two normals is normal: precision and mean mix. A step size so large that half is rejected."""
    torch.manual_seed(0)
    evaluate = evaluated(normal(-1.0, 1.5), normal(1.0, 0.5))
    precisions = torch.tensor([(1 - t) / 1.5**2, t / 0.5**2])
    scale = precisions.sum().rsqrt().item()
    loc = ((precisions * torch.tensor([-1.0, 1.0])).sum() * scale**2).item()
    u = loc + scale * torch.randn(20_000, 1, 1)
    step = (1.9 if num_leapfrog == 1 else 1.6) * scale
    end, rate = moved(evaluate, u, t, step, 4, num_leapfrog)
    assert 0.4 < rate.mean() < 0.95
    assert_mean(end.flatten(), loc)
    assert_mean((end.flatten() - loc).square(), scale**2)
    same_distribution(end.flatten(), stats.norm(loc, scale).cdf)
    assert (end != u).double().mean() > 0.8
    correlation = torch.corrcoef(torch.stack([u.flatten(), end.flatten()]))[0, 1]
    assert correlation.abs() < 0.5  # and it moves


@pytest.mark.parametrize("outside", [-math.inf, math.nan])
def test_a_transition_where_the_density_is_none_in_part_of_the_space(double: None, outside: float) -> None:
    """A half-normal: chains that step over the border are put back, and stay distributed as they were."""

    def half_normal(u: Tensor) -> Tensor:
        inside = normal(0.0, 1.0)(u) + math.log(2)
        return torch.where(u[..., 0] > 0, inside, outside)

    torch.manual_seed(0)
    evaluate = evaluated(normal(0.3, 1.2), half_normal)
    t = 0.6
    precision = (1 - t) / 1.2**2 + t
    loc, scale = (1 - t) * 0.3 / 1.2**2 / precision, precision**-0.5
    truncated = stats.truncnorm(-loc / scale, math.inf, loc, scale)
    u = torch.as_tensor(truncated.rvs(20_000, random_state=0)).reshape(-1, 1, 1)
    end, rate = moved(evaluate, u, t, 0.7, 4)
    assert end.isfinite().all() and (end > 0).all() and 0.2 < rate.mean() < 0.9
    same_distribution(end.flatten(), truncated.cdf)


def test_chains_that_start_where_the_joint_is_zero(double: None, short_pilot: None) -> None:
    """A guide that covers more than the prior: their weights are zero, and E[w] is right."""

    def half_normal(u: Tensor) -> Tensor:
        return torch.where(u[..., 0] > 0, normal(0.5, 0.7)(u), -math.inf)

    evaluate = evaluated(normal(0.0, 1.0), half_normal)
    mass = stats.norm(0.5, 0.7).sf(0)
    for schedule in SCHEDULES:
        annealing = Annealing(schedule=schedule)
        torch.manual_seed(0)
        frozen = settled(evaluate, torch.randn(16, 1, 1), 5, annealing)
        assert all(part.isfinite().all() for part in frozen)
        u = torch.randn(20_000, 1, 1)
        log_w, end, _ = forwards(evaluate, u, frozen, annealing)
        assert (log_w == -math.inf).equal(u[..., 0] <= 0) and end.isfinite().all()
        assert_mean(log_w.exp(), mass)


# -------------------------------------------------------------------------------------------------- pilot and options


def test_the_pilot_finds_step_sizes_of_the_acceptance_it_aims_at(double: None) -> None:
    """Scales that differ by 100 between data and dimensions."""
    scales = torch.tensor([[1.0, 0.1], [0.01, 0.03]])
    q, p = (
        lambda u, s=s: torch.distributions.Normal(0.0, s).log_prob(u).sum(-1)  # type: ignore[misc]
        for s in (scales, 0.3 * scales)
    )
    for aim in (0.5, 0.65, 0.9):
        torch.manual_seed(0)
        annealing = Annealing(acceptance=aim)
        evaluate = evaluated(q, p)
        frozen = settled(evaluate, scales * torch.randn(16, 2, 2), 20, annealing)
        _, _, rate = forwards(evaluate, scales * torch.randn(500, 2, 2), frozen, annealing)
        assert ((rate.mean(0) - aim).abs() < 0.12).all()


def from_the_prior(scale: float, num_steps: int, *, num_data: int = 3, size: int = 4) -> tuple[Tensor, Tensor]:
    """log w and acceptance of chains from N(0, 1) to N(0.7, scale)."""
    evaluate = evaluated(normal(0.0, 1.0), normal(0.7, scale))
    start = lambda: torch.randn(16, num_data, size)  # noqa: E731
    frozen = settled(evaluate, start(), num_steps, Annealing())
    return forwards(evaluate, start(), frozen, Annealing())[::2]


@pytest.mark.parametrize("scale", [0.3, 1e-2, 1e-4])
def test_chains_follow_a_density_that_narrows(double: None, scale: float) -> None:
    """Down to a ten-thousandth of the prior's width: the acceptance is as aimed at, and log w near 0.

    The length of the path is at least sqrt(2 D) log(1 / scale), that of the widths alone; its square over the steps
    would be the variance of log w if every transition gave a fresh draw.
    """
    torch.manual_seed(0)
    log_w, rate = from_the_prior(scale, 400)
    assert ((rate.mean(0) - 0.8).abs() < 0.12).all()
    variance = 2 * 4 * math.log(scale) ** 2 / 400
    assert (log_w.var(0) < 16 * variance + 1).all() and (log_w.mean(0).abs() < 8 * variance + 1).all()


def test_a_pilot_costs_what_its_path_needs(double: None) -> None:
    """Nothing to learn: a single station. The harder, the more; no more than there may be."""
    numbers = []
    for scale in (1.0, 0.3, 1e-2, 1e-5):
        evaluate = evaluated(normal(0.0, 1.0), normal(0.0, scale))
        found = pilot(evaluate, torch.randn(16, 1, 8), torch.ones(1, 8), Annealing())
        assert found.temperatures[-1] == 1 and found.temperatures[0] == 0
        numbers.append(len(found.temperatures) - 1)
    assert numbers[0] == 1 < numbers[1] < numbers[2] < numbers[3] <= chains.STATIONS


def test_a_pilot_that_meets_nothing_leaves_even_steps() -> None:
    """Weights all equal, or all zero: lengths of nothing but rounding must not decide on temperatures."""
    for log_p in (normal(0.0, 1.0), lambda u: normal(0.0, 1.0)(u) - math.inf):
        frozen = settled(evaluated(normal(0.0, 1.0), log_p), torch.randn(16, 2, 3), 10, Annealing())
        torch.testing.assert_close(frozen.temperatures, torch.linspace(0, 1, 11).double()[:, None].expand(-1, 2))


def test_a_pilot_learns_the_scale_of_each_dimension_again(double: None) -> None:
    """Dimensions alike at the start and not at the end."""
    scales = torch.tensor([1.0, 0.1, 0.01])
    evaluate = evaluated(normal(0.0, 1.0), lambda u: torch.distributions.Normal(0.0, scales).log_prob(u).sum(-1))
    torch.manual_seed(0)
    found = pilot(evaluate, torch.randn(16, 5, 3), torch.ones(5, 3), Annealing())
    ratio = (found.log_stride[-1] - found.log_stride[-1][:, :1]).mean(0).exp()
    assert ((ratio / scales).log().abs() < 0.4).all()


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("num_chains", [1, 2])
@pytest.mark.filterwarnings("error")
def test_a_pilot_of_a_single_chain(double: None, num_chains: int, schedule: Schedule) -> None:
    evaluate = evaluated(normal(0.0, 1.0), normal(0.5, 0.5))
    annealing = Annealing(schedule=schedule)
    found = pilot(evaluate, torch.randn(num_chains, 3, 2), torch.ones(3, 2), annealing)
    frozen = frozen_by(found, 7, annealing)
    assert all(part.isfinite().all() for part in (*found, *frozen))


def test_impossible_options_are_refused() -> None:
    for options, message in [
        ({"num_leapfrog": 0}, "num_leapfrog must be positive; got 0"),
        ({"acceptance": 1.0}, "acceptance must lie between 0 and 1"),
        ({"acceptance": 0.0}, "acceptance must lie between 0 and 1"),
        ({"start": "posterior"}, "start must be"),
        ({"schedule": "linear"}, "schedule must be"),
        ({"schedule": Linear}, "schedule must be"),
    ]:
        with pytest.raises(pv.PyrovaeError, match=message):
            Annealing(**options)  # type: ignore[arg-type]
