"""sample, encode, reconstruct: against the densities they come from, and with conditions, trees and users' programs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pyro.distributions.transforms as T
import pytest
import torch
from exact import LinearGaussian
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.sampling import observed_values

D = 2


@pytest.fixture(autouse=True)
def everywhere() -> Iterator[None]:
    """One thread (for tensors this small more only wait for each other) and a seed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def test_samples_have_the_models_distribution() -> None:
    """Mean and covariance of x = W z + b + sigma eps, each entry within four standard errors."""
    exact = LinearGaussian(D, 3)
    x = pv.sample(exact.program, 20_000)
    assert x.shape == (20_000, 3)
    cov = exact.marginal.covariance_matrix
    spread = cov.diagonal()
    assert ((x.mean(0) - exact.b).abs() < 4 * (spread / 20_000).sqrt()).all()
    error = ((spread.outer(spread) + cov.square()) / 20_000).sqrt()
    assert ((x.T.cov() - cov).abs() < 4 * error).all()


def test_the_posterior_and_the_reconstruction() -> None:
    exact = LinearGaussian(D, 3)
    x = exact.data(5)
    q, p = pv.encode(exact.program, x), exact.posterior(x)
    assert q.batch_shape == (5,)
    torch.testing.assert_close(q.mean, p.mean)
    torch.testing.assert_close(q.covariance_matrix, p.covariance_matrix, check_stride=False)
    found = pv.reconstruct(exact.program, x)
    assert found.batch_shape == (5,)
    assert found.event_shape == (3,)
    torch.testing.assert_close(found.mean, p.mean @ exact.W.T + exact.b)
    before = torch.random.get_rng_state()
    torch.testing.assert_close(pv.reconstruct(exact.program, x).mean, found.mean)
    assert torch.equal(torch.random.get_rng_state(), before)


def mlp(shapes: Any, out: Any, family: Any = pv.families.normal) -> pv.Conditional:
    return pv.Conditional(pv.networks.MLP(shapes, 5, out), family)


def conditional() -> pv.VAE:
    return pv.VAE(mlp(3, 2 * D), mlp([D, 3], 6, pv.families.bernoulli), mlp([6, 3], 2 * D))


def test_conditions() -> None:
    program, given = conditional(), torch.eye(3)[[0, 1, 2, 0]]
    with torch.no_grad():
        program.decoder.net.hidden[0][0].weight[:, D:] *= 100  # the label decides
    x = torch.ones(4, 6)
    assert pv.sample(program, 4, given).shape == (4, 6)
    assert pv.encode(program, x, given).batch_shape == (4,)
    assert pv.reconstruct(program, x, given).mean.shape == (4, 6)
    many = pv.sample(program, 3000, given[:1].expand(3000, 3)).mean(0)
    others = pv.sample(program, 3000, given[1:2].expand(3000, 3)).mean(0)
    assert (many - others).abs().max() > 0.1
    with pytest.raises(pv.PyrovaeError, match="3 rows for 5 samples"):
        pv.sample(program, 5, given[:3])


def test_arrays_are_welcome() -> None:
    program, x, given = conditional(), np.ones((3, 6)), np.eye(3)
    assert pv.encode(program, x, given).mean.dtype == torch.float32
    assert pv.reconstruct(program, x, given).mean.shape == (3, 6)
    assert pv.sample(program, 3, given).shape == (3, 6)


@pytest.mark.parametrize("as_dict", [True, False])
def test_trees(as_dict: bool) -> None:
    factors: Any = {"a": mlp(D, 4, pv.families.bernoulli), "b": mlp(D, 6)}
    program = pv.VAE(
        pv.priors.StandardNormal(D), pv.Product(factors if as_dict else list(factors.values())), mlp([4, 3], 2 * D)
    )
    names = ("x.a", "x.b") if as_dict else ("x.0", "x.1")
    drawn = pv.sample(program, 5)
    assert {name: tuple(value.shape) for name, value in drawn.items()} == dict(
        zip(names, ((5, 4), (5, 3)), strict=True)
    )
    x: Any = {"a": drawn[names[0]], "b": drawn[names[1]]}
    found = pv.reconstruct(program, x if as_dict else tuple(x.values()))
    assert {name: tuple(d.event_shape) for name, d in found.items()} == dict(zip(names, ((4,), (3,)), strict=True))


class Plain(nn.Module):
    """A user's program of two latents, one of them discrete, whose model needs an x to run."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(3, 4)

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            y = pyro.sample("y", dist.Categorical(logits=x.new_zeros(4)))
            z = pyro.sample("z", dist.Normal(y.to(x.dtype), 1.0))
            pyro.sample("x", dist.Normal((z + 10 * y).unsqueeze(-1).expand(len(x), 3), 0.1).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            logits = self.net(x)
            pyro.sample("y", dist.Categorical(logits=logits))
            pyro.sample("z", dist.Normal(x.mean(-1), 1.0))


def test_a_users_program() -> None:
    program, x = Plain(), torch.randn(5, 3)
    found = pv.encode(program, x)
    assert set(found) == {"y", "z"}
    torch.testing.assert_close(found["z"].mean, x.mean(-1))
    mode = program.net(x).argmax(-1)
    torch.testing.assert_close(pv.reconstruct(program, x).mean[:, 0], x.mean(-1) + 10 * mode)
    with pytest.raises(pv.PyrovaeError, match="like=x"):
        pv.sample(program, 4)
    drawn = pv.sample(program, 400, like=torch.full((2, 3), math.nan))
    assert drawn.shape == (400, 3)
    assert drawn.isfinite().all()
    assert abs(drawn.mean().item() - 1.5 * 11) < 4 * math.sqrt((121 * 1.25 + 1) / 400)


def test_observed_values() -> None:
    """With the latents fixed; the values of x do not matter, its shape does."""
    exact = LinearGaussian(D, 3)
    z = torch.randn(20_000, D)
    drawn = observed_values(exact.program, {"z": z}, torch.full((20_000, 3), math.nan))
    assert drawn.shape == (20_000, 3)
    noise = drawn - (z @ exact.W.T + exact.b)
    assert abs(noise.std().item() - exact.sigma) < 4 * exact.sigma / math.sqrt(2 * 60_000)


def test_flows() -> None:
    class Guide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.flow = nn.Linear(3, D), T.planar(D)

        def forward(self, x: Tensor) -> Any:
            return dist.TransformedDistribution(dist.Normal(self.net(x), 1.0).to_event(1), [self.flow])

    program = pv.VAE(pv.priors.StandardNormal(D), mlp(D, 6), Guide())
    assert pv.encode(program, torch.randn(4, 3)).sample().shape == (4, D)
    with pytest.raises(pv.PyrovaeError, match=r"'z'.*no mean"):
        pv.reconstruct(program, torch.randn(4, 3))


@pytest.mark.parametrize("number", [0, -1])
def test_numbers_out_of_range(number: int) -> None:
    with pytest.raises(pv.PyrovaeError, match=f"at least 1; got {number}"):
        pv.sample(conditional(), number)


def test_evaluation_mode_and_no_gradients() -> None:
    net = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.9), nn.Linear(8, 2 * D))
    program = pv.VAE(pv.priors.StandardNormal(D), mlp(D, 6), pv.Conditional(net, pv.families.normal))
    x, modes = torch.randn(6, 3), []
    program.decoder.register_forward_hook(lambda module, *_: modes.append((module.training, torch.is_grad_enabled())))
    assert torch.equal(pv.encode(program, x).mean, pv.encode(program, x).mean)
    assert not pv.encode(program, x).mean.requires_grad
    assert not pv.reconstruct(program, x).mean.requires_grad
    assert not pv.sample(program, 2).requires_grad
    pv.sample(program, 2, like=x)
    observed_values(program, {"z": torch.zeros(6, D)}, x)
    assert set(modes) == {(False, False)}
    assert program.training
