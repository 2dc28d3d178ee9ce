"""Guides moved datum by datum: at zero offsets the guide itself, afterwards a member of its family, row by row."""

from types import SimpleNamespace
from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
import pytest
import torch
from exact import program
from torch import Tensor
from torch.distributions.transforms import TanhTransform

import pyrovae as pv
from pyrovae.board import POSTERIORS, PRIORS
from pyrovae.checks.local import Local
from pyrovae.checks.local_flow import LocalFlow, _Flow
from pyrovae.pathwise import PathwiseNormalMixture
from pyrovae.terms import log_terms, repeated_log_terms

N, LATENT, WIDTH, S = 4, 3, 5, 6


def elbo(it: Any, x: Tensor, terms: Any = log_terms) -> Tensor:
    torch.manual_seed(0)
    return pv.objectives.elbo(terms(it, x, num_particles=S))


def vae(name: str) -> pv.VAE:
    torch.manual_seed(1)
    encoder = POSTERIORS[name].make(WIDTH, LATENT)
    prior = next(part for part in PRIORS.values() if part.values == POSTERIORS[name].values).make(encoder, x, LATENT)
    decoder = pv.Conditional(pv.networks.MLP(LATENT, 8, WIDTH), pv.families.bernoulli)
    return pv.VAE(prior, decoder, encoder)


x = torch.rand(N, WIDTH, generator=torch.Generator().manual_seed(2)).round()


@pytest.mark.parametrize("name", POSTERIORS)
@pytest.mark.parametrize("terms", [log_terms, repeated_log_terms])
def test_zero_offsets_are_the_guide(name: str, terms: Any) -> None:
    vae_ = vae(name)
    local = Local(vae_, N)
    torch.testing.assert_close(elbo(local, x, terms), elbo(vae_, x, terms), rtol=1e-4, atol=1e-4)
    assert local.parameters and all(len(value) == N for value in local.parameters.values())
    if POSTERIORS[name].values == "log-simplex":
        with pytest.raises(pv.PyrovaeError, match="lies on a surface"):
            LocalFlow(local, lambda it: elbo(it, x, terms))
        return
    flow = LocalFlow(local, lambda it: elbo(it, x, terms))
    torch.testing.assert_close(elbo(flow, x, terms), elbo(vae_, x, terms), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", POSTERIORS)
@pytest.mark.parametrize("terms", [log_terms, repeated_log_terms])
def test_a_datum_is_moved_by_its_own_parameters_alone(name: str, terms: Any) -> None:
    local = Local(vae(name), N)
    elbo(local, x, terms)
    moved = [local]
    if POSTERIORS[name].values == "real":
        moved.append(LocalFlow(local, lambda it: elbo(it, x, terms)))
    with torch.no_grad():
        for parameter in moved[-1].parameters.values():
            parameter += 0.1 * torch.randn_like(parameter)
    for it in moved:
        values = list(it.parameters.values())
        gradients = torch.autograd.grad(elbo(it, x, terms)[1], values, allow_unused=True)
        met = [gradient for gradient in gradients if gradient is not None]
        assert all((gradient[[0, 2, 3]] == 0).all() and gradient.isfinite().all() for gradient in met)
        assert any((gradient[1] != 0).any() for gradient in met)


def one_site(make: Any) -> Any:
    """A program whose guide draws from ``make(rows)``."""

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", make(len(x)))

    return program(None, guide)


FAMILIES = {
    "normal": lambda n: dist.Normal(torch.arange(n) + 1.0, 2.0),
    "log-normal": lambda n: dist.LogNormal(torch.ones(n, 2), 0.5).to_event(1),
    "beta": lambda n: dist.Beta(torch.full((n,), 2.0), 3.0),
    "gamma": lambda n: dist.Gamma(torch.full((n, 2, 2), 2.0), 3.0).to_event(2),
    "dirichlet": lambda n: dist.Dirichlet(torch.full((n, 3), 2.0)),
    "student": lambda n: dist.StudentT(torch.full((n,), 5.0), 0.0, 2.0),
    "full": lambda n: dist.MultivariateNormal(torch.zeros(n, 2), torch.tensor([[2.0, 0.5], [0.5, 1.0]])),
    "low rank": lambda n: dist.LowRankMultivariateNormal(torch.zeros(n, 2), torch.ones(n, 2, 1), torch.ones(n, 2)),
    "categorical": lambda n: dist.Categorical(probs=torch.tensor([0.2, 0.3, 0.5]).expand(n, 3)),
    "bernoulli": lambda n: dist.Bernoulli(torch.full((n, 2), 0.3)).to_event(1),
    "binomial": lambda n: dist.Binomial(7, torch.full((n,), 0.3)),
    "relaxed": lambda n: dist.RelaxedBernoulli(torch.tensor(0.5), logits=torch.zeros(n)),
    "expanded": lambda n: dist.Normal(0.0, 1.0).expand([n]),
    "masked": lambda n: dist.Normal(torch.zeros(n, 2), 1.0).mask(torch.tensor([True, False])).to_event(1),
    "transformed": lambda n: dist.TransformedDistribution(dist.Normal(torch.zeros(n), 1.0), [TanhTransform()]),
    "von Mises": lambda n: dist.VonMises(torch.zeros(n), 2.0),
    "half-normal": lambda n: dist.HalfNormal(torch.ones(n)),
    "pathwise": lambda n: PathwiseNormalMixture(torch.zeros(n, 2), torch.randn(n, 2, 3), torch.ones(n, 2, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_distributions_are_rebuilt_and_move(name: str) -> None:
    torch.manual_seed(3)
    given = FAMILIES[name](N)
    with pyro.plate("particles", S, dim=-2):
        local = Local(one_site(lambda _: given), N)

        def drawn() -> Any:
            return pyro.poutine.trace(local.guide).get_trace(torch.zeros(N)).nodes["z"]["fn"]

        made, value = drawn(), given.sample()
        torch.testing.assert_close(made.log_prob(value), given.log_prob(value).expand(S, N), rtol=1e-4, atol=1e-4)
        before = made.log_prob(value)
        with torch.no_grad():
            for parameter in local.parameters.values():
                parameter[1] += 0.3 * torch.randn_like(parameter[1])
        change = drawn().log_prob(value) - before
    assert (change[:, 1].abs() > 1e-4).all() and change[:, [0, 2, 3]].abs().max() == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda n: dist.Delta(torch.zeros(n)), "as a point"),
        (lambda n: Bare(torch.zeros(n), 1.0), "no arg_constraints"),
        (lambda n: Forgetful(torch.zeros(n)), "does not keep its arguments"),
        (lambda n: Changed(torch.zeros(n)), "another one when built anew"),
    ],
)
def test_refusals(make: Any, message: str) -> None:
    with pytest.raises(pv.PyrovaeError, match=message):
        Local(one_site(make), N).guide(torch.zeros(N))


class Whole(dist.Normal):
    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return self


class Bare(Whole):
    arg_constraints: ClassVar[dict[str, Any]] = {}


class Forgetful(Whole):
    def __init__(self, middle: Tensor) -> None:
        super().__init__(middle, 1.0)


class Changed(Whole):
    def __init__(self, loc: Tensor, scale: Any = 1.0) -> None:
        super().__init__(loc, 2 * scale)


def test_no_flow_bends_a_circle() -> None:
    it = one_site(FAMILIES["von Mises"])
    local = Local(it, N)
    local.guide(torch.zeros(N))
    with pytest.raises(pv.PyrovaeError, match="'z' lives on a circle, not in the real numbers that a flow bends"):
        LocalFlow(local, lambda each: each.guide(torch.zeros(N)))


def test_auxiliary_sites_stay() -> None:
    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("noise", dist.Uniform(torch.zeros(len(x)), 1.0), infer={"auxiliary": True})

    local = Local(SimpleNamespace(guide=guide, model=None), N)
    local.guide(torch.zeros(N))
    assert not local.parameters


def test_a_flow_has_the_density_of_what_it_draws() -> None:
    """Importance weights average to the normaliser, here of constrained and of several dependent latents."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Gamma(torch.full((len(x),), 3.0), 2.0))
            pyro.sample("b", dist.Normal(torch.stack([a, -a], -1), 1.0).to_event(1))

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.LogNormal(torch.full((len(x),), 0.3), 0.8))
            pyro.sample("b", dist.Normal(torch.stack([a, -a], -1), 1.5).to_event(1))

    torch.manual_seed(0)
    data = torch.zeros(2)
    it = program(model, guide)
    local = Local(it, 2)
    log_terms(local, data)
    flow = LocalFlow(local, lambda each: log_terms(each, data, num_particles=100))
    with torch.no_grad():
        for parameter in flow.parameters.values():
            parameter += 0.05 * torch.randn_like(parameter)
        w = log_terms(flow, data, num_particles=40000).log_weight.exp()
    assert w.std() > 0.1  # the guide's own weights are others
    assert ((w.mean(0) - 1).abs() < 4 * w.std(0) / 200).all()


def test_the_log_determinant_is_that_of_the_jacobian(double: None) -> None:
    torch.manual_seed(0)
    for width in (1, 2, 5):
        u = torch.randn(50, 2, width) * 3 + 1
        flow = _Flow(u, 2)
        with torch.no_grad():
            for parameter in flow.parameters.values():
                parameter += 0.3 * torch.randn_like(parameter)
        _, log_det = flow(u[:1])
        jacobian = torch.autograd.functional.jacobian(lambda v, flow=flow: flow(v)[0], u[:1])
        each = torch.stack([jacobian[0, n, :, 0, n].slogdet().logabsdet for n in range(2)])
        torch.testing.assert_close(log_det[0], each)
