"""Stock Pyro takes vae.model and vae.guide as they are: SVI and its ELBOs, Predictive, NUTS, enumeration."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import (
    MCMC,
    NUTS,
    SVI,
    Predictive,
    RenyiELBO,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
    config_enumerate,
)
from pyro.optim import ClippedAdam
from torch import Tensor, nn

import pyrovae as pv

D, N = 2, 5


@pytest.fixture(autouse=True)
def everywhere(empty_store: None) -> Iterator[None]:
    """An empty parameter store, and one thread: for tensors this small more only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def data(n: int = N) -> Tensor:
    return torch.rand(n, 6, generator=torch.Generator().manual_seed(0)).round()


PRIORS: dict[str, Callable[[pv.Conditional], nn.Module]] = {
    "standard normal": lambda encoder: pv.priors.StandardNormal(D),
    "mixture": lambda encoder: pv.priors.NormalMixture(D, 3),
    "vamp": lambda encoder: pv.priors.VampPrior(encoder, data(4)),
}
each_prior = pytest.mark.parametrize("prior", PRIORS)


def vae(prior: str = "standard normal") -> pv.VAE:
    torch.manual_seed(0)
    encoder = pv.Conditional(pv.networks.MLP(6, 7, 2 * D, activation=nn.Tanh), pv.families.normal)
    decoder = pv.Conditional(pv.networks.MLP(D, 7, 6, activation=nn.Tanh), pv.families.bernoulli)
    return pv.VAE(PRIORS[prior](encoder), decoder, encoder)


def parameters(program: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in program.named_parameters()}


def moved(before: dict[str, Tensor], program: nn.Module) -> set[str]:
    return {name for name, p in program.named_parameters() if not torch.equal(p, before[name])}


def train(program: pv.VAE, steps: int = 2) -> float:
    torch.manual_seed(1)
    svi = SVI(program.model, program.guide, ClippedAdam({"lr": 0.01}), Trace_ELBO())
    return sum(svi.step(data()) for _ in range(steps))


@each_prior
def test_svi_trains_every_parameter(prior: str) -> None:
    program = vae(prior)
    before = parameters(program)
    train(program)
    assert moved(before, program) == set(before)


@each_prior
def test_svi_trains_every_parameter_of_a_second_instance_and_none_of_the_first(prior: str) -> None:
    first, second = vae(prior), vae(prior)
    train(first)
    ones, twos = parameters(first), parameters(second)
    train(second)
    assert moved(twos, second) == set(twos)
    assert not moved(ones, first)
    assert not moved(parameters(first), second)  # the same steps from the same start: nothing was inherited


@each_prior
def test_a_deepcopy_trains_on_its_own(prior: str) -> None:
    program = vae(prior)
    train(program)
    twin = copy.deepcopy(program)
    before = parameters(program)
    train(twin)
    assert moved(before, twin) == set(before)
    assert not moved(before, program)
    if prior == "vamp":
        assert twin.prior.encoder is twin.encoder


def test_fit_and_svi_take_turns() -> None:
    """Neither leaves gradients behind that the other would add to its own."""
    program = vae()
    pv.fit(program, data(), epochs=1, device="cpu")
    assert all(p.grad is None for p in program.parameters())
    twin = copy.deepcopy(program)
    for trained in (program, twin):
        train(trained.train())
    assert not moved(parameters(program), twin)


def test_running_a_program_outside_pyro_registers_nothing() -> None:
    program = vae()
    program.model(data())
    program.guide(data())
    assert not pyro.get_param_store().keys()


@each_prior
@pytest.mark.parametrize(
    "loss",
    [
        TraceMeanField_ELBO(),
        TraceGraph_ELBO(),
        RenyiELBO(alpha=0, num_particles=3, vectorize_particles=True, max_plate_nesting=1),
        Trace_ELBO(num_particles=3, vectorize_particles=True, max_plate_nesting=1),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_other_elbos_reach_every_parameter(prior: str, loss: Any) -> None:
    program = vae(prior)
    value = loss.loss_and_grads(program.model, program.guide, data())
    assert 0 < value < 100 * N
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in program.parameters())


@each_prior
def test_predictive(prior: str) -> None:
    program, x = vae(prior), data()
    by_guide = Predictive(poutine.uncondition(program.model), guide=program.guide, num_samples=7)(x)
    assert by_guide["z"].shape == (7, N, D)
    assert by_guide["x"].shape == (7, N, 6)
    assert by_guide["x"].unique().tolist() == [0, 1]
    posterior = {"z": torch.full((7, N, D), 3.0)}
    drawn = Predictive(program.model, posterior_samples=posterior)(None, num_data=N)
    expected = program.decoder(torch.full((D,), 3.0)).mean
    assert drawn["x"].shape == (7, N, 6)
    torch.testing.assert_close(drawn["x"].mean((0, 1)), expected, atol=4 * 0.5 / 35**0.5, rtol=0)
    parallel = Predictive(program.model, num_samples=7, parallel=True)(None, num_data=N)
    assert parallel["x"].shape == (7, N, 6)


@each_prior
def test_nuts_on_the_latents(prior: str) -> None:
    """A linear decoder of unit noise; with the standard normal the posterior of z is N(x / 2, 1 / 2)."""
    torch.manual_seed(1)
    net = nn.Linear(D, D)
    with torch.no_grad():
        net.weight.copy_(torch.eye(D))
        net.bias.zero_()
    encoder = pv.Conditional(pv.networks.MLP(D, 7, 2 * D), pv.families.normal)
    made = pv.priors.VampPrior(encoder, torch.randn(3, D)) if prior == "vamp" else PRIORS[prior](encoder)
    program = pv.VAE(made, pv.Conditional(net, pv.families.FixedScaleNormal(1.0)), encoder)
    x = torch.tensor([[1.0, 0.0], [-2.0, 2.0], [0.0, 0.5]])
    mcmc = MCMC(NUTS(program.model), num_samples=80, warmup_steps=40, disable_progbar=True)
    mcmc.run(x)
    z = mcmc.get_samples()["z"]
    assert z.shape == (80, 3, D)
    assert z.std(0).min() > 0.1
    if prior == "standard normal":
        torch.testing.assert_close(z.mean(0), x / 2, atol=0.45, rtol=0)
        torch.testing.assert_close(z.std(0), torch.full((3, D), 0.5**0.5), atol=0.35, rtol=0)


class Clusters(nn.Module):
    """A user's program: y ~ Categorical in the model only, z | y, x | z; the guide has z alone."""

    def __init__(self) -> None:
        super().__init__()
        self.logits, self.loc = nn.Parameter(torch.tensor([0.2, -0.4, 0.1])), nn.Parameter(torch.randn(3, D))
        self.encoder, self.decoder = nn.Linear(6, D), nn.Linear(D, 6)

    @config_enumerate
    def model(self, x: Tensor) -> None:
        pyro.module("clusters", self)
        with pyro.plate("data", len(x), dim=-1):
            y = pyro.sample("y", dist.Categorical(logits=self.logits))
            z = pyro.sample("z", dist.Normal(self.loc[y], 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("clusters", self)
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(self.encoder(x), 1.0).to_event(1))


def test_trace_enum_elbo_agrees_with_ours() -> None:
    torch.manual_seed(0)
    program, x = Clusters(), data()
    torch.manual_seed(3)
    loss = TraceEnum_ELBO(max_plate_nesting=1).loss_and_grads(program.model, program.guide, x)
    stock = {name: -p.grad.clone() for name, p in program.named_parameters()}
    torch.manual_seed(3)
    estimate = pv.gradients.plain(program, pv.objectives.elbo, x)
    torch.testing.assert_close(estimate.value.sum().item(), -loss, rtol=1e-5, atol=1e-4)
    for name, gradient in estimate.gradients.items():
        torch.testing.assert_close(N * gradient, stock[name], rtol=1e-4, atol=1e-5)
