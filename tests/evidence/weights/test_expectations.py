"""Posterior expectations: against the formulas, exact posteriors, and the same by graphs and in any chunks."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from exact import LinearGaussian, assert_mean, program
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.compiled import CompileWarning
from pyrovae.compiled.backends import interpreted
from pyrovae.evidence.weights.expectations import Expectation, Weighted

FUNCTIONS = {"z": lambda latents: latents["z"], "norm": lambda latents: latents["z"].square().sum(-1)}


def stream(log_w: Tensor, values: Tensor, chunk: int) -> Expectation:
    weighted = Weighted()
    particles = range(0, log_w.shape[-2], chunk)
    for start in particles:
        part = slice(start, start + chunk)
        weighted.add(log_w[..., part, :], values[..., part, :, :].flatten(0, log_w.dim() - 2))
    return weighted.result


def by_hand(log_w: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and its error from (K, S, N) log-weights and (K, S, N, D) values."""
    w = log_w.softmax(-2) if log_w.dim() == 2 else log_w.flatten(0, 1).softmax(0).reshape(log_w.shape)
    weighted = w[..., None] * values
    mean = weighted.flatten(0, -3).sum(0)
    g = (weighted - mean * w[..., None]).flatten(0, -4).sum(0)  # (S, N, D)
    return mean, (g.square().sum(0) * len(g) / (len(g) - 1)).sqrt()


@pytest.mark.parametrize("chunk", [1, 7, 60])
def test_any_chunks_give_the_formulas(chunk: int) -> None:
    """Values around 1e6, weights far apart and rising; a first chunk of zero weights, whose values are no numbers."""
    g = torch.Generator().manual_seed(0)
    log_w = 4 * torch.randn(3, 60, 5, generator=g, dtype=torch.float64)
    log_w[..., 1] += torch.linspace(-2000, 2000, 60)[:, None].squeeze()
    values = torch.randn(3, 60, 5, 2, generator=g, dtype=torch.float64) + 1e6
    log_w[:, :10, 2] = -math.inf
    mean, error = by_hand(log_w, values)
    values[:, :10, 2] = math.nan
    result = stream(log_w, values, chunk)
    torch.testing.assert_close(result.mean, mean, rtol=1e-13, atol=0)
    torch.testing.assert_close(result.standard_error, error, rtol=1e-6, atol=1e-6)


def test_data_without_weights_have_no_expectation() -> None:
    log_w, values = torch.zeros(1, 20, 3).double(), torch.ones(1, 20, 3, 1)
    log_w[..., 1] = -math.inf
    log_w[0, 3, 2] = math.nan
    result = stream(log_w, values, 6)
    assert result.mean.isnan().flatten().tolist() == [False, True, True]
    assert result.mean[0] == 1 and result.standard_error[0] == 0
    assert stream(log_w[:, :1], values[:, :1], 6).standard_error.isnan().all()  # one particle
    with pytest.raises(pv.PyrovaeError, match="nothing to average"):
        _ = Weighted().result


def test_errors_are_standard_normal_against_an_exact_posterior(double: None) -> None:
    """A guide half as wide again and shifted, 2,000 replicates: E[z | x] and E[|z|^2 | x], and coverage of 95 %.

    The share of 2,000 fair replicates has a standard error of 0.49 %, so the interval is +- 4 of these.
    """
    model = LinearGaussian(2, 3, spread=1.5, shift=0.2)
    x = model.data(1)
    ev = pv.log_marginal(model.program, x.expand(2000, -1), num_particles=1000, seed=0, expectations=FUNCTIONS)
    mean = model.posterior(x).mean
    exact = {"z": mean, "norm": mean.square().sum(-1) + model.V.trace()}
    for name, expectation in ev.expectations.items():
        assert expectation.mean.shape == expectation.standard_error.shape == (2000, *exact[name].shape[1:])
        assert expectation.mean.dtype == torch.float64
        t = (expectation.mean - exact[name]) / expectation.standard_error
        covered = (t.abs() < 1.96).double().mean(0)
        assert ((covered > 0.93) & (covered < 0.97)).all(), f"coverage {covered}"
        assert_mean(expectation.mean, exact[name][0], errors=5.0)


def test_enumerated_values_are_weighted_as_they_are(double: None) -> None:
    """p(y | x), exactly, and E[z | x] of a program whose y the guide enumerates."""
    loc, weights = torch.tensor([-1.0, 2.0]), torch.tensor([0.4, 0.6])

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            y = pyro.sample("y", dist.Categorical(weights))
            z = pyro.sample("z", dist.Normal(loc[y], 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            y = pyro.sample("y", dist.Categorical(torch.ones(2)), infer={"enumerate": "parallel"})
            pyro.sample("z", dist.Normal(0.5 * (x + loc[y]), 0.5**0.5))  # exact, given y

    x = torch.linspace(-2, 3, 7)
    joint = weights * dist.Normal(loc, 2**0.5).log_prob(x[:, None]).exp()
    p = joint / joint.sum(-1, keepdim=True)
    exact = (p * 0.5 * (x[:, None] + loc)).sum(-1)
    functions = {"y": lambda v: torch.nn.functional.one_hot(v["y"], 2), "z": lambda v: v["z"]}
    ev = pv.log_marginal(program(model, guide), x, num_particles=200, seed=0, expectations=functions)
    torch.testing.assert_close(ev.expectations["y"].mean, p)
    assert (ev.expectations["y"].standard_error < 1e-10).all()
    error = (ev.expectations["z"].mean - exact).abs() / ev.expectations["z"].standard_error
    assert (error < 4).all() and (ev.expectations["z"].standard_error > 0.01).all()


def _vae() -> tuple[Any, Tensor]:
    model = LinearGaussian(2, 3, spread=1.5)
    return model.program, model.data(19)


def test_asking_for_expectations_changes_nothing_else(double: None) -> None:
    """Blocks of data in their order, draws and the log-likelihoods with and without."""
    target, x = _vae()
    asked, plain = (
        pv.log_marginal(target, x, num_particles=300, seed=0, num_draws=4, expectations=f, memory=200_000)
        for f in (FUNCTIONS, None)
    )
    assert asked.log_prob.equal(plain.log_prob) and asked.draws.posterior["z"].equal(plain.draws.posterior["z"])
    assert list(asked.expectations) == ["z", "norm"] and not plain.expectations
    z, error = asked.expectations["z"].mean, asked.expectations["z"].standard_error
    together = pv.log_marginal(target, x, num_particles=3000, seed=1, expectations=FUNCTIONS).expectations["z"]
    assert ((z - together.mean).abs() < 5 * (error.square() + together.standard_error.square()).sqrt()).all()


@pytest.mark.parametrize("num_draws", [0, 3])
def test_by_a_graph(monkeypatch: pytest.MonkeyPatch, num_draws: int) -> None:
    """In the graph with the weights; chunks and blocks that do not fill it too."""
    monkeypatch.setattr("pyrovae.compiled.choice.backend_for", lambda device: interpreted)
    model = LinearGaussian(2, 3, spread=1.5)
    x = model.data(19)
    options: dict[str, Any] = {"num_particles": 1001, "num_draws": num_draws, "expectations": FUNCTIONS}
    with warnings.catch_warnings():
        warnings.simplefilter("error", CompileWarning)
        ev = pv.log_marginal(model.program, x, seed=0, compile=True, **options)
    exact = model.posterior(x).mean
    z = ev.expectations["z"]
    assert ((z.mean - exact).abs() < 5 * z.standard_error).all() and (z.standard_error < 0.05).all()
    assert (ev.draws is None) == (num_draws == 0)


def test_a_function_that_cannot_be_traced_runs_eagerly_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyrovae.compiled.choice.backend_for", lambda device: interpreted)
    target, x = _vae()
    looking = {"sign": lambda v: v["z"].sum(-1) if v["z"].sum() > -1e9 else v["z"]}
    with pytest.warns(CompileWarning, match=r"log_marginal runs eagerly.*looks at a tensor's value"):
        ev = pv.log_marginal(target, x, num_particles=50, seed=0, expectations=looking, compile=True)
    assert ev.expectations["sign"].mean.isfinite().all()


def test_functions_of_several_sites_on_repeated_rows() -> None:
    """A network that takes no particles: the same values by site, (S, n, *event)."""

    class Stiff(nn.Module):
        def model(self, x: Tensor) -> None:
            with pyro.plate("data", len(x), dim=-1):
                a = pyro.sample("a", dist.Normal(torch.zeros(len(x)), 1.0))
                if a.dim() > 1:
                    raise ValueError("no particles here")
                b = pyro.sample("b", dist.Normal(torch.zeros(len(x), 2), 1.0).to_event(1))
                pyro.sample("x", dist.Normal(a + b.sum(-1), 1.0), obs=x)

        def guide(self, x: Tensor) -> None:
            with pyro.plate("data", len(x), dim=-1):
                pyro.sample("a", dist.Normal(x / 4, 1.0))
                pyro.sample("b", dist.Normal(x[:, None].expand(-1, 2) / 4, 1.0).to_event(1))

    x = torch.linspace(-1, 1, 5)
    sums = {"sum": lambda v: torch.cat([v["a"][..., None], v["b"]], -1)}
    sums = pv.log_marginal(Stiff(), x, num_particles=4000, seed=0, expectations=sums).expectations["sum"]
    assert ((sums.mean - x[:, None] / 4).abs() < 4 * sums.standard_error).all()  # each a quarter of x: they are alike


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda v: v["y"], r"asks for 'y', the latents are \['z'\]"),
        (lambda v: v["z"].mean(), r"beginning with \(\d+, \d+\); got \(\)"),
        (lambda v: v["z"].transpose(0, 1), r"must take latents \(S, n, \*event\)"),
        (lambda v: 3.0, "got a float"),
        (lambda v: v["z"] * 1j, "must be real"),
    ],
)
def test_wrong_functions_are_refused(function: Any, message: str) -> None:
    target, x = _vae()
    for compile in (True, False):
        with pytest.raises(pv.PyrovaeError, match=message):
            pv.log_marginal(target, x, num_particles=50, expectations={"f": function}, compile=compile)


def test_by_annealing(double: None) -> None:
    """The ends of the chains, by their weights: right under a guide far too narrow for importance sampling."""
    model = LinearGaussian(2, 3, spread=0.5)
    x = model.data(40)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pv.EvidenceWarning)
        ev = pv.log_marginal(
            model.program, x, method="annealed", num_particles=64, num_steps=30, seed=0, expectations=FUNCTIONS
        )
    mean = model.posterior(x).mean
    exact = {"z": mean, "norm": mean.square().sum(-1) + model.V.trace()}
    for name, expectation in ev.expectations.items():
        t = (expectation.mean - exact[name]) / expectation.standard_error
        assert t.abs().max() < 6 and (t.abs() < 2).double().mean() > 0.8, name
    assert (ev.jackknife >= ev.truncated).all()  # type: ignore[operator]


def test_a_checkpoint_keeps_none(tmp_path: Any) -> None:
    target, x = _vae()
    with pytest.raises(pv.PyrovaeError, match="neither draws nor expectations"):
        pv.log_marginal(target, x, seed=0, expectations=FUNCTIONS, checkpoint=tmp_path / "kept")
