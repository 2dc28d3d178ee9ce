"""The exact log p(x) against closed forms of one's own, and its refusals."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from exact import LinearGaussian, program
from solvable import SOLVABLE
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.evidence import exact
from pyrovae.evidence.exact import exact_log_prob


@pytest.mark.parametrize("name", SOLVABLE)
def test_solvable_programs(double: None, name: str) -> None:
    """To 1e-10 of the closed form, sigma = 0.01 included; what is constrained or nonlinear is refused."""
    solvable = SOLVABLE[name]()
    rows = solvable.data(20)
    if solvable.closed:
        torch.testing.assert_close(
            exact_log_prob(solvable.program, *rows), solvable.log_prob(*rows), rtol=1e-10, atol=1e-10
        )
    else:
        with pytest.raises(pv.PyrovaeError, match="annealed"):
            exact_log_prob(solvable.program, *rows)


# --------------------------------------------------------------------------------------------------------- precision


def test_a_float32_program_in_float64(empty_store: None) -> None:
    """Exact for the float32 numbers that the program consists of; they, their gradients and all else stay untouched."""
    made = LinearGaussian(3, 5, sigma=0.1)
    vae, x = made.program.train(), made.data(4)
    weight = vae.decoder.net.weight
    weight.grad = torch.ones_like(weight)
    before = {name: (value, value.clone()) for name, value in vae.state_dict().items()}
    state = torch.get_rng_state()
    found = exact_log_prob(vae, x)
    W, b = weight.detach().double(), vae.decoder.net.bias.detach().double()
    wanted = dist.MultivariateNormal(b, W @ W.T + 0.1**2 * torch.eye(5, dtype=torch.float64)).log_prob(x.double())
    torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-7)  # sigma is a float32 buffer
    assert found.dtype == torch.float64 and torch.get_default_dtype() == torch.float32 and vae.training
    after = vae.state_dict()
    assert all(after[name].data_ptr() == value.data_ptr() and torch.equal(after[name], copy)
               for name, (value, copy) in before.items())  # fmt: skip
    assert all(leaf.dtype == torch.float32 for leaf in [*vae.parameters(), *vae.buffers(), weight.grad])
    assert torch.equal(torch.get_rng_state(), state) and not pyro.get_param_store().keys()


def test_what_was_float32_is_put_back_after_a_refusal() -> None:
    vae = pv.VAE(pv.priors.StandardNormal(2), pv.Conditional(pv.networks.MLP(2, 8, 3), pv.families.bernoulli), Unused())
    with pytest.raises(pv.PyrovaeError, match="quadratic"):
        exact_log_prob(vae, torch.ones(2, 3))
    assert all(leaf.dtype == torch.float32 for leaf in [*vae.parameters(), *vae.buffers()])
    assert torch.get_default_dtype() == torch.float32


def test_a_plain_pyro_program_with_parameters_of_its_own(empty_store: None) -> None:
    """Modules in closures and bare ``pyro.param``, in float32; the store's values count, and stay."""
    torch.manual_seed(0)
    layer = nn.Linear(2, 4)
    pyro.param("scale", torch.tensor(0.3), constraint=dist.constraints.positive)

    def model(x: Tensor) -> None:
        pyro.module("layer", layer)
        scale = pyro.param("scale", torch.tensor(9.0), constraint=dist.constraints.positive)
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.MultivariateNormal(torch.zeros(2), torch.eye(2)))
            pyro.sample("x", dist.Normal(layer(z), scale).to_event(1), obs=x)

    x = torch.randn(3, 4)
    W, b = layer.weight.detach().double(), layer.bias.detach().double()
    wanted = dist.MultivariateNormal(b, W @ W.T + 0.09 * torch.eye(4, dtype=torch.float64)).log_prob(x.double())
    torch.testing.assert_close(exact_log_prob(program(model, never), x), wanted, rtol=1e-6, atol=1e-6)
    assert layer.weight.dtype == torch.float32 and set(pyro.get_param_store().keys()) == {"scale"}


def never(*_: Any) -> None:
    raise AssertionError("the guide was run")


class Unused(nn.Module):
    """An encoder that is there, and nothing more."""

    def forward(self, x: Tensor) -> Any:
        raise AssertionError("the guide was run")


# ---------------------------------------------------------------------------------------------------------- mixtures


def _factor_analysis(prior: nn.Module, latent: int = 2, sigma: float = 0.4) -> tuple[pv.VAE, nn.Linear, Tensor]:
    decoder = nn.Linear(latent, 4)
    vae = pv.VAE(prior, pv.Conditional(decoder, pv.families.FixedScaleNormal(sigma)), Unused())
    return vae, decoder, torch.randn(6, 4)


def _mixed(x: Tensor, decoder: nn.Linear, weights: Tensor, loc: Tensor, cov: Tensor, sigma: float = 0.4) -> Tensor:
    W, b = decoder.weight.detach(), decoder.bias.detach()
    components = dist.MultivariateNormal(loc @ W.T + b, W @ cov @ W.T + sigma**2 * torch.eye(len(b)))
    return (components.log_prob(x[:, None]) + weights.log()).logsumexp(-1)


class _Torchs(pv.priors.Prior):
    """A mixture as torch has it."""

    def __init__(self, weights: Tensor, loc: Tensor, cov: Tensor) -> None:
        super().__init__()
        self.weights, self.loc, self.cov = weights, loc, cov

    def forward(self, *given: Any) -> Any:
        return dist.MixtureSameFamily(dist.Categorical(self.weights), dist.MultivariateNormal(self.loc, self.cov))


def _diagonal() -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    prior = pv.priors.NormalMixture(2, 5, spread=3.0)
    p = prior()
    return prior, p.logits.softmax(-1), p.loc, p.scale.square().diag_embed()


def _full() -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    prior = pv.priors.FullNormalMixture(2, 3, spread=2.0)
    with torch.no_grad():
        prior.below.normal_()
        prior.logits.normal_()
    p = prior()
    return prior, p.logits.softmax(-1), p.loc, p.scale_tril @ p.scale_tril.mT


def _torchs() -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    root = torch.randn(3, 2, 2)
    parts = torch.tensor([0.2, 0.5, 0.3]), torch.randn(3, 2), root @ root.mT + 0.1 * torch.eye(2)
    return _Torchs(*parts), *parts


def _vamp() -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    prior = pv.priors.VampPrior(pv.Conditional(nn.Linear(4, 4), pv.families.normal), torch.randn(7, 4))
    p = prior()
    return prior, torch.full((7,), 1 / 7), p.loc, p.scale.square().diag_embed()


def _exemplar() -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    prior = pv.priors.ExemplarPrior(pv.Conditional(nn.Linear(4, 4), pv.families.normal), torch.randn(7, 4)).eval()
    p = prior()
    return prior, torch.full((7,), 1 / 7), p.loc, p.scale.square().diag_embed()


@pytest.mark.parametrize("make", [_diagonal, _full, _torchs, _vamp, _exemplar])
def test_mixtures_of_normals_as_prior(double: None, make: Any) -> None:
    torch.manual_seed(0)
    prior, weights, loc, cov = make()
    vae, decoder, x = _factor_analysis(prior)
    with torch.no_grad():
        wanted = _mixed(x, decoder, weights, loc, cov)
    torch.testing.assert_close(exact_log_prob(vae, x), wanted, rtol=1e-10, atol=1e-10)


def test_blocks_are_no_matter(double: None, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    vae, _, x = _factor_analysis(pv.priors.NormalMixture(2, 3))
    whole = exact_log_prob(vae, x)
    monkeypatch.setattr(exact, "MOST_ROWS", 1)
    monkeypatch.setattr(exact, "PROBES", 40)
    torch.testing.assert_close(exact_log_prob(vae, x), whole)


# ---------------------------------------------------------------------------------------------------------- discrete


def test_binary_vectors_by_all_their_values(double: None) -> None:
    """Latents that Pyro does not enumerate, several bits in one site."""
    torch.manual_seed(0)
    prior = pv.priors.Learned(pv.families.Bernoulli(), 5)
    with torch.no_grad():
        next(prior.parameters()).normal_()
    decoder = pv.Conditional(pv.networks.MLP(5, 8, 3), pv.families.bernoulli)
    vae, x = pv.VAE(prior, decoder, Unused()), torch.bernoulli(torch.full((6, 3), 0.5))
    z = torch.cartesian_prod(*[torch.arange(2.0)] * 5)
    with torch.no_grad():
        wanted = (prior().log_prob(z)[:, None] + decoder(z[:, None]).log_prob(x)).logsumexp(0)
    torch.testing.assert_close(exact_log_prob(vae, x), wanted)


def test_a_class_that_never_occurs(double: None) -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            y = pyro.sample("y", dist.Categorical(torch.tensor([1.0, 0.0])))
            z = pyro.sample("z", dist.Normal(3.0 * y, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    x = torch.randn(4)
    wanted = dist.Normal(0.0, 2**0.5).log_prob(x)
    torch.testing.assert_close(exact_log_prob(program(model, never), x), wanted, rtol=1e-7, atol=1e-7)


def test_without_latents(double: None) -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)

    x = torch.randn(4)
    torch.testing.assert_close(exact_log_prob(program(model, never), x), dist.Normal(0.0, 1.0).log_prob(x))


# ---------------------------------------------------------------------------------------------------------- refusals


def one_latent(latent: Any, mean: Any = lambda z: z, sigma: float = 1.0) -> Any:
    """z from a distribution, x ~ N(mean(z), sigma)."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", latent)
            pyro.sample("x", dist.Normal(mean(z), sigma), obs=x)

    return program(model, never)


def _outside(x: Tensor) -> None:
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def _rising(x: Tensor) -> None:
    with pyro.plate("data", len(x), dim=-1):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)
        pyro.factor("f", 2 * z.square())


normal = dist.Normal(torch.tensor(0.0), torch.tensor(1.0))  # float32, as constants of a program may be
REFUSED = {
    "nonlinear": (one_latent(normal, torch.tanh), "not a quadratic"),
    "piecewise linear": (one_latent(normal, lambda z: torch.relu(z + 1)), "not a quadratic"),
    "nearly linear": (one_latent(normal, lambda z: z + 1e-4 * z.square()), "not a quadratic"),
    "prior with other tails": (one_latent(dist.StudentT(5.0)), "not a quadratic"),
    "prior with an edge": (one_latent(dist.Laplace(0.0, 1.0)), "not a quadratic"),
    "no peak": (program(_rising, never), "not a quadratic"),
    "positive": (one_latent(dist.Gamma(2.0, 1.0)), "not anywhere in R"),
    "an interval": (one_latent(dist.Uniform(0.0, 1.0)), "not anywhere in R"),
    "mixture of others": (
        one_latent(dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), dist.Laplace(torch.zeros(2), 1.0))),
        "mixture of Laplace",
    ),
    "unbounded counts": (one_latent(dist.Poisson(2.0)), "cannot be enumerated.*importance"),
    "too many": (one_latent(dist.Categorical(torch.ones(20_000))), "20,000 values"),
    "masked": (one_latent(normal.mask(torch.tensor(False))), "masked"),
    "outside the data plate": (program(_outside, never), "in the data plate"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(double: None, name: str) -> None:
    refused, reason = REFUSED[name]
    with pytest.raises(pv.PyrovaeError, match=reason):
        exact_log_prob(refused, torch.randn(5))


@pytest.fixture
def points_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read off the operations."""
    monkeypatch.setattr(exact, "degree", lambda *_: (2.0, []))


def kinked(z: Tensor) -> Tensor:
    return z - 10 * torch.relu(z - 3)


@pytest.mark.parametrize("x", [-8.0, -6.0, -10.0, 0.0])
@pytest.mark.parametrize("count", [1, 40])
@pytest.mark.parametrize("read", [True, False])
def test_a_kink_in_the_tail_of_the_prior(
    double: None, request: pytest.FixtureRequest, x: float, count: int, read: bool
) -> None:
    """The second branch holds the posterior of x = -8, and 5e-4 of log p at x = 0; draws of the prior do not see it."""
    if not read:
        request.getfixturevalue("points_alone")
    with pytest.raises(pv.PyrovaeError, match=r"not a quadratic.*relu" if read else "not a quadratic"):
        exact_log_prob(one_latent(normal, kinked, 0.5), torch.full((count,), x))


def test_a_bend_beside_the_mode(double: None, points_alone: None) -> None:
    """Far from the prior, and from the mode by a few hundredths: seen by draws from the posterior alone."""
    bent = one_latent(normal, lambda z: z + torch.relu(z - 10.03))
    with pytest.raises(pv.PyrovaeError, match="not a quadratic"):
        exact_log_prob(bent, torch.full((5,), 20.0))


def test_a_second_peak(double: None, points_alone: None) -> None:
    """x ~ N(|z|, 0.01): quadratic around either peak, as far as the posterior goes; seen by draws from the prior."""
    with pytest.raises(pv.PyrovaeError, match="not a quadratic"):
        exact_log_prob(one_latent(dist.Normal(0.0, 100.0), torch.abs, 0.01), torch.full((5,), 2.0))


def test_what_no_point_meets(double: None, request: pytest.FixtureRequest) -> None:
    """A bump of width 1e-9: seen by the operations alone."""
    bump = one_latent(normal, lambda z: z + torch.where((z - 0.7).abs() < 1e-9, 1.0, 0.0))
    with pytest.raises(pv.PyrovaeError, match=r"not a quadratic.*computed by"):
        exact_log_prob(bump, torch.zeros(5))
    request.getfixturevalue("points_alone")
    exact_log_prob(bump, torch.zeros(5))


def test_what_the_operations_do_not_show(double: None) -> None:
    """What leaves torch: seen at points alone."""

    class Outside(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, z: Tensor) -> Tensor:
            context.save_for_backward(z)
            return torch.tensor([v if v < 3 else 30 - 9 * v for v in z.flatten().tolist()]).reshape(z.shape)

        @staticmethod
        def backward(context: Any, gradient: Tensor) -> Tensor:
            return gradient * torch.where(context.saved_tensors[0] < 3, 1.0, -9.0)

    with pytest.raises(pv.PyrovaeError, match=r"with a peak, as in a linear-Gaussian program\. Estimate"):
        exact_log_prob(one_latent(normal, Outside.apply, 0.5), torch.zeros(5))


def test_probes_of_all_data_and_assignments_fit_in_memory(double: None, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []

    def model(x: Tensor) -> None:
        rows.append(len(x))
        with pyro.plate("data", len(x), dim=-1):
            y = pyro.sample("y", dist.Categorical(torch.ones(30)))
            z = pyro.sample("z", dist.Normal(1.0 * y, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    monkeypatch.setattr(exact, "MOST_ROWS", 1000)
    wanted = dist.MixtureSameFamily(dist.Categorical(torch.ones(30)), dist.Normal(torch.arange(30.0), 2**0.5))
    torch.testing.assert_close(exact_log_prob(program(model, never), torch.zeros(1)), wanted.log_prob(torch.zeros(1)))
    assert max(rows) <= 1000 and sum(rows) > 600 * 30


def test_float32_tensors_of_no_module(empty_store: None) -> None:
    W, x = torch.randn(3, 2), torch.randn(4, 3)

    def matrix(cast: Any) -> Any:
        def model(x: Tensor) -> None:
            with pyro.plate("data", len(x), dim=-1):
                z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                pyro.sample("x", dist.Normal(z @ cast(W, z).T, 1.0).to_event(1), obs=x)

        return program(model, never)

    with pytest.raises(pv.PyrovaeError, match=r"float64.*does not own \([^\n]*\): write W.to\(z.dtype\)"):
        exact_log_prob(matrix(lambda W, z: W), x)
    assert torch.get_default_dtype() == torch.float32
    wanted = dist.MultivariateNormal(torch.zeros(3).double(), W.double() @ W.T.double() + torch.eye(3).double())
    torch.testing.assert_close(exact_log_prob(matrix(lambda W, z: W.to(z.dtype)), x), wanted.log_prob(x.double()))


def test_noise_of_dequantization_is_a_latent(double: None) -> None:
    decoder = pv.Dequantized(pv.Conditional(nn.Linear(2, 6), pv.families.normal), num_levels=4)
    vae = pv.VAE(pv.priors.StandardNormal(2), decoder, Unused())
    with pytest.raises(pv.PyrovaeError, match=r"x\.noise"):
        exact_log_prob(vae, torch.randint(0, 4, (3, 3)))


# ------------------------------------------------------------------------------------------------------- as evidence


class Linear:
    """A model without a guide."""

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)


@pytest.mark.parametrize("linear", [Linear(), program(Linear().model, lambda x: None), program(Linear().model, never)])
def test_the_guide_is_never_run(linear: Any) -> None:
    x = torch.randn(3, 2)
    found = pv.log_marginal(linear, x, method="exact")
    wanted = dist.Normal(0.0, 2**0.5).log_prob(x).sum(-1).double()
    torch.testing.assert_close(found.log_prob, wanted, rtol=1e-5, atol=1e-5)
    assert found.num_dimensions == 2
    assert "nats; exact: log p(x, z) is quadratic in z by its operations" in found.summary()


def test_data_outside_of_the_support_are_named_without_a_guide() -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            y = pyro.sample("y", dist.Bernoulli(0.3))
            pyro.sample("x", dist.Bernoulli(0.2 + 0.5 * y), obs=x)

    assert pv.log_marginal(program(model, never), torch.ones(4), method="exact").num_dimensions == 1
    with pytest.raises(pv.PyrovaeError, match="'x'"):
        pv.log_marginal(program(model, never), torch.tensor([0.0, 0.5]), method="exact")


@pytest.mark.parametrize("option", [{"memory": 2**20}, {"checkpoint": "evidence.safetensors", "seed": 0}])
def test_what_has_no_use_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(pv.PyrovaeError, match="leave out memory and checkpoint"):
        pv.log_marginal(Linear(), torch.zeros(3, 2), method="exact", **option)
