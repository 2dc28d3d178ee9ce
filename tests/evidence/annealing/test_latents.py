"""Annealed importance sampling of every kind of latent, against log p(x) in closed form; and what cannot be moved."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import pytest
import torch
from exact import program
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.evidence.annealing import chains
from pyrovae.evidence.annealing.latents import Joint, from_prior
from pyrovae.terms import repeated_log_terms, terms_for


class Case(NamedTuple):
    program: Any
    rows: tuple[Any, ...]
    exact: Tensor


def _plate(x: Any) -> Any:
    return pyro.plate("data", len(x), dim=-1)


# -------------------------------------------------------------------------------------------- constrained latents


def gamma_poisson() -> Case:
    a, b = torch.tensor(2.0), torch.tensor(1.5)

    def model(x: Tensor) -> None:
        with _plate(x):
            z = pyro.sample("z", dist.Gamma(a, b))
            pyro.sample("x", dist.Poisson(z[..., None].expand(*z.shape, 3)).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        with _plate(x):
            pyro.sample("z", dist.LogNormal(((a + x.sum(-1)) / (b + 3)).log(), 0.8))

    x = torch.tensor([[0.0, 1, 0], [4, 2, 3], [1, 1, 1]])
    s = x.sum(-1)
    exact = (a + s).lgamma() - a.lgamma() + a * b.log() - (a + s) * (b + 3).log() - (x + 1).lgamma().sum(-1)
    return Case(program(model, guide), (x,), exact)


def beta_bernoulli() -> Case:
    a, b = torch.tensor(2.0), torch.tensor(3.0)

    def model(x: Tensor) -> None:
        with _plate(x):
            z = pyro.sample("z", dist.Beta(a, b))
            pyro.sample("x", dist.Bernoulli(z[..., None].expand(*z.shape, 5)).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        with _plate(x):
            pyro.sample("z", dist.Beta(1.5 + 0 * x.sum(-1), 1.5))

    x = torch.tensor([[0.0, 0, 0, 0, 0], [1, 1, 1, 1, 0], [1, 0, 1, 0, 0]])
    ones, zeros = x.sum(-1), (1 - x).sum(-1)
    log_beta = lambda p, q: p.lgamma() + q.lgamma() - (p + q).lgamma()  # noqa: E731
    return Case(program(model, guide), (x,), log_beta(a + ones, b + zeros) - log_beta(a, b))


def dirichlet_multinomial() -> Case:
    a = torch.tensor([1.0, 2.0, 0.7])

    def model(x: Tensor) -> None:
        with _plate(x):
            z = pyro.sample("z", dist.Dirichlet(a))
            pyro.sample("x", dist.Multinomial(probs=z, validate_args=False), obs=x)

    def guide(x: Tensor) -> None:
        with _plate(x):
            pyro.sample("z", dist.Dirichlet(1.0 + 0.3 * x))

    x = torch.tensor([[3.0, 0, 1], [0, 4, 0], [1, 2, 1]])
    return Case(program(model, guide), (x,), dist.DirichletMultinomial(a, 4).log_prob(x))


def simplex_by_rows() -> Case:
    """The same by networks that know no particles, through a stick-breaking transform whose dimension differs."""
    case = dirichlet_multinomial()

    def model(x: Tensor) -> None:
        with _plate(x):
            z = pyro.sample("z", dist.Dirichlet(torch.tensor([1.0, 2.0, 0.7])))
            assert z.dim() == 2
            pyro.sample("x", dist.Multinomial(probs=z, validate_args=False), obs=x)

    return case._replace(program=program(model, case.program.guide))


def uniform_of_given(stiff: bool = False) -> Case:
    """z ~ U(0, given), a support of each datum's own."""

    def model(x: Tensor, high: Tensor) -> None:
        with _plate(x):
            z = pyro.sample("z", dist.Uniform(0.0, high))
            assert z.dim() == 1 or not stiff
            pyro.sample("x", dist.Normal(z, 0.5), obs=x)

    def guide(x: Tensor, high: Tensor) -> None:
        with _plate(x):
            pyro.sample("z", dist.Uniform(0.0, high))

    x, high = torch.tensor([0.5, 2.0, -0.5, 3.0]), torch.tensor([1.0, 5.0, 1.0, 2.0])
    cdf = dist.Normal(0.0, 1.0).cdf
    return Case(program(model, guide), (x, high), ((cdf(x / 0.5) - cdf((x - high) / 0.5)) / high).log())


def uniform_by_rows() -> Case:
    return uniform_of_given(stiff=True)


# ------------------------------------------------------------------------------------------------ discrete latents

LOCS = torch.tensor([-2.0, 0.0, 3.0], dtype=torch.float64)
SHARES = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)


def mixture(*, in_guide: bool = True, mark: str | None = None, after: bool = False) -> Case:
    """y ~ Categorical, z ~ N(loc_y, 1), x ~ N(z, 0.6)."""

    def model(x: Tensor) -> None:
        with _plate(x):
            y = pyro.sample("y", dist.Categorical(SHARES))
            z = pyro.sample("z", dist.Normal(LOCS[y], 1.0))
            pyro.sample("x", dist.Normal(z, 0.6), obs=x)

    def guide(x: Tensor) -> None:
        with _plate(x):
            if in_guide and not after:
                logits = -0.2 * (x[:, None] - LOCS).square()
                y = pyro.sample("y", dist.Categorical(logits=logits), infer={"enumerate": mark} if mark else {})
                pyro.sample("z", dist.Normal(0.5 * (x + LOCS[y]), 1.0))
            else:
                z = pyro.sample("z", dist.Normal(x, 1.0))
            if after:
                logits = -0.3 * (z[..., None] - LOCS).square()
                pyro.sample("y", dist.Categorical(logits=logits), infer={"enumerate": mark} if mark else {})

    x = torch.tensor([-1.0, 0.3, 1.6, 4.0])
    parts = SHARES.log() + dist.Normal(LOCS, (1 + 0.6**2) ** 0.5).log_prob(x[:, None])
    return Case(program(model, guide), (x,), parts.logsumexp(-1))


def two_discrete() -> Case:
    """One in the guide, whose values the other, in the model only, depends on; and a Bernoulli."""
    p = torch.tensor([0.2, 0.9])

    def model(x: Tensor) -> None:
        with _plate(x):
            a = pyro.sample("a", dist.Bernoulli(0.3))
            b = pyro.sample("b", dist.Bernoulli(p[a.long()]))
            z = pyro.sample("z", dist.Normal(2 * a - b, 1.0))
            pyro.sample("x", dist.Normal(z + b, 0.5), obs=x)

    def guide(x: Tensor) -> None:
        with _plate(x):
            a = pyro.sample("a", dist.Bernoulli(torch.sigmoid(x)))
            pyro.sample("z", dist.Normal(0.7 * x + 0.5 * a, 1.2))

    x = torch.tensor([-1.0, 0.5, 3.0])
    terms = []
    for a, b in ((0, 0), (0, 1), (1, 0), (1, 1)):
        share = (0.3 if a else 0.7) * (p[a] if b else 1 - p[a])
        terms.append(share.log() + dist.Normal(2.0 * a, 1.25**0.5).log_prob(x))
    return Case(program(model, guide), (x,), torch.stack(terms).logsumexp(0))


# -------------------------------------------------------------------------------------------------- several latents


def hierarchy(stiff: bool = False) -> Case:
    """z2 (scalar) -> z1 (2 x 3) -> x (6), the guide from the bottom up; all linear and normal."""
    W = torch.tensor([[0.5, -0.3, 0.2], [0.1, 0.6, -0.4]], dtype=torch.float64)

    def model(x: Tensor) -> None:
        with _plate(x):
            z2 = pyro.sample("z2", dist.Normal(0.0, 1.0))
            z1 = pyro.sample("z1", dist.Normal(z2[..., None, None] * W, 0.5).to_event(2))
            assert not stiff or z1.dim() == 3
            pyro.sample("x", dist.Normal(z1.flatten(-2), 1.0).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        with _plate(x):
            z1 = pyro.sample("z1", dist.Normal(0.25 * x.unflatten(-1, (2, 3)), 0.5).to_event(2))
            pyro.sample("z2", dist.Normal((z1 * W).sum((-1, -2)) / (W.square().sum() + 0.25), 0.5))

    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    w = W.flatten()
    cov = torch.outer(w, w) + (0.25 + 1.0) * torch.eye(6)
    return Case(program(model, guide), (x,), dist.MultivariateNormal(torch.zeros(6), cov).log_prob(x))


def hierarchy_by_rows() -> Case:
    return hierarchy(stiff=True)


def deterministic_part() -> Case:
    """A Delta in model and guide, which moves with what it is computed from."""

    def model(x: Tensor) -> None:
        with _plate(x):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            double = pyro.sample("double", dist.Delta(2 * z))
            pyro.sample("x", dist.Normal(double, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with _plate(x):
            z = pyro.sample("z", dist.Normal(0.2 * x, 0.8))
            pyro.sample("double", dist.Delta(2 * z))

    x = torch.tensor([-1.0, 0.4, 5.0])
    return Case(program(model, guide), (x,), dist.Normal(0.0, 5**0.5).log_prob(x))


def tree() -> Case:
    """x a dict of two leaves, and a latent for each and one for both."""

    def model(x: dict[str, Tensor]) -> None:
        with _plate(x["a"]):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            w = pyro.sample("w", dist.LogNormal(0.0, 0.5))
            pyro.sample("x.a", dist.Normal(z, 0.5), obs=x["a"])
            pyro.sample("x.b", dist.Normal(torch.stack([z, w.log()], -1), 0.5).to_event(1), obs=x["b"])

    def guide(x: dict[str, Tensor]) -> None:
        with _plate(x["a"]):
            pyro.sample("w", dist.LogNormal(x["b"][:, 1] / 2, 0.5))
            pyro.sample("z", dist.Normal((x["a"] + x["b"][:, 0]) / 3, 0.5))

    a, b = torch.tensor([0.3, -1.0]), torch.tensor([[0.5, 0.2], [0.1, 1.0]])
    both = dist.MultivariateNormal(torch.zeros(2), torch.ones(2, 2) + 0.25 * torch.eye(2))
    log_w = dist.Normal(0.0, 0.5**0.5).log_prob(b[:, 1])
    return Case(program(model, guide), ({"a": a, "b": b},), both.log_prob(torch.stack([a, b[:, 0]], -1)) + log_w)


CASES: dict[str, Callable[[], Case]] = {
    **{f.__name__: f for f in (gamma_poisson, beta_bernoulli, dirichlet_multinomial, simplex_by_rows)},
    **{f.__name__: f for f in (uniform_of_given, uniform_by_rows, two_discrete, hierarchy, hierarchy_by_rows)},
    **{f.__name__: f for f in (deterministic_part, tree)},
    "y in the guide, marked": lambda: mixture(mark="parallel"),
    "y in the guide, sampled": lambda: mixture(),
    "y after z in the guide, sampled": lambda: mixture(after=True),
    "y after z in the guide, marked": lambda: mixture(after=True, mark="parallel"),
    "y in the model only": lambda: mixture(in_guide=False),
}


@pytest.mark.filterwarnings("ignore::pyrovae.EvidenceWarning")
@pytest.mark.parametrize(
    ("name", "start"), [*((name, "guide") for name in CASES), *((name, "prior") for name in CASES if name[:2] != "y ")]
)
def test_log_p_in_closed_form(double: None, monkeypatch: pytest.MonkeyPatch, name: str, start: Any) -> None:
    """Each datum 200 times over, with 4 chains of 6 steps each: E[p-hat] / p = 1 within 4 standard errors."""
    monkeypatch.setattr(chains, "STATIONS", 8)
    case = CASES[name]()
    assert (terms_for(case.program, *case.rows) is repeated_log_terms) == name.endswith("rows")
    times = 200
    rows = [pv.trees.repeat(tree, times) for tree in case.rows]
    options = {"annealing": pv.Annealing(start=start, num_leapfrog=3), "seed": 0, "method": "annealed"}
    ev = pv.log_marginal(case.program, *rows, num_particles=4, num_steps=6, **options)
    assert ev.start == start
    ratio = (ev.log_prob.unflatten(0, (times, -1)) - case.exact).exp()
    error = ratio.std(0) / math.sqrt(times)
    assert ((ratio.mean(0) - 1).abs() < 4 * error + 1e-9).all() and (error < 0.1).all(), (ratio.mean(0), error)
    assert (ev.acceptance > 0).all() and ev.acceptance.mean() > 0.4


# ------------------------------------------------------------------------------------------------------- the joint


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("count", [1, 3])
def test_gradients_and_draws(double: None, name: str, count: int) -> None:
    """Gradients against differences; one chain against several; the density of what the guide drew against its own."""
    case = CASES[name]()
    joint = Joint(case.program, terms_for(case.program, *case.rows), list(case.rows))
    u = joint.draw(count, *case.rows)
    assert u.shape == (count, len(case.exact), joint.size) and u.isfinite().all()
    point = joint.point(u, *case.rows)
    assert point.log_q.shape == point.log_p.shape == u.shape[:2]
    direction = torch.randn_like(u)
    up, down = (joint.densities(u + sign * 1e-5 * direction, *case.rows) for sign in (1, -1))
    for grad, high, low in zip(point[3:], up, down, strict=True):
        torch.testing.assert_close((grad * direction).sum(-1), (high - low) / 2e-5, rtol=1e-4, atol=1e-5)
    single = [joint.point(u[i : i + 1], *case.rows) for i in range(count)]
    for whole, *parts in zip(point, *single, strict=True):
        torch.testing.assert_close(whole, torch.cat(parts))


# ------------------------------------------------------------------------------------------------ what cannot be moved


def _refused(model: Any, guide: Any, message: str) -> None:
    with pytest.raises(pv.PyrovaeError, match=message):
        pv.log_marginal(program(model, guide), torch.tensor([1.0, 2.0]), method="annealed", num_steps=2)


def _of(latent: Callable[[Tensor], Any], other: Callable[[Tensor], Any] | None = None) -> tuple[Any, Any]:
    """z ~ latent in model and guide, x ~ N(z, 1)."""

    def model(x: Tensor) -> None:
        with _plate(x):
            z = pyro.sample("z", latent(x))
            pyro.sample("x", dist.Normal(z if z.shape[-1:] == x.shape else z.sum(-1), 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with _plate(x):
            pyro.sample("z", (other or latent)(x))

    return model, guide


def test_what_cannot_be_moved_is_refused() -> None:
    _refused(*_of(lambda x: dist.Bernoulli(0.5)), "this program has none")
    _refused(*_of(lambda x: dist.Poisson(2.0)), "this program has none")
    _refused(*_of(lambda x: dist.VonMises(torch.tensor(0.0), torch.tensor(1.0))), "'z' lives on a circle")
    _refused(*_of(lambda x: dist.ProjectedNormal(torch.ones(3))), "no map from the real numbers")
    _refused(*_of(lambda x: _Nowhere(torch.zeros_like(x), 1.0)), "'z', None, has no map from the real numbers")


class _Nowhere(dist.Normal):  # type: ignore[misc]
    """A normal distribution that does not say where it lives."""

    @property
    def support(self) -> Any:
        raise NotImplementedError

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return _Nowhere(self.loc.expand(batch_shape), self.scale.expand(batch_shape))


@pytest.mark.filterwarnings("ignore::pyrovae.EvidenceWarning")
@pytest.mark.parametrize("start", ["auto", "prior"])
def test_chains_from_the_prior_ask_nothing_of_the_guide(double: None, start: Any) -> None:
    """Of one that gives points; and, where the prior is asked for, of one without the latent."""
    model, points = _of(lambda x: dist.Normal(torch.zeros_like(x), 1.0), lambda x: dist.Delta(x))
    x = torch.tensor([1.0, 2.0])
    exact = dist.Normal(0.0, 2**0.5).log_prob(x)
    for guide in (points, lambda x: None)[: 1 + (start == "prior")]:
        options = {"annealing": pv.Annealing(start=start), "num_particles": 64, "num_steps": 20, "seed": 0}
        ev = pv.log_marginal(program(model, guide), x, method="annealed", **options)
        assert ev.start == "prior" and ((ev.log_prob - exact).abs() < 4 * ev.standard_error).all()
    with pytest.raises(pv.PyrovaeError, match="as points"):
        pv.log_marginal(program(model, points), x, method="annealed", annealing=pv.Annealing(start="guide"))


def test_the_decoder_runs_once_for_a_gradient_and_not_for_a_draw(double: None) -> None:
    """From the guide, and from the prior too, where the model is run up to its last latent for a guide."""
    decoded: list[int] = []

    def model(x: Tensor) -> None:
        with _plate(x):
            y = pyro.sample("y", dist.Bernoulli(0.3))
            z = pyro.sample("z", dist.Normal(y, 1.0))
            decoded.append(1)
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with _plate(x):
            pyro.sample("y", dist.Bernoulli(0.5))
            pyro.sample("z", dist.Normal(x, 1.0))

    x = torch.tensor([1.0, 2.0])
    for begun in (program(model, guide), from_prior(program(model, guide))):
        joint = Joint(begun, pv.log_terms, [x])
        decoded.clear()
        u = joint.draw(3, x)
        assert not decoded
        joint.point(u, x)
        assert len(decoded) == 1


def test_a_discrete_latent_without_an_end_is_refused() -> None:
    def model(x: Tensor) -> None:
        with _plate(x):
            y = pyro.sample("y", dist.Poisson(2.0))
            z = pyro.sample("z", dist.Normal(y, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with _plate(x):
            pyro.sample("y", dist.Poisson(2.0))
            pyro.sample("z", dist.Normal(x, 1.0))

    _refused(model, guide, "discrete latent 'y' cannot be enumerated: use method='importance'")


def test_a_binomial_latent_of_different_totals_is_refused() -> None:
    """It says that it can be enumerated, and cannot."""

    def model(x: Tensor) -> None:
        with _plate(x):
            y = pyro.sample("y", dist.Binomial(torch.tensor([2.0, 3.0]), torch.tensor(0.5)))
            z = pyro.sample("z", dist.Normal(y, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with _plate(x):
            pyro.sample("y", dist.Binomial(torch.tensor([2.0, 3.0]), torch.tensor(0.5)))
            pyro.sample("z", dist.Normal(x, 1.0))

    _refused(model, guide, "discrete latent 'y' cannot be enumerated: use method='importance'")


def test_a_support_that_a_discrete_latent_decides_is_refused() -> None:
    def model(x: Tensor) -> None:
        with _plate(x):
            y = pyro.sample("y", dist.Bernoulli(0.5))
            z = pyro.sample("z", dist.Uniform(0.0, 1.0 + y))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with _plate(x):
            y = pyro.sample("y", dist.Bernoulli(0.5))
            pyro.sample("z", dist.Uniform(0.0, 1.0 + y))

    _refused(model, guide, "the support of latent 'z' depends on a discrete latent")


@pytest.mark.parametrize("flow", ["planar", "radial", "sylvester"])
@pytest.mark.filterwarnings("ignore::pyrovae.EvidenceWarning")
def test_a_guide_without_a_density_starts_at_the_prior(flow: str) -> None:
    torch.manual_seed(0)
    net = pv.networks.MLP(3, 8, 4)
    posterior = pv.Conditional(net, pv.families.Flow(pv.families.normal, getattr(pv.flows, flow)(2)))
    decoder = pv.Conditional(nn.Linear(2, 3), pv.families.FixedScaleNormal(0.7))
    vae = pv.VAE(pv.priors.StandardNormal(2), decoder, posterior)
    x = torch.randn(3, 3)
    W = decoder.net.weight.detach()
    exact = dist.MultivariateNormal(decoder.net.bias.detach(), W @ W.T + 0.49 * torch.eye(3)).log_prob(x)
    ev = pv.log_marginal(vae, x, method="annealed", num_particles=64, num_steps=30, seed=0)
    assert ev.start == "prior" and "annealing from the prior" in ev.summary()
    assert ((ev.log_prob - exact).abs() < 4 * ev.standard_error).all() and (ev.standard_error < 0.1).all()
    with pytest.raises(pv.PyrovaeError, match="inverse"):
        pv.log_marginal(vae, x, method="annealed", annealing=pv.Annealing(start="guide"))
