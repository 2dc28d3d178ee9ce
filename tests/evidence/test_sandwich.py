"""The bounds of a sandwich hold where log p(x) is known, meet where they should, and say how far apart they are."""

from __future__ import annotations

import math
from functools import partial
from importlib import import_module
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from exact import LinearGaussian, assert_mean, program
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.evidence.annealing.annealed import Annealed
from pyrovae.evidence.blocks import Data, Setting
from pyrovae.evidence.sandwich import bounds
from pyrovae.placed import placed

importance = partial(pv.sandwich, method="importance")

# ---------------------------------------------------------------------------------------------------- the bounds


def replicates(model: LinearGaussian, count: int, particles: int) -> tuple[Tensor, float]:
    """The bounds of one datum, ``count`` times over, (3, count), and its log p(x)."""
    x = model.data(1).expand(count, -1)
    true = placed(model.program, {"z": model.posterior(x).sample()})
    log_w = pv.log_terms(model.program, x, num_particles=particles).log_weight.detach()
    return bounds(log_w, pv.log_terms(true, x).log_weight.detach()), model.log_prob(x[0]).item()


@pytest.mark.parametrize("particles", [1, 2, 10])
def test_expectations_obey_the_bounds_datum_by_datum(double: None, particles: int) -> None:
    model = LinearGaussian(2, 3, spread=1.5, shift=0.3)
    torch.manual_seed(0)
    (lower, upper, reverse), log_p = replicates(model, 10_000, particles)
    error = 4 / math.sqrt(10_000)
    assert lower.mean() < log_p + error * lower.std() and upper.mean() > log_p - error * upper.std()
    assert reverse.mean() > log_p - error * reverse.std()
    assert lower.mean() + error * lower.std() < log_p < upper.mean() - error * upper.std()
    if particles == 1:
        torch.testing.assert_close(upper, reverse)
    else:
        assert upper.mean() < reverse.mean()


def test_the_upper_bound_is_a_mean_over_what_is_left_out() -> None:
    torch.manual_seed(0)
    log_w, true = 3 * torch.randn(5, 7).double(), 3 * torch.randn(2, 7).double()
    lower, upper, reverse = bounds(log_w, true)
    every = [
        torch.cat([log_w[[i for i in range(5) if i != s]], true[r : r + 1]]).logsumexp(0) - math.log(5)
        for s in range(5) for r in range(2)
    ]  # fmt: skip
    torch.testing.assert_close(upper, torch.stack(every).mean(0))
    torch.testing.assert_close(lower, log_w.logsumexp(0) - math.log(5))
    torch.testing.assert_close(reverse, -((-true).exp().mean(0)).log())


def test_weights_of_zero_and_weights_that_dwarf_the_others() -> None:
    log_w = torch.tensor([[-math.inf, 800.0], [-math.inf, 0.0]]).double()
    lower, upper, _ = bounds(log_w, torch.tensor([[1.0, 1.0]]).double())
    assert lower[0] == -math.inf and upper[0].item() == pytest.approx(1 - math.log(2))
    expected = (math.log(math.e + 1) + 800) / 2 - math.log(2)
    assert upper[1].item() == pytest.approx(expected)


# --------------------------------------------------------------------------------------------------- the sandwich


def test_the_truth_lies_between(double: None) -> None:
    model = LinearGaussian(3, 5, spread=1.3, shift=0.2)
    found = importance(model.program, num_data=400, num_particles=20, seed=0)
    log_p = model.log_prob(found.x)
    for sign, bound in ((1, found.lower), (-1, found.upper)):
        slack = sign * (log_p - bound)
        assert slack.mean() > -4 * slack.std() / 20
    assert found.lower.dtype == torch.float64 and found.num_data == 400 and found.gap_mean > 0
    assert found.gap_standard_error == pytest.approx(found.gap.std().item() / 20)


def test_the_gap_goes_to_zero_with_the_particles(double: None) -> None:
    model = LinearGaussian(3, 5, spread=1.5)
    gaps = [importance(model.program, num_data=200, num_particles=s, seed=0).gap_mean for s in (1, 10, 100, 2000)]
    assert gaps[0] > 3 * gaps[1] > 9 * gaps[2] > 0 and abs(gaps[3]) < 0.01


def test_an_exact_guide_leaves_no_gap(double: None) -> None:
    model = LinearGaussian(2, 5)
    found = importance(model.program, num_data=20, num_particles=7, seed=0)
    torch.testing.assert_close(found.lower, model.log_prob(found.x), rtol=0, atol=1e-8)
    torch.testing.assert_close(found.upper, found.lower, rtol=0, atol=1e-8)


def test_a_bad_guide_leaves_a_large_gap() -> None:
    model = LinearGaussian(3, 5, spread=0.3)
    assert importance(model.program, num_data=50, num_particles=100, seed=0).gap_mean > 2


def test_blocks_and_chunks_do_not_matter(double: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exact whatever their size: with an exact guide every wrong pairing of rows and latents would show."""
    model = LinearGaussian(2, 5)
    monkeypatch.setattr(import_module("pyrovae.evidence.importance"), "most_rows", lambda *_: 9)
    found = importance(model.program, num_data=25, num_particles=13, seed=0)
    torch.testing.assert_close(found.upper, model.log_prob(found.x), rtol=0, atol=1e-8)
    torch.testing.assert_close(found.lower, model.log_prob(found.x), rtol=0, atol=1e-8)


def test_discrete_latents_are_summed_out(double: None) -> None:
    """Enumerated in the guide, or in the model alone: log p(x) without error."""
    weights, loc = torch.tensor([0.2, 0.3, 0.5]), torch.tensor([-1.0, 0.5, 2.0])

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            y = pyro.sample("y", dist.Categorical(weights))
            pyro.sample("x", dist.Normal(loc[y], 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("y", dist.Categorical(torch.ones(3)), infer={"enumerate": "parallel"})

    def nothing(x: Tensor) -> None:
        pass

    mixture = dist.MixtureSameFamily(dist.Categorical(weights), dist.Normal(loc, 1.0))
    for each in (guide, nothing):
        found = importance(program(model, each), num_data=9, num_particles=3, seed=0, like=torch.zeros(1))
        torch.testing.assert_close(found.lower, mixture.log_prob(found.x))
        torch.testing.assert_close(found.upper, mixture.log_prob(found.x))


def hierarchy() -> Any:
    """s ~ Gamma, z | s ~ N(0, 1 / s), x | z ~ N(z + g, 1)."""

    def model(x: Tensor, g: Tensor) -> None:
        with pyro.plate("data", len(g), dim=-1):
            s = pyro.sample("s", dist.Gamma(3.0, 2.0))
            z = pyro.sample("z", dist.Normal(0.0, s**-0.5))
            pyro.sample("x", dist.Normal(z + g, 1.0), obs=x)

    def guide(x: Tensor, g: Tensor) -> None:
        with pyro.plate("data", len(g), dim=-1):
            s = pyro.sample("s", dist.LogNormal(torch.zeros(len(g)), 0.8))
            v = 1 / (1 + s)
            pyro.sample("z", dist.Normal(v * (x - g), 1.1 * v.sqrt()))

    return program(model, guide)


def hierarchy_log_p(x: Tensor, g: Tensor) -> Tensor:
    """By quadrature over s, of log p(x, s)."""
    s = torch.linspace(1e-3, 20, 20_000)[:, None]
    joint = dist.Gamma(3.0, 2.0).log_prob(s) + dist.Normal(0.0, (1 + 1 / s).sqrt()).log_prob(x - g)
    return torch.trapezoid(joint.exp(), s[:, 0], dim=0).log()


def test_a_hierarchy_with_constrained_latents_and_conditions(double: None) -> None:
    g = torch.linspace(-1, 1, 300)
    found = importance(hierarchy(), g, num_data=300, num_particles=30, seed=0, like=torch.zeros(1))
    log_p = hierarchy_log_p(found.x, g)
    for slack in (log_p - found.lower, found.upper - log_p):
        assert -4 * slack.std() / math.sqrt(300) < slack.mean() < 0.1
    assert found.given[0] is g


def dequantized() -> pv.VAE:
    decoder = pv.Dequantized(pv.Conditional(nn.Linear(2, 6), pv.families.logit_normal), num_levels=4)
    return pv.VAE(pv.priors.StandardNormal(2), decoder, pv.Conditional(nn.Linear(3, 4), pv.families.normal))


def missing() -> pv.VAE:
    decoder = pv.MissingNotAtRandom(pv.Conditional(nn.Linear(2, 6), pv.families.normal), pv.SelfMasking(3, sign=1))
    net = pv.readings.Reading(pv.networks.MLP(6, 8, 4), pv.readings.ValuesAndMask())
    return pv.VAE(pv.priors.StandardNormal(2), decoder, pv.Conditional(net, pv.families.normal))


@pytest.mark.parametrize("make", [dequantized, missing])
def test_auxiliary_latents_are_part_of_the_truth(double: None, make: Any) -> None:
    torch.manual_seed(0)
    vae = make()
    few, many = (importance(vae, num_data=60, num_particles=s, seed=0) for s in (1, 1000))
    assert few.gap_mean > 5 * abs(many.gap_mean) and many.gap_mean > -4 * many.gap_standard_error


def planar() -> Any:
    """A guide that is a flow without an inverse."""
    transform = dist.transforms.Planar(2)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            base = dist.Normal(torch.zeros(len(x), 2), 1.0).to_event(1)
            pyro.sample("z", dist.TransformedDistribution(base, transform))

    return program(LinearGaussian(2, 3).program.model, guide)


# ------------------------------------------------------------------------------------------------------- annealed


def annealed(program: Any, *given: Tensor, **options: Any) -> pv.Sandwich:
    few = {"num_particles": 4, "num_steps": 20, "seed": 0, "annealing": pv.Annealing(num_leapfrog=2)}
    return pv.sandwich(program, *given, **few | options)


def test_annealing_closes_the_gap_of_a_bad_guide(double: None) -> None:
    model = LinearGaussian(3, 5, spread=0.3)
    gaps = [annealed(model.program, num_data=200, num_steps=steps) for steps in (4, 32)]
    assert importance(model.program, num_data=200, num_particles=256, seed=0).gap_mean > 2
    assert gaps[0].gap_mean > 2 * gaps[1].gap_mean > 0
    assert gaps[1].gap_mean < 1
    for found in gaps:
        log_p = model.log_prob(found.x)
        for slack in (log_p - found.lower, found.upper - log_p, found.upper_reverse - log_p):
            assert slack.mean() > -4 * slack.std() / math.sqrt(200)


def test_annealed_expectations_obey_the_bounds_datum_by_datum(double: None) -> None:
    """One datum 3,000 times over, each with a true latent of its own, and a pilot of its own."""
    model = LinearGaussian(2, 3, spread=1.5, shift=0.5)
    x = model.data(1).expand(3000, -1)
    torch.manual_seed(0)
    setting = Setting(model.program, pv.log_terms, Data((x,), x.dtype, x.device), [x[:3]], None, False)
    estimator = Annealed(setting, 2, 3, annealing=pv.Annealing(num_leapfrog=2))
    latents = {"z": model.posterior(x).sample()}
    parts = [slice(start, start + estimator.sizes.block) for start in range(0, 3000, estimator.sizes.block)]
    each = [estimator.both_ways([x[part]], {"z": latents["z"][part]}) for part in parts]
    forwards, backwards = (torch.cat(log_ws, 1) for log_ws in zip(*each, strict=True))
    lower, upper, reverse = bounds(forwards, backwards)
    log_p, errors = model.log_prob(x[0]).item(), 4 / math.sqrt(3000)
    assert lower.mean() + errors * lower.std() < log_p < upper.mean() - errors * upper.std()
    assert log_p < reverse.mean() - errors * reverse.std()

    # E[w] = p(x) forwards, and E[1 / w] = 1 / p(x) backwards: the chains are exact, not only bounds.
    assert_mean((forwards[0] - log_p).exp(), 1.0)
    assert_mean((log_p - backwards[0]).exp(), 1.0)


def test_an_exact_guide_leaves_no_gap_to_chains(double: None) -> None:
    model = LinearGaussian(2, 5)
    found = annealed(model.program, num_data=9)
    torch.testing.assert_close(found.lower, model.log_prob(found.x), rtol=0, atol=1e-8)
    torch.testing.assert_close(found.upper, found.lower, rtol=0, atol=1e-8)


def test_true_latents_stay_with_their_data_in_blocks(double: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one step the reverse bound is log p(x, z) - log q(z | x) at the true latents."""
    model = LinearGaussian(2, 5, spread=1.5)
    whole = importance(model.program, num_data=25, num_particles=1, seed=3).upper
    monkeypatch.setattr(import_module("pyrovae.evidence.annealing.annealed"), "most_rows", lambda *_: 50)
    found = annealed(model.program, num_data=25, num_particles=5, num_steps=1, seed=3)
    torch.testing.assert_close(found.upper_reverse, whole)


def test_a_hierarchy_annealed(double: None) -> None:
    """A positive latent and a real one, given y: the bounds hold and are near."""
    g = torch.linspace(-1, 1, 100)
    found = annealed(hierarchy(), g, num_data=100, like=torch.zeros(1))
    log_p = hierarchy_log_p(found.x, g)
    for slack in (log_p - found.lower, found.upper - log_p):
        assert -4 * slack.std() / 10 < slack.mean() < 0.1


def test_a_mixture_annealed(double: None) -> None:
    """y ~ Categorical, z ~ N(y), x ~ N(z, 1), with a guide far from the posterior: y is summed out."""
    weights = torch.tensor([0.2, 0.3, 0.5])

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            y = pyro.sample("y", dist.Categorical(weights))
            z = pyro.sample("z", dist.Normal(2.0 * y, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(x, 3.0))

    def with_y(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("y", dist.Categorical(torch.ones(3)), infer={"enumerate": "parallel"})
            pyro.sample("z", dist.Normal(x, 3.0))

    mixture = dist.MixtureSameFamily(
        dist.Categorical(weights), dist.Normal(torch.tensor([0.0, 2.0, 4.0]), math.sqrt(2))
    )
    for each in (guide, with_y):
        found = annealed(program(model, each), num_data=60, like=torch.zeros(1))
        log_p = mixture.log_prob(found.x)
        for slack in (log_p - found.lower, found.upper - log_p):
            assert -4 * slack.std() / math.sqrt(60) < slack.mean() < 0.5


@pytest.mark.parametrize("make", [dequantized, missing])
def test_auxiliary_latents_are_annealed_too(double: None, make: Any) -> None:
    torch.manual_seed(0)
    vae = make()
    rough = importance(vae, num_data=25, num_particles=4, seed=0)
    fine = annealed(vae, num_data=25)
    assert torch.equal(rough.x.nan_to_num(-1), fine.x.nan_to_num(-1))
    assert -4 * fine.gap_standard_error < fine.gap_mean < 0.5 * rough.gap_mean


def test_a_guide_that_cannot_be_scored_is_left_for_the_prior() -> None:
    found = annealed(planar(), num_data=5)
    assert found.lower.isfinite().all() and found.upper.isfinite().all()


# ----------------------------------------------------------------------------------------------------------- both


def test_the_seed_and_the_global_generator() -> None:
    vae = LinearGaussian(2, 3, spread=1.2).program
    before = torch.get_rng_state()
    first, again, other = (importance(vae, num_data=10, num_particles=9, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.upper, again.upper) and not torch.equal(first.upper, other.upper)


def test_the_summary() -> None:
    found = importance(LinearGaussian(2, 3, spread=1.2).program, num_data=10, num_particles=1500, seed=3)
    text = found.summary()
    assert "10 simulated data by importance sampling, 1,500 particles, seed 3" in text
    for figure in (found.lower.mean(), found.upper.mean(), found.gap_mean, found.gap.max()):
        assert f"{figure:.3f}" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_data": 0}, "num_data must be positive; got 0"),
        ({"num_particles": 0}, "num_particles must be positive; got 0"),
        ({"method": "exact"}, "method must be 'importance' or 'annealed'; got 'exact'"),
        ({"num_steps": 3}, "num_steps and annealing are for method='annealed'"),
    ],
)
def test_faults(options: dict[str, Any], message: str) -> None:
    with pytest.raises(pv.PyrovaeError, match=message):
        importance(LinearGaussian(2, 3).program, **options)


def test_guides_without_a_density_at_given_values_are_refused() -> None:
    decoder = pv.Conditional(nn.Linear(2, 3), pv.families.bernoulli)
    points = pv.Conditional(nn.Linear(3, 2), lambda p: dist.Delta(p).to_event(1))
    with pytest.raises(pv.PyrovaeError, match=r"\['z'\] as points"):
        importance(pv.VAE(pv.priors.StandardNormal(2), decoder, points), num_data=3, num_particles=2)
    with pytest.raises(pv.PyrovaeError, match="cannot score a given value"):
        importance(planar(), num_data=3, num_particles=2)
