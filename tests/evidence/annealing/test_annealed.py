"""log_marginal(method="annealed"): exact where it must be, flagged where it cannot, the same however it is cut."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from captured import Captured
from evidence.solvable import SOLVABLE
from exact import LinearGaussian, assert_mean, log_prob_by_quadrature, program, wide_encoder
from scipy import stats
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.compiled import CompileWarning
from pyrovae.evidence import blocks
from pyrovae.evidence.annealing import annealed, chains
from pyrovae.evidence.annealing.chains import Annealing
from pyrovae.evidence.annealing.schedules import Adaptive, Linear, Sigmoid

SCHEDULES = [Linear(), Sigmoid(), Adaptive()]
pytestmark = pytest.mark.filterwarnings("ignore::pyrovae.EvidenceWarning")


def anneal(program: Any, *rows: Any, **options: Any) -> pv.Evidence:
    return pv.log_marginal(program, *rows, method="annealed", **({"seed": 0} | options))


def mixture(x: Tensor) -> Any:
    """y in {0, 1} marked or not, z ~ N(4 y - 2, 1), x ~ N(z, 0.5), a guide that knows little; see ``posterior``."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            y = pyro.sample("y", dist.Bernoulli(0.4))
            z = pyro.sample("z", dist.Normal(4 * y - 2, 1.0))
            pyro.sample("x", dist.Normal(z, 1.5), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("y", dist.Bernoulli(0.5))
            pyro.sample("z", dist.Normal(0.5 * x, 2.0))

    return program(model, guide)


# --------------------------------------------------------------------------------------------------------- exact cases


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("num_particles", [2, 16, 64])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_the_exact_guide_is_exact(double: None, schedule: Any, num_particles: int) -> None:
    """Every weight is p(x): no error, no warning, not flagged."""
    model = LinearGaussian(2, 5)
    x = model.data(3)
    ev = anneal(model.program, x, num_particles=num_particles, num_steps=5, annealing=Annealing(schedule=schedule))
    torch.testing.assert_close(ev.log_prob, model.log_prob(x), rtol=0, atol=1e-8)
    assert (ev.standard_error < 1e-8).all() and (ev.spread < 1e-8).all() and not ev.unreliable.any()
    assert ev.method == "annealed" and ev.num_steps == 5 and ev.start == "guide" and ev.is_bound


@pytest.mark.filterwarnings("error")
def test_the_exact_guide_in_float32() -> None:
    model = LinearGaussian(2, 5)
    x = model.data(3)
    for num_particles in (16, 100):
        ev = anneal(model.program, x, num_particles=num_particles, num_steps=20)
        torch.testing.assert_close(ev.log_prob, model.log_prob(x).double(), rtol=0, atol=1e-4)
        assert (ev.standard_error < 1e-4).all() and not ev.unreliable.any()


def test_one_step_is_importance_sampling(double: None) -> None:
    """The same distribution of log p-hat, by a Kolmogorov-Smirnov test over 1,500 replicates of 4 particles."""
    model = LinearGaussian(2, 3, spread=1.7)
    x = model.data(1).expand(1500, -1)
    a = anneal(model.program, x, num_particles=4, num_steps=1)
    b = pv.log_marginal(model.program, x, num_particles=4, seed=1)
    assert stats.ks_2samp(a.log_prob.numpy(), b.log_prob.numpy()).pvalue > 1e-3
    assert a.acceptance is None and a.num_steps == 1  # there are no transitions


@pytest.mark.parametrize("start", ["guide", "prior"])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_p_hat_is_unbiased(double: None, schedule: Any, start: Any) -> None:
    """2,000 replicates of 3 chains of 4 steps from a guide that is too narrow, or from the prior; see FAULTS: a pilot
    whose chains were counted too would show here."""
    model = LinearGaussian(2, 3, spread=0.8, shift=0.2, sigma=1.0)
    x = model.data(1).expand(2000, -1)
    options = Annealing(schedule=schedule, start=start)
    ev = anneal(model.program, x, num_particles=3, num_steps=4, annealing=options)
    log_p = model.log_prob(x[:1]).item()
    assert_mean((ev.log_prob - log_p).exp(), 1.0)
    assert ev.log_prob.mean() < log_p and ev.start == start


def test_a_bad_guide(double: None) -> None:
    """k-hat flags importance sampling, which is nats too low; annealing finds log p(x) within its error."""
    model = LinearGaussian(4, 8, spread=0.3, shift=0.5)
    x = model.data(6)
    by_importance = pv.log_marginal(model.program, x, num_particles=5000, seed=0)
    assert by_importance.unreliable.all()
    assert (by_importance.log_prob < model.log_prob(x) - 1).any()
    ev = anneal(model.program, x, num_particles=64, num_steps=150)
    assert ((ev.log_prob - model.log_prob(x)).abs() < 4 * ev.standard_error).all()
    assert (ev.standard_error < 0.2).all()


@pytest.mark.parametrize("name", [name for name in SOLVABLE if name.startswith("linear")])
def test_from_the_prior_however_narrow_the_posterior(double: None, name: str) -> None:
    """At noise of a hundredth the precision rises 10^5-fold on the way: p-hat within 5 errors of p, or flagged.

    With temperatures and scales that do not follow, the errors are thousands of nats.
    """
    solvable = SOLVABLE[name]()
    rows = solvable.data(3)
    ev = anneal(solvable.program, *rows, num_particles=16, num_steps=250, annealing=Annealing(start="prior"))
    error = ev.log_prob - solvable.log_prob(*rows)
    assert (error.abs() < 20).all() and (ev.acceptance > 0.65).all()
    assert (ev.unreliable | (error.expm1().abs() < 5 * ev.standard_error * error.exp().clamp(min=1))).all()


@pytest.mark.parametrize("limit", [None, 3])
def test_a_pilot_has_chains_enough(double: None, monkeypatch: pytest.MonkeyPatch, limit: int | None) -> None:
    """However few are asked for, or fit: two chains alone would say nothing of temperatures."""
    if limit:
        monkeypatch.setitem(blocks.MOST_ROWS, "cpu", limit)
    model = LinearGaussian(2, 5, sigma=0.03)
    x = model.data(3)
    ev = anneal(model.program, x, num_particles=2, num_steps=100, annealing=Annealing(start="prior"))
    assert ((ev.log_prob - model.log_prob(x)).abs() < 6).all() and (ev.acceptance > 0.65).all()


def test_few_steps_from_a_bad_guide_are_flagged(double: None) -> None:
    model = LinearGaussian(4, 8, spread=0.3, shift=1.0)
    x = model.data(6)
    with pytest.warns(pv.EvidenceWarning, match="independent runs differ by more than 0.1"):
        ev = anneal(model.program, x, num_particles=16, num_steps=3)
    assert ev.judged_by_runs.all() and ev.unreliable.all()
    assert not anneal(model.program, x, num_particles=64, num_steps=3).judged_by_runs.any()


# ------------------------------------------------------------------------------------------------------------- our own


def _conditional() -> tuple[Any, list[Tensor]]:
    encoder = wide_encoder([4, 3])
    net = pv.networks.MLP([2, 3], 8, 4, activation=nn.Tanh)
    prior = pv.Conditional(pv.networks.MLP(3, 8, 4, activation=nn.Tanh), pv.families.normal)
    vae = pv.VAE(prior, pv.Conditional(net, pv.families.bernoulli), encoder)
    return vae, [torch.rand(3, 4).bernoulli(), torch.eye(3)]


def _missing() -> tuple[Any, list[Tensor]]:
    net = pv.readings.Reading(pv.networks.MLP(8, 8, 4), pv.readings.ValuesAndMask())
    decoder = pv.Conditional(pv.networks.MLP(2, 8, 4, activation=nn.Tanh), pv.families.FixedScaleNormal(0.8))
    vae = pv.VAE(pv.priors.NormalMixture(2, 2), pv.Missing(decoder), pv.Conditional(net, pv.families.normal))
    x = torch.randn(3, 4)
    x[0, :2] = x[1, 3] = math.nan
    return vae, [x]


@pytest.mark.parametrize("make", [_conditional, _missing])
def test_against_quadrature(double: None, make: Any) -> None:
    torch.manual_seed(0)
    vae, rows = make()
    exact = log_prob_by_quadrature(vae, *rows)
    ev = anneal(vae, *rows, num_particles=100, num_steps=30)
    assert ((ev.log_prob - exact).abs() < 4 * ev.standard_error + 1e-6).all() and (ev.standard_error < 0.1).all()


def _dequantized() -> tuple[Any, Tensor]:
    net = pv.networks.MLP(2, 8, 3)
    decoder = pv.Dequantized(pv.Conditional(net, pv.families.FixedScaleNormal(0.4)), num_levels=4)
    return pv.VAE(pv.priors.StandardNormal(2), decoder, wide_encoder(3, scale=1.2)), torch.tensor([[0.0, 1, 3]]) / 3


def _not_at_random() -> tuple[Any, Tensor]:
    decoder = pv.Conditional(pv.networks.MLP(2, 8, 3), pv.families.FixedScaleNormal(0.7))
    net = pv.readings.Reading(pv.networks.MLP(6, 8, 4), pv.readings.ValuesAndMask())
    vae = pv.VAE(
        pv.priors.StandardNormal(2),
        pv.MissingNotAtRandom(decoder, pv.SelfMasking(3, sign=1)),
        pv.Conditional(net, pv.families.normal),
    )
    return vae, torch.tensor([[0.3, 1.2, math.nan], [math.nan, math.nan, 0.1]])


def _tree() -> tuple[Any, Any]:
    parts = {
        "a": pv.Conditional(nn.Linear(2, 2), pv.families.FixedScaleNormal(0.7)),
        "b": pv.Conditional(nn.Linear(2, 3), pv.families.bernoulli),
    }

    class OfTree(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = wide_encoder(5)

        def forward(self, x: Any) -> Any:
            return self.encoder(torch.cat([x["a"], x["b"]], -1))

    vae = pv.VAE(pv.priors.StandardNormal(2), pv.Product(parts), OfTree())
    return vae, {"a": torch.randn(2, 2), "b": torch.ones(2, 3)}


@pytest.mark.parametrize("start", ["guide", "prior"])
@pytest.mark.parametrize("make", [_dequantized, _not_at_random, _tree])
def test_against_many_particles(double: None, make: Any, start: Any) -> None:
    """Noise, missing values and trees: both methods give the same."""
    torch.manual_seed(0)
    vae, x = make()
    a = pv.log_marginal(vae, x, num_particles=20_000, seed=0)
    b = anneal(vae, x, num_particles=100, num_steps=20, annealing=Annealing(start=start))
    assert not a.unreliable.any() and b.start == start
    error = (a.standard_error.square() + b.standard_error.square()).sqrt()
    assert ((a.log_prob - b.log_prob).abs() < 4 * error).all() and (error < 0.15).all()
    assert a.num_dimensions == b.num_dimensions


def test_bare_functions_with_parameters_of_the_store(empty_store: None) -> None:
    """The store's values are used, and stay; nothing is registered."""

    def model(x: Tensor) -> None:
        loc = pyro.param("loc", torch.tensor(0.0))
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(loc, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        scale = pyro.param("scale", torch.tensor(2.0), constraint=dist.constraints.positive)
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(x / 2, scale))

    x, target = torch.tensor([0.3, -1.0]), program(model, guide)
    for loc in (0.0, 3.0):
        ev = anneal(target, x, num_particles=64, num_steps=20)
        exact = dist.Normal(loc, 2**0.5).log_prob(x)
        assert ((ev.log_prob - exact).abs() < 4 * ev.standard_error + 1e-5).all()
        assert loc == 3.0 or not list(pyro.get_param_store())
        pyro.param("loc", torch.tensor(3.0))
    assert list(pyro.get_param_store()) == ["loc"] and pyro.param("loc").item() == 3.0


# --------------------------------------------------------------------------------------------------- how it is cut


def test_a_datum_depends_on_no_other(double: None) -> None:
    """Another datum in its block, and other parameters of that: the same bits."""
    model = LinearGaussian(2, 3, spread=1.5)
    x = model.data(4)
    other = x.clone()
    other[2] = 5 * other[2] - 3
    for schedule in SCHEDULES:
        a, b = (anneal(model.program, y, num_steps=6, annealing=Annealing(schedule=schedule)) for y in (x, other))
        same = torch.tensor([0, 1, 3])
        assert a.log_prob[same].equal(b.log_prob[same]) and a.acceptance[same].equal(b.acceptance[same])
        assert a.log_prob[2] != b.log_prob[2]


@pytest.mark.parametrize("limit", [1, 7, 40])
def test_blocks_and_chunks_change_nothing_but_the_noise(
    double: None, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """However many rows at once: every datum, every chain, unbiased."""
    monkeypatch.setitem(blocks.MOST_ROWS, "cpu", limit)
    monkeypatch.setattr(chains, "STATIONS", 6)
    model = LinearGaussian(1, 2, spread=1.1)
    x = model.data(5)
    ev = anneal(model.program, x, num_particles=12, num_steps=4)
    assert ev.runs.shape == (4, 5) and ev.num_particles == 12
    assert ((ev.log_prob - model.log_prob(x)).abs() < 0.25).all()  # the weights vary by a tenth
    assert len(set(ev.acceptance.tolist())) == 5
    torch.testing.assert_close(ev.runs.logsumexp(0) - math.log(4), ev.log_prob)  # runs of three chains each


def test_memory_bounds_what_is_computed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """At an image's size: rows at once, those of the pilot's scale too; gradients are counted."""
    torch.manual_seed(0)
    vae = pv.VAE(
        pv.priors.StandardNormal(10),
        pv.Conditional(pv.networks.MLP(10, 64, 784), pv.families.bernoulli),
        pv.Conditional(pv.networks.MLP(784, 64, 20), pv.families.normal),
    )
    x = torch.rand(6, 784).bernoulli()
    monkeypatch.setattr(chains, "STATIONS", 2)
    rows: list[int] = []
    terms = pv.log_terms

    def counted(program: Any, x: Tensor, *, num_particles: int = 1) -> Any:
        rows.append(len(x) * num_particles)
        return terms(program, x, num_particles=num_particles)

    monkeypatch.setattr("pyrovae.evidence.marginal.terms_for", lambda *args: counted)
    most = []
    for memory in (10**6, 4 * 10**6):
        ev = anneal(vae, x, num_particles=16, num_steps=2, memory=memory, compile=False)
        assert ev.log_prob.isfinite().all()
        rows.clear()
        estimated = anneal(vae, x, num_particles=16, num_steps=2, memory=memory, compile=False)
        most.append(max(rows[8:]))  # after what is tried out
        assert estimated.log_prob.equal(ev.log_prob)
    # a row computes about 784 logits a few times over, forwards and backwards: 8 passes of 784 floats at the least
    assert 1 < most[0] <= 10**6 / (8 * 784 * 4) and 2 * most[0] < most[1] <= 4 * 10**6 / (8 * 784 * 4)


@pytest.mark.parametrize("num_particles", [1, 2, 3, 5])
def test_few_chains(num_particles: int) -> None:
    model = LinearGaussian(1, 2, spread=1.5)
    x = model.data(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", pv.EvidenceWarning)
        ev = anneal(model.program, x, num_particles=num_particles, num_steps=4, num_draws=2)
    assert ev.log_prob.isfinite().all() and ev.runs.shape == (min(4, num_particles), 3)
    assert isinstance(ev.summary(), str) and isinstance(ev.record(), dict)
    assert ev.spread.isnan().all() == (num_particles == 1) and ev.unreliable.all() >= (num_particles == 1)


def test_the_pilots_chains_are_not_counted(monkeypatch: pytest.MonkeyPatch, double: None) -> None:
    """Twice as many pilot chains of nonsense: only step sizes are taken from them."""
    model = LinearGaussian(1, 2, spread=1.5)
    x = model.data(3)
    taken: list[Tensor] = []
    forwards = annealed.forwards

    def spied(evaluate: Any, u: Tensor, *rest: Any) -> Any:
        result = forwards(evaluate, u, *rest)
        taken.append(result[0])
        return result

    monkeypatch.setattr(annealed, "forwards", spied)
    ev = anneal(model.program, x, num_particles=20, num_steps=3)
    log_w = torch.cat(taken)[:20, :3]
    torch.testing.assert_close(ev.log_prob, log_w.logsumexp(0) - math.log(20))


# ------------------------------------------------------------------------------------------------------------- draws


def test_draws_are_of_the_exact_posterior(double: None) -> None:
    model = LinearGaussian(2, 3, spread=1.5, shift=0.5)
    x = model.data(2)
    ev = anneal(model.program, x, num_particles=3000, num_steps=8, num_draws=1000)
    z, posterior = ev.draws.posterior["z"], model.posterior(x)
    assert z.shape == (1000, 2, 2)
    # drawn with replacement of 3,000 weighted chains
    error = posterior.variance.sqrt() * (1 / 1000 + 1 / ev.ess[:, None]).sqrt()
    assert ((z.mean(0) - posterior.mean).abs() < 4 * error).all()
    assert ((z.var(0) / posterior.variance - 1).abs() < 4 * (2 / 1000 + 2 / ev.ess[:, None]).sqrt()).all()


@pytest.mark.parametrize("memory", [None, 200_000])
def test_draws_of_discrete_latents(double: None, memory: int | None) -> None:
    """y is summed out by the chains, and drawn with its probability given their ends."""
    x = torch.tensor([-1.5, 0.2, 2.0])
    ev = anneal(mixture(x), x, num_particles=1500, num_steps=6, num_draws=1000, memory=memory)
    scale = (1 + 1.5**2) ** 0.5
    log_p = torch.stack([dist.Normal(m, scale).log_prob(x) + math.log(s) for m, s in ((-2.0, 0.6), (2.0, 0.4))])
    exact = log_p.logsumexp(0)
    assert ((ev.log_prob - exact).abs() < 4 * ev.standard_error).all()
    share = (log_p[1] - exact).exp()
    y, z = ev.draws.posterior["y"], ev.draws.posterior["z"]
    assert y.shape == z.shape == (1000, 3) and ((y == 0) | (y == 1)).all()
    slack = 4 * (share * (1 - share)).sqrt() * (1 / 1000 + 1 / ev.ess).sqrt() + 1e-3
    assert ((y.mean(0) - share).abs() < slack).all()
    # z given y has mean (m / 1 + x / 2.25) / (1 + 1 / 2.25)
    for value, loc in ((0, -2.0), (1, 2.0)):
        mean = (loc + x / 2.25) / (1 + 1 / 2.25)
        number = (y == value).sum(0)
        found = torch.where(y == value, z, 0).sum(0) / number
        assert ((found - mean).abs() < 5 * 0.84 * (1 / number + 1 / ev.ess).sqrt())[number > 30].all()


def test_draws_where_some_weights_are_zero(double: None) -> None:
    """A prior that has none of what the guide proposes, in half of the cases: those chains are left out."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.HalfNormal(1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(0.3 * x, 1.0))

    x = torch.tensor([0.5, -1.0])
    with pyro.validation_enabled(False):
        ev = anneal(program(model, guide), x, num_particles=800, num_steps=8, num_draws=300)
    exact = math.log(2) + dist.Normal(0.0, 2**0.5).log_prob(x) + dist.Normal(0.0, 1.0).cdf(x / 2**0.5).log()
    assert ((ev.log_prob - exact).abs() < 4 * ev.standard_error).all()
    z = ev.draws.posterior["z"]
    assert (z > 0).all()
    posterior = stats.truncnorm(-x / 2**0.5, math.inf, x / 2, 0.5**0.5)
    error = torch.as_tensor(posterior.std()) * (1 / 300 + 1 / ev.ess).sqrt()
    assert ((z.mean(0) - torch.as_tensor(posterior.mean())).abs() < 4 * error).all()


def test_draws_go_to_arviz_names(double: None) -> None:
    torch.manual_seed(0)
    vae, x = _tree()
    ev = anneal(vae, x, num_steps=3, num_draws=5)
    assert set(ev.draws.log_likelihood) == {"x.a", "x.b"} == set(ev.draws.posterior_predictive)
    assert ev.draws.posterior["z"].shape == (5, 2, 2)


# ------------------------------------------------------------------------------------------------------------- compiled


@pytest.mark.parametrize("num_data", [1, 5, 9])
def test_graphs_give_what_eager_runs_give(seen: Captured, monkeypatch: pytest.MonkeyPatch, num_data: int) -> None:
    """Blocks and chunks that are not full too; random numbers are drawn outside of the graph, so they agree."""
    monkeypatch.setitem(blocks.MOST_ROWS, "cpu", 16)
    torch.manual_seed(0)
    vae = pv.VAE(
        pv.priors.NormalMixture(2, 3),
        pv.Conditional(pv.networks.MLP(2, 8, 6), pv.families.bernoulli),
        pv.Conditional(pv.networks.MLP(6, 8, 4), pv.families.normal),
    )
    x = torch.rand(num_data, 6).bernoulli()
    runs = [anneal(vae, x, num_particles=7, num_steps=5, compile=how, num_draws=2) for how in (True, False)]
    assert seen.graphs == 1 and seen.runs > 30
    torch.testing.assert_close(runs[0].log_prob, runs[1].log_prob, rtol=0, atol=1e-4)
    torch.testing.assert_close(runs[0].acceptance, runs[1].acceptance, rtol=0, atol=1e-3)
    torch.testing.assert_close(runs[0].draws.posterior["z"], runs[1].draws.posterior["z"], rtol=0, atol=1e-3)


def test_discrete_latents_by_graphs(seen: Captured, double: None) -> None:
    x = torch.tensor([-1.5, 0.2, 2.0])
    runs = [anneal(mixture(x), x, num_steps=4, compile=how) for how in (True, False)]
    assert seen.runs
    torch.testing.assert_close(runs[0].log_prob, runs[1].log_prob)


def test_by_inductor() -> None:
    torch.manual_seed(0)
    decoder = pv.Conditional(pv.networks.MLP(2, 8, 6), pv.families.bernoulli)
    vae = pv.VAE(pv.priors.StandardNormal(2), decoder, wide_encoder(6))
    x = torch.rand(3, 6).bernoulli()
    with warnings.catch_warnings():
        warnings.simplefilter("error", CompileWarning)
        runs = [anneal(vae, x, num_steps=5, compile=how) for how in (True, False)]
    torch.testing.assert_close(runs[0].log_prob, runs[1].log_prob, rtol=0, atol=1e-3)


def test_what_cannot_be_traced_runs_eagerly_and_says_why(seen: Captured) -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z if z.sum() > -1e9 else -z, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(x / 2, 0.5**0.5))

    x = torch.randn(5)
    with pytest.warns(CompileWarning, match=r"runs eagerly.*looks at a tensor's value") as said:
        ev = anneal(program(model, guide), x, num_steps=3, compile=True)
    assert len([w for w in said if w.category is CompileWarning]) == 1 and not seen.graphs
    torch.testing.assert_close(ev.log_prob, dist.Normal(0.0, 2**0.5).log_prob(x).double(), rtol=0, atol=1e-4)


# ------------------------------------------------------------------------------------------------------------- faults


def test_seeds_and_what_is_left_alone() -> None:
    model = LinearGaussian(2, 3, spread=1.5)
    x = model.data(2).expand(2, 3)
    state, mode = torch.get_rng_state(), model.program.training
    a, b, c = (anneal(model.program, x, num_steps=3, seed=s) for s in (0, 0, 1))
    assert torch.get_rng_state().equal(state) and model.program.training == mode
    assert a.log_prob.equal(b.log_prob) and not a.log_prob.equal(c.log_prob)
    d, e = (anneal(model.program, x, num_steps=3, seed=None) for _ in range(2))
    assert not d.log_prob.equal(e.log_prob) and d.seed is None
    assert all(p.grad is None for p in model.program.parameters())


def test_options_of_the_other_method_are_refused() -> None:
    model = LinearGaussian(1, 2)
    x = model.data(2)
    for options, message in [
        ({"method": "ais"}, "method must be one of"),
        ({"num_steps": 3}, "num_steps and annealing are for method='annealed'"),
        ({"annealing": Annealing()}, "num_steps and annealing are for method='annealed'"),
        ({"method": "annealed", "num_steps": 0}, "num_steps must be positive"),
        ({"method": "annealed", "num_particles": 0}, "num_particles must be positive"),
    ]:
        with pytest.raises(pv.PyrovaeError, match=message):
            pv.log_marginal(model.program, x, **options)


def _factored(value: float) -> Any:
    """x > 10 has a factor."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)
            pyro.factor("bad", torch.where(x > 10, value, 0.0))

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(x / 2, 0.5**0.5))

    return program(model, guide)


def test_impossible_data_have_log_prob_minus_infinity() -> None:
    x = torch.tensor([0.3, 11.0, -1.0])
    with pytest.warns(pv.EvidenceWarning, match="all weights are zero for 1 data"):
        ev = anneal(_factored(-math.inf), x, num_steps=5, num_draws=3)
    assert ev.log_prob[1] == -math.inf and ev.unreliable[1] and ev.draws.posterior["z"][:, 1].isnan().all()
    exact = dist.Normal(0.0, 2**0.5).log_prob(x).double()
    torch.testing.assert_close(ev.log_prob[[0, 2]], exact[[0, 2]], rtol=0, atol=1e-4)
    assert ev.draws.posterior["z"][:, [0, 2]].isfinite().all() and not ev.unreliable[[0, 2]].any()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_log_densities_that_are_no_numbers_are_announced(bad: float) -> None:
    x = torch.tensor([0.3, 11.0, -1.0])
    with pyro.validation_enabled(False), pytest.warns(pv.EvidenceWarning, match="nan or infinite for 1 data"):
        ev = anneal(_factored(bad), x, num_steps=5)
    assert ev.log_prob[[0, 2]].isfinite().all() and not ev.log_prob[1].isfinite() and ev.unreliable[1]
