"""The latents as vectors: activity against closed forms, layouts there and back."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyrovae as pv
from pyrovae.latent import guide_draws, posterior_means, prior_draws, prior_quantiles

A = torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.1, -2.0]])  # E[z | x] = A x
SCALE = torch.tensor([0.5, 2.0])


class Linear:
    """z ~ Normal(0, 1)^2; the guide is Normal(A x, SCALE)."""

    def model(self, x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1).to_event(1))
            pyro.sample("x", dist.Normal(z @ A, 1).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(x @ A.T, SCALE).to_event(1))


class Several:
    """A matrix, a scalar and a hierarchy, which the guide samples in another order."""

    def model(self, x):
        with pyro.plate("data", len(x), dim=-1):
            a = pyro.sample("a", dist.Normal(torch.zeros(2, 2), 1).to_event(2))
            b = pyro.sample("b", dist.Normal(a.sum((-1, -2)), 1))
            pyro.sample("x", dist.Normal(b[:, None].expand(-1, 3), 1).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("b", dist.Normal(x.sum(1), 1))
            pyro.sample("a", dist.Normal(x[:, :1, None] * torch.ones(2, 2), 1).to_event(2))


def test_activity_of_a_linear_encoder_is_that_of_its_matrix() -> None:
    x = torch.randn(1200, 3, generator=torch.Generator().manual_seed(0))  # more than one block
    found = pv.activity(Linear(), x)
    covariance = torch.cov(x.T.double())
    torch.testing.assert_close(found.variance, (A.double() @ covariance @ A.double().T).diagonal())
    means = (x @ A.T).double()
    kl = 0.5 * (SCALE.double().square() + means.square() - 1) - SCALE.double().log()
    torch.testing.assert_close(found.kl, kl.mean(0), atol=1e-5, rtol=1e-5)
    assert found.names == ("$z_{1}$", "$z_{2}$")


def test_a_unit_is_active_above_the_threshold() -> None:
    found = pv.Activity(("a", "b"), torch.tensor([0.02, 0.01]), None)
    assert found.active().tolist() == [True, False] and found.active(0.1).tolist() == [False, False]


def test_several_latents_line_up_in_the_order_of_the_model() -> None:
    x = torch.randn(4, 3)
    layout, means = posterior_means(Several(), x)
    assert layout.sizes == {"a": 4, "b": 1}
    torch.testing.assert_close(means, torch.cat([x[:, :1].expand(4, 4), x.sum(1, keepdim=True)], 1))
    back = layout.unflat(means)
    assert back["a"].shape == (4, 2, 2) and back["b"].shape == (4,)
    assert pv.activity(Several(), x).kl is None


def test_a_prior_without_a_closed_form_has_no_kl_per_dimension() -> None:
    encoder = pv.Conditional(pv.networks.MLP(3, 4, 4), pv.families.normal)
    decoder = pv.Conditional(pv.networks.MLP(2, 4, 3), pv.families.bernoulli)
    program = pv.VAE(pv.priors.NormalMixture(2, 3), decoder, encoder)
    assert pv.activity(program, torch.ones(2, 3)).kl is None


class Clustered(Linear):
    """The mean of z is 7 or -7, as an unobserved k of the model's own says."""

    def model(self, x):
        with pyro.plate("data", len(x), dim=-1):
            k = pyro.sample("k", dist.Categorical(torch.ones(2)))
            z = pyro.sample("z", dist.Normal(7 - 14 * k[:, None].float().expand(-1, 2), 1).to_event(1))
            pyro.sample("x", dist.Normal(z @ A, 1).to_event(1), obs=x)


def test_a_latent_of_the_models_own_leaves_no_kl_and_no_trace_in_the_generator() -> None:
    """KL(q || p(z | k)) at one draw of k would be some 50 nats; with q a component, KL(q || p(z)) is log 2."""
    x, state = torch.randn(40, 3), torch.random.get_rng_state()
    found = pv.activity(Clustered(), x)
    assert found.kl is None
    torch.testing.assert_close(found.variance, (x @ A.T).double().var(0))
    assert torch.random.get_rng_state().equal(state)


def test_quantiles_of_a_scalar_latent_are_those_of_its_prior() -> None:
    class Scalar:
        def model(self, x=None, num_data=None):
            size = num_data if num_data is not None else len(x)
            with pyro.plate("data", size, dim=-1):
                z = pyro.sample("z", dist.Normal(torch.full((size,), 3.0), 2.0))
                return pyro.sample("x", dist.Normal(z, 1), obs=x)

    levels = torch.tensor([0.1, 0.5, 0.9])
    _, found = prior_quantiles(Scalar(), levels)
    torch.testing.assert_close(found, torch.distributions.Normal(3.0, 2.0).icdf(levels)[:, None])


def test_draws_are_always_the_same_and_leave_the_generator_alone() -> None:
    x = torch.randn(700, 3)
    state = torch.random.get_rng_state()
    layout, draws = prior_draws(Linear(), 900, like=x)
    assert draws.shape == (900, 2) and draws.equal(prior_draws(Linear(), 900, like=x)[1])
    posterior = guide_draws(Linear(), layout, x)
    assert torch.random.get_rng_state().equal(state)
    error = posterior - x @ A.T
    assert ((error.std(0) / SCALE - 1).abs() < 4 / math.sqrt(2 * 700)).all()


def test_the_activity_of_a_single_datum_is_not_defined() -> None:
    with pytest.raises(pv.PyrovaeError, match="pass at least two"):
        pv.activity(Linear(), torch.ones(1, 3))


def test_a_discrete_latent_is_refused() -> None:
    class Discrete:
        def model(self, x):
            with pyro.plate("data", len(x), dim=-1):
                y = pyro.sample("y", dist.Categorical(torch.ones(3)))
                pyro.sample("x", dist.Normal(y.float()[:, None].expand(-1, 3), 1).to_event(1), obs=x)

        def guide(self, x):
            with pyro.plate("data", len(x), dim=-1):
                pyro.sample("y", dist.Categorical(torch.ones(3)))

    with pytest.raises(pv.PyrovaeError, match=r"the latents \['y'\] are discrete"):
        pv.activity(Discrete(), torch.ones(2, 3))
