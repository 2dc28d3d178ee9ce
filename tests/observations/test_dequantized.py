"""Dequantization against exact probabilities of levels, in every use, and what it refuses."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

import pyrovae as pv
from pyrovae import families as F
from pyrovae.networks import Constant
from pyrovae.observations.dequantized import levels

L = 4
ERRORS = 4.0  # standard errors


def flat(numbers: list[float], family: Any = F.normal) -> pv.Conditional:
    """A distribution of two numbers that does not look at its parents."""
    net = Constant(len(numbers))
    net.start_at(torch.tensor(numbers))
    return pv.Conditional(net, family)


def program(noise: nn.Module | None = None) -> pv.VAE:
    """p(v) = N(0.4, 0.3) N(0.8, 0.15), whatever z."""
    raw = [F.inverse_positive(0.3), F.inverse_positive(0.15)]
    decoder = pv.Dequantized(flat([0.4, 0.8, *raw]), num_levels=L, noise=noise)
    return pv.VAE(pv.priors.StandardNormal(1), decoder, flat([0.0, F.inverse_positive(1.0)]))


def every() -> Tensor:
    """All pairs of levels, as grey values."""
    return torch.tensor(list(itertools.product(range(L), repeat=2))) / (L - 1)


def exact(x: Tensor) -> Tensor:
    """log P by differences of the distribution function at the edges of the cells [k / L, (k + 1) / L]."""
    normal = dist.Normal(torch.tensor([0.4, 0.8]).double(), torch.tensor([0.3, 0.15]).double())
    k = (x * (L - 1)).round().double()
    return (normal.cdf((k + 1) / L) - normal.cdf(k / L)).log().sum(-1)


@pytest.mark.filterwarnings("ignore::pyrovae.EvidenceWarning")
def test_the_evidence_is_the_probability_of_the_levels() -> None:
    x = every()
    ev = pv.log_marginal(program(), x, num_particles=20_000, seed=0)
    assert ((ev.log_prob - exact(x)).abs() < ERRORS * ev.standard_error + 1e-5).all()
    lost = 1 - exact(x).exp().sum()
    assert 0.1 < lost < 0.4  # what the normals put outside of [0, 1]
    assert ev.log_prob.exp().sum().item() == pytest.approx(1 - lost.item(), abs=0.01)
    assert ev.bits_per_dim == pytest.approx(-exact(x).mean().item() / (2 * math.log(2)), abs=0.01)


def test_noise_that_sees_x_tightens_the_bound() -> None:
    x = every()
    noise = pv.Conditional(pv.networks.MLP(2, 16, 4), F.logit_normal)
    learned, uniform = program(noise), program()
    learned.decoder.decoder.requires_grad_(False)
    options: dict[str, Any] = {"epochs": 400, "batch_size": 16, "compile": False}
    pv.fit(learned, x, optimizer=lambda p: torch.optim.Adam(p, lr=0.02), **options)
    torch.manual_seed(0)
    with torch.no_grad():
        bounds = [pv.objectives.elbo(pv.log_terms(p, x, num_particles=4000)).mean() for p in (learned, uniform)]
    assert bounds[1] + 0.05 < bounds[0] < exact(x).mean() + 0.01


def test_every_particle_has_its_own_noise() -> None:
    x = every()
    site = pv.log_terms(program(), x, num_particles=3).sites["x.noise"]
    assert site.value.shape == (3, 16, 2) and len(site.value.unique()) == 3 * 16 * 2
    assert not site.log_p.any() and not site.log_q.any()  # type: ignore[union-attr]


def images(noise: bool, family: F.Family = F.normal) -> tuple[pv.VAE, Tensor]:
    torch.manual_seed(1)
    shape = (1, 5, 4)
    q = pv.Conditional(pv.networks.MLP(shape, 6, (2, 5, 4)), F.logit_normal) if noise else None
    net = pv.networks.ConvDecoder(2, F.out_shape(family, shape), channels=(2,), hidden=5)
    encoder = pv.Conditional(pv.networks.ConvEncoder(shape, 4, channels=(2,), hidden=5), F.normal)
    decoder = pv.Dequantized(pv.Conditional(net, family), num_levels=16, noise=q)
    return pv.VAE(pv.priors.StandardNormal(2), decoder, encoder), torch.randint(16, (30, *shape)) / 15


@pytest.mark.filterwarnings("ignore::pyrovae.EvidenceWarning")
@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize("family", [F.normal, F.beta, F.continuous_bernoulli, F.OptimalScaleNormal()])
def test_images_are_trained_evaluated_saved_and_drawn(tmp_path: Path, noise: bool, family: F.Family) -> None:
    vae, x = images(noise, family)
    run = pv.fit(vae, x, epochs=2, batch_size=10, num_particles=2, gradient=pv.gradients.path, compile=False)
    assert all(math.isfinite(epoch["objective"]) for epoch in run.history)
    pv.save(run.program, tmp_path / "vae.safetensors")
    loaded = pv.load(tmp_path / "vae.safetensors")
    evidence = [pv.log_marginal(p, x[:5], num_particles=20, seed=0).log_prob for p in (run.program, loaded)]
    assert torch.equal(*evidence)
    drawn = pv.sample(loaded, 6)
    assert drawn.shape == (6, 1, 5, 4) and drawn.min() >= 0 and drawn.max() <= 1
    torch.testing.assert_close((drawn * 15).round() / 15, drawn)
    shown = pv.reconstruct(loaded, x[:5]).mean
    assert shown.shape == (5, 1, 5, 4) and shown.min() >= 0 and shown.max() <= 1
    assert pv.encode(loaded, x[:5]).event_shape == (2,)


def test_the_mean_is_that_of_the_drawn_levels() -> None:
    torch.manual_seed(2)
    p = levels(dist.Normal(torch.tensor([0.3, 0.6]), 0.1).to_event(1), torch.zeros(2), 32)
    torch.testing.assert_close(p.sample((20_000,)).mean(0), p.mean, atol=0.004, rtol=0)


@pytest.mark.parametrize("family", [F.beta, F.logit_normal, F.log_normal, F.gamma])
def test_the_first_and_the_last_level_stay_inside_an_open_support(family: F.Family) -> None:
    """In float32 (255 + u) / 256 is often 1, and u sometimes 0."""
    noise = torch.tensor([[0.0, 1 - 2**-24]]).T
    p = levels(pv.Conditional(nn.Identity(), family)(torch.zeros(2, 4)), noise, 256)
    assert p.log_prob(torch.tensor([0.0, 1.0])).isfinite().all()


def test_single_levels_can_be_masked_where_the_density_factorises() -> None:
    torch.manual_seed(3)
    x, noise, seen = torch.randint(8, (3, 2)) / 7, torch.rand(3, 2), torch.tensor([True, False])
    whole = levels(dist.Normal(torch.zeros(3, 2), 1.0).to_event(1), noise, 8)
    one = levels(dist.Normal(torch.zeros(3, 1), 1.0).to_event(1), noise[:, :1], 8)
    torch.testing.assert_close(whole.base_dist.mask(seen).to_event(1).log_prob(x), one.log_prob(x[:, :1]))


def test_a_density_need_not_factorise() -> None:
    p = dist.MultivariateNormal(torch.zeros(2), torch.tensor([[1.0, 0.5], [0.5, 1.0]]))
    x, noise = torch.tensor([[0.0, 1.0], [1 / 7, 2 / 7]]), torch.rand(2, 2)
    v = ((7 * x).round() + noise) / 8
    torch.testing.assert_close(levels(p, noise, 8).log_prob(x), p.log_prob(v) - 2 * math.log(8))


@pytest.mark.parametrize(
    "family", [F.bernoulli, F.Categorical(4), F.poisson, F.DiscretizedLogistic(8), F.Multinomial()]
)
def test_discrete_likelihoods_are_refused(family: F.Family) -> None:
    decoder = pv.Conditional(pv.networks.MLP(2, 4, F.out_shape(family, (3,))), family)
    with pytest.raises(pv.PyrovaeError, match="discrete values: give its decoder the levels as they are"):
        pv.Dequantized(decoder)


def test_a_decoder_that_shows_nothing_is_refused_at_the_first_datum() -> None:
    decoder = pv.Dequantized(pv.Conditional(nn.Linear(1, 2), F.bernoulli), num_levels=L)
    vae = pv.VAE(pv.priors.StandardNormal(1), decoder, flat([0.0, 0.0]))
    with pytest.raises(pv.PyrovaeError, match="discrete values"):
        pv.log_terms(vae, every())


def test_trees_are_dequantized_factor_by_factor() -> None:
    product = pv.Product({"a": flat([0.0, 0.0]), "b": flat([0.0], F.bernoulli)})
    with pytest.raises(pv.PyrovaeError, match=r"wrap those factors"):
        pv.Dequantized(product)


def test_noise_outside_of_the_unit_interval_or_of_another_shape_is_refused() -> None:
    decoder = flat([0.4, 0.8, 0.0, 0.0])
    with pytest.raises(pv.PyrovaeError, match="between 0 and 1, and Normal does not"):
        pv.Dequantized(decoder, noise=pv.Conditional(pv.networks.MLP(2, 4, 4), F.normal))
    for width in (1, 3):
        with pytest.raises(pv.PyrovaeError, match="event shape"):
            pv.Dequantized(decoder, noise=pv.Conditional(pv.networks.MLP(2, 4, 2 * width), F.logit_normal))
    foreign = program(nn.Sequential(nn.Linear(2, 6), pv.Conditional(nn.Identity(), F.logit_normal)))
    with pytest.raises(pv.PyrovaeError, match="one number for each of x"):
        pv.log_terms(foreign, every())
    with pytest.raises(pv.PyrovaeError, match="two levels"):
        pv.Dequantized(decoder, num_levels=1)


@pytest.mark.parametrize("x", [torch.tensor([[0.5, 0.0]]), torch.tensor([[3.0, 0.0]]), torch.tensor([[-1 / 3, 0.0]])])
def test_values_off_the_grid_are_refused(x: Tensor) -> None:
    for use in (pv.log_terms, lambda p, x: pv.fit(p, x, epochs=1), lambda p, x: pv.log_marginal(p, x, num_particles=2)):
        with pytest.raises(pv.PyrovaeError, match="no 4 levels k / 3"):
            use(program(), x.expand(3, 2))


@pytest.mark.parametrize("x", [torch.tensor([[0.5, 0.0]]), torch.tensor([[3.0, 0.0]])])
@pytest.mark.parametrize("use", [pv.log_terms, lambda p, x: pv.log_marginal(p, x, num_particles=2)])
def test_values_off_the_grid_are_refused_where_the_density_does_not_factorise(x: Tensor, use: Any) -> None:
    decoder = pv.Dequantized(flat([0.4, 0.8, 0.0, 0.0, 0.1], F.full_normal), num_levels=L)
    vae = pv.VAE(pv.priors.StandardNormal(1), decoder, flat([0.0, F.inverse_positive(1.0)]))
    with pytest.raises(pv.PyrovaeError, match="no 4 levels k / 3"):
        use(vae, x.expand(3, 2))


@pytest.mark.parametrize(
    ("distribution", "bad"),
    [
        (F.von_mises(torch.zeros(2), torch.zeros(2)), 4.0),
        (F.CategoricalLevels(4, 1)(torch.zeros(2)), 0.5),
        (F.DiscretizedNormal(4)(torch.zeros(2), torch.zeros(2)), 0.5),
        (F.Ordinal(4)(torch.zeros(2)), 4.0),
        (F.Mixed([F.bernoulli, F.bernoulli])(torch.zeros(2)), 0.5),
        (levels(dist.Normal(torch.zeros(2), 1.0), torch.zeros(2), 4), 0.5),
    ],
)
def test_what_is_expanded_is_validated_as_before(distribution: Any, bad: float) -> None:
    for on in (True, False):
        distribution._validate_args = on
        expanded = distribution.expand((3, 2))
        assert expanded._validate_args is on
    distribution._validate_args = True
    with pytest.raises(ValueError, match="support"):
        distribution.expand((3, 2)).log_prob(torch.full((3, 2), bad))
