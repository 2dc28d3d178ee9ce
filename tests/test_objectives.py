"""The bounds: exact where the guide is, ordered and unbiased where it is not; KLs in closed form and sampled."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from exact import LinearGaussian, assert_mean, program, wide_encoder
from torch import Tensor
from torch.distributions import kl_divergence

import pyrovae as pv
from pyrovae.objectives import closed_form_kl, elbo, expectation, iwae, sampled_kl
from pyrovae.terms import LogTerms

PARTICLES = [1, 2, 10, 50]


@pytest.mark.parametrize("num_particles", PARTICLES)
@pytest.mark.parametrize(("latent", "width"), [(1, 1), (2, 5), (7, 4)])
def test_with_the_exact_posterior_every_bound_is_log_p(
    double: None, latent: int, width: int, num_particles: int
) -> None:
    """log p(x, z) - log q(z | x) = log p(x) at every z, so that nothing is random."""
    model = LinearGaussian(latent, width)
    x = model.data(6)
    t = pv.log_terms(model.program, x, num_particles=num_particles)
    for value in (elbo(t), elbo(t, beta=1.0, kl=sampled_kl), iwae(t)):
        torch.testing.assert_close(value, model.log_prob(x), rtol=0, atol=1e-8)


def _replicates(model: LinearGaussian, x: Tensor, count: int, num_particles: int) -> LogTerms:
    """Terms of one datum, ``count`` times over as rows."""
    return pv.log_terms(model.program, x[:1].expand(count, -1), num_particles=num_particles)


def test_the_bounds_are_ordered(double: None) -> None:
    """elbo <= iwae_5 <= iwae_50 <= log p(x), each gap more than four standard errors wide, for a wide shifted guide.

    The elbo's gap is known: KL(q || p(z | x)) between two normals.
    """
    torch.manual_seed(0)
    model = LinearGaussian(2, 3, spread=1.5, shift=0.3)
    x = model.data(1)
    log_p = model.log_prob(x)
    values = {k: iwae(_replicates(model, x, 4000, k)) for k in (1, 5, 50)}
    values[0] = elbo(_replicates(model, x, 4000, 5))
    mean = {k: v.mean().item() for k, v in values.items()}
    error = {k: v.std().item() / 4000**0.5 for k, v in values.items()}
    for low, high in ((0, 5), (5, 50)):
        assert mean[high] - mean[low] > 4 * (error[high] ** 2 + error[low] ** 2) ** 0.5
    assert log_p.item() - mean[50] > 4 * error[50]
    gap = kl_divergence(model.program.encoder(x), model.posterior(x))
    assert_mean(values[0], log_p - gap)
    assert_mean(values[1], log_p - gap)  # iwae_1 is the elbo


def test_the_elbo_is_a_mean_and_iwae_a_log_mean() -> None:
    """Against the definitions, on the same terms."""
    torch.manual_seed(0)
    model = LinearGaussian(2, 3, spread=2.0)
    t = pv.log_terms(model.program, model.data(4), num_particles=7)
    w = t.log_px_z + t.log_pz - t.log_qz_x
    torch.testing.assert_close(elbo(t), w.mean(0))
    torch.testing.assert_close(iwae(t), w.exp().mean(0).log())
    torch.testing.assert_close(expectation(t, w.square()), w.square().mean(0))
    assert elbo(t).shape == iwae(t).shape == (4,)
    penalised = t._replace(penalty=torch.arange(4.0))
    torch.testing.assert_close(elbo(t) - elbo(penalised), torch.arange(4.0))
    torch.testing.assert_close(iwae(t) - iwae(penalised), torch.arange(4.0))


@pytest.mark.parametrize("beta", [0.0, 0.3, 4.0])
@pytest.mark.parametrize("tensor", [False, True])
def test_beta_weights_the_kl(double: None, beta: float, tensor: bool) -> None:
    torch.manual_seed(0)
    model = LinearGaussian(2, 3, spread=1.5)
    t = pv.log_terms(model.program, model.data(4), num_particles=7)
    weight = torch.tensor(beta, requires_grad=True) if tensor else beta
    kl = t.log_qz_x - t.log_pz
    torch.testing.assert_close(elbo(t, beta=weight), (t.log_px_z - beta * kl).mean(0))
    by_hand = (t.log_px_z - beta * kl).exp().mean(0).log()
    torch.testing.assert_close(iwae(t, beta=weight), by_hand)
    if tensor:
        (slope,) = torch.autograd.grad(elbo(t, beta=weight).sum(), [weight])
        torch.testing.assert_close(slope, -kl.mean(0).sum())


def test_huge_log_weights_do_not_overflow() -> None:
    model = LinearGaussian(2, 3, sigma=1e-3, spread=3.0)  # log-weights of -1e6
    t = pv.log_terms(model.program, model.data(4), num_particles=5)
    assert iwae(t).isfinite().all() and elbo(t).isfinite().all() and (iwae(t) >= elbo(t)).all()


# ---------------------------------------------------------------------------------------------------------- the KL


def _posterior_against_the_prior(x: Tensor, vae: pv.VAE) -> Tensor:
    """KL(Normal(m, s) || Normal(0, 1)) = sum_d (m^2 + s^2 - 1) / 2 - log s, written out."""
    q = vae.encoder(x).base_dist
    return (0.5 * (q.loc.square() + q.scale.square() - 1) - q.scale.log()).sum(-1)


def _dense_vae(prior: Any = None) -> pv.VAE:
    decoder = pv.Conditional(pv.networks.MLP(2, 8, 5), pv.families.bernoulli)
    return pv.VAE(prior or pv.priors.StandardNormal(2), decoder, wide_encoder(5))


def test_closed_form_kl_is_the_formula_and_the_mean_of_the_sampled_kl(double: None) -> None:
    torch.manual_seed(0)
    vae, x = _dense_vae(), torch.rand(3, 5).bernoulli()
    t = pv.log_terms(vae, x, num_particles=20_000)
    formula = _posterior_against_the_prior(x, vae)
    torch.testing.assert_close(closed_form_kl(t).expand(20_000, 3), formula.expand(20_000, 3))
    assert_mean(sampled_kl(t), formula)
    assert_mean(t.log_px_z - sampled_kl(t), elbo(t, kl=closed_form_kl))
    torch.testing.assert_close(elbo(t, beta=3.0, kl=closed_form_kl), (t.log_px_z - 3.0 * formula).mean(0))


@pytest.mark.parametrize("num_particles", [1, 3])
def test_closed_form_kl_has_the_gradient_of_the_formula(double: None, num_particles: int) -> None:
    torch.manual_seed(0)
    vae, x = _dense_vae(), torch.rand(3, 5).bernoulli()
    t = pv.log_terms(vae, x, num_particles=num_particles)
    parameters = list(vae.encoder.parameters())
    ours = torch.autograd.grad(expectation(t, closed_form_kl(t)).sum(), parameters)
    by_hand = torch.autograd.grad(_posterior_against_the_prior(x, vae).sum(), parameters)
    for a, b in zip(ours, by_hand, strict=True):
        torch.testing.assert_close(a, b)


# Two levels: z2 ~ N(0, 1), z1 | z2 ~ N(z2, 0.4^2), x | z1 ~ N(z1, 1); every conditional and marginal is normal.


def _two_levels(x: Tensor) -> None:
    with pyro.plate("data", len(x), dim=-1):
        z2 = pyro.sample("z2", dist.Normal(0.0, 1.0))
        z1 = pyro.sample("z1", dist.Normal(z2, 0.4))
        pyro.sample("x", dist.Normal(z1, 1.0), obs=x)


def _top_down(x: Tensor) -> None:
    with pyro.plate("data", len(x), dim=-1):
        z2 = pyro.sample("z2", dist.Normal(0.4 * x, 0.8))
        pyro.sample("z1", dist.Normal(0.5 * (z2 + x), 0.6))


def _bottom_up(x: Tensor) -> None:
    with pyro.plate("data", len(x), dim=-1):
        z1 = pyro.sample("z1", dist.Normal(0.7 * x, 0.5))
        pyro.sample("z2", dist.Normal(0.5 * z1, 0.9))


def _exact_kl(guide: Any, x: Tensor) -> Tensor:
    """KL of the joint normals over (z2, z1), from their means and covariances."""
    p = dist.MultivariateNormal(torch.zeros(2), torch.tensor([[1.0, 1.0], [1.0, 1.16]]))
    if guide is _top_down:
        loc = torch.stack([0.4 * x, 0.5 * (0.4 * x + x)], -1)
        cov = torch.tensor([[0.64, 0.32], [0.32, 0.16 + 0.36]])
    else:
        loc = torch.stack([0.35 * x, 0.7 * x], -1)
        cov = torch.tensor([[0.0625 + 0.81, 0.125], [0.125, 0.25]])
    return kl_divergence(dist.MultivariateNormal(loc, cov), p)


def test_two_levels_in_the_models_order(double: None) -> None:
    """Site by site the closed forms add up to the KL, in the mean over the upper level."""
    torch.manual_seed(0)
    x = torch.tensor([-1.0, 0.5, 2.0])
    t = pv.log_terms(program(_two_levels, _top_down), x, num_particles=20_000)
    assert t.guide_order == ("z2", "z1")
    exact = _exact_kl(_top_down, x)
    assert_mean(sampled_kl(t), exact)
    assert_mean(closed_form_kl(t), exact)
    assert (closed_form_kl(t).std(0) < sampled_kl(t).std(0)).all()  # what it is for


def test_two_levels_against_the_models_order_are_refused(double: None) -> None:
    """A bottom-up guide: the sum of the sites' closed forms is far from the KL, and is refused; sampling is right."""
    torch.manual_seed(0)
    x = torch.tensor([-1.0, 0.5, 2.0])
    t = pv.log_terms(program(_two_levels, _bottom_up), x, num_particles=20_000)
    exact = _exact_kl(_bottom_up, x)
    assert_mean(sampled_kl(t), exact)
    with pytest.raises(pv.PyrovaeError, match=r"model samples \['z2', 'z1'\].*\['z1', 'z2'\]"):
        closed_form_kl(t)
    with pytest.raises(pv.PyrovaeError, match="sampled_kl"):
        elbo(t, kl=closed_form_kl)
    naive = closed_form_kl(t._replace(guide_order=("z2", "z1"))).mean(0)
    assert ((naive - exact).abs() > 0.5).all()  # why


def test_closed_form_kl_without_a_formula_is_refused() -> None:
    encoder = wide_encoder(5)
    for prior in (pv.priors.VampPrior(encoder, torch.zeros(3, 5)), pv.priors.NormalMixture(2, 3)):
        vae = pv.VAE(prior, _dense_vae().decoder, encoder)
        t = pv.log_terms(vae, torch.zeros(3, 5))
        with pytest.raises(pv.PyrovaeError, match=r"no closed-form KL for site 'z'.*sampled_kl"):
            closed_form_kl(t)
        assert elbo(t).isfinite().all()


def test_closed_form_kl_of_repeated_rows_is_refused() -> None:
    t = pv.terms.repeated_log_terms(_dense_vae(), torch.zeros(3, 5), num_particles=2)
    with pytest.raises(pv.PyrovaeError, match="vectorized particles"):
        closed_form_kl(t)


def test_closed_form_kl_with_an_enumerated_latent(double: None) -> None:
    """KL(q(y, z | x) || p(y, z)) = KL(q(y) || p(y)) + sum_y q(y) KL(q(z | y) || p(z | y))."""
    loc, q_y = torch.tensor([-1.0, 0.0, 2.0]), torch.tensor([0.5, 0.2, 0.3])

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            y = pyro.sample("y", dist.Categorical(torch.ones(3) / 3))
            z = pyro.sample("z", dist.Normal(loc[y], 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            y = pyro.sample("y", dist.Categorical(q_y), infer={"enumerate": "parallel"})
            pyro.sample("z", dist.Normal(x + loc[y] ** 2, 0.7))

    x = torch.tensor([-1.0, 0.5])
    kl_z = kl_divergence(dist.Normal(x[:, None] + loc**2, 0.7), dist.Normal(loc, 1.0))
    exact = (q_y * (q_y * 3).log()).sum() + (q_y * kl_z).sum(-1)
    t = pv.log_terms(program(model, guide), x, num_particles=5000)
    torch.testing.assert_close(expectation(t, closed_form_kl(t)), exact)
    per_particle = (t.log_w.exp() * 5000 * sampled_kl(t)).sum(0)  # (S, N): summed over y
    assert_mean(per_particle, exact)
