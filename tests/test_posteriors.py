"""Posterior families: closed forms, exact posteriors, enumeration, and gradients of a mixture's samples."""

from __future__ import annotations

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from exact import LinearGaussian, assert_mean
from pyro.infer import TraceEnum_ELBO
from scipy import stats
from torch import Tensor, nn
from torch.distributions import RelaxedOneHotCategorical

import pyrovae as pv
from pyrovae import families
from pyrovae.pathwise import PathwiseNormalMixture

FAMILIES: dict[str, families.VectorFamily] = {
    "full": families.full_normal,
    "low rank": families.LowRankNormal(2),
    "mixture": families.NormalMixture(3),
    "relaxed": families.RelaxedOneHotCategorical(0.4),
}


def random_params(family: families.VectorFamily, width: int, *batch: int) -> Tensor:
    return torch.randn(*batch, *family.out_shape((width,)))


# ----------------------------------------------------------------------------------------------- closed forms


def test_the_full_normal_is_scipys(double: None) -> None:
    torch.manual_seed(0)
    p = families.full_normal(random_params(families.full_normal, 4, 3))
    x = torch.randn(3, 4)
    for i in range(3):
        exact = stats.multivariate_normal(p.loc[i].numpy(), p.covariance_matrix[i].numpy())
        assert p.log_prob(x)[i].item() == pytest.approx(exact.logpdf(x[i].numpy()), rel=1e-9)


def test_every_covariance_is_in_the_full_family(double: None) -> None:
    """Its numbers are a bijection of (loc, covariance): here back from a covariance of our own."""
    torch.manual_seed(0)
    loc, root = torch.randn(3), torch.randn(3, 3)
    tril = torch.linalg.cholesky(root @ root.T)
    params = torch.cat([loc, full_scales(tril)])
    p = families.full_normal(params)
    torch.testing.assert_close(p.covariance_matrix, root @ root.T)
    assert params.shape == families.full_normal.out_shape((3,)) == (9,)


def test_the_low_rank_normal_is_scipys(double: None) -> None:
    torch.manual_seed(0)
    params = random_params(families.LowRankNormal(2), 4)
    loc, raw_scale, factor = params.split([4, 4, 8])
    scale, factor = families.positive(raw_scale).diag(), 30 * torch.tanh(factor.reshape(4, 2) / 300)
    covariance = scale @ (torch.eye(4) + factor @ factor.T) @ scale
    x = torch.randn(4)
    exact = stats.multivariate_normal(loc.numpy(), covariance.numpy()).logpdf(x.numpy())
    assert families.LowRankNormal(2)(params).log_prob(x).item() == pytest.approx(exact, rel=1e-9)


def test_the_mixture_is_torchs(double: None) -> None:
    torch.manual_seed(0)
    logits, loc, scale = torch.randn(5, 3), torch.randn(5, 3, 2), torch.rand(5, 3, 2) + 0.1
    p = PathwiseNormalMixture(logits, loc, scale)
    reference = dist.MixtureSameFamily(dist.Categorical(logits=logits), dist.Normal(loc, scale).to_event(1))
    z = torch.randn(4, 5, 2)
    torch.testing.assert_close(p.log_prob(z), reference.log_prob(z))
    torch.testing.assert_close(p.mean, reference.mean)
    torch.testing.assert_close(p.variance, reference.variance)
    wide = p.expand((7, 5))
    assert wide.sample((2,)).shape == (2, 7, 5, 2) and wide.log_prob(z[0]).shape == (7, 5)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_the_relaxed_categorical_is_torchs_in_logarithms(double: None, temperature: float) -> None:
    """log p(log s) = log p(s) + sum_d log s_d, in float64, where the points do not yet round to zero."""
    torch.manual_seed(0)
    logits = torch.randn(4)
    ours = families.RelaxedOneHotCategorical(temperature)(logits)
    theirs = RelaxedOneHotCategorical(torch.tensor(temperature), logits=logits)
    z = ours.sample((200,)).clamp(min=-700 + 0.0)
    s = z.exp()
    torch.testing.assert_close(ours.log_prob(z), theirs.log_prob(s) + z.sum(-1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.1, 0.3, 1.0])
def test_the_relaxed_categorical_is_finite_in_float32(temperature: float) -> None:
    """Where points of the simplex round to zero its density does not, nor its gradient; float64 agrees."""
    torch.manual_seed(0)
    logits = (4 * torch.randn(500, 6)).requires_grad_()
    q, p = (families.RelaxedOneHotCategorical(t)(a) for t, a in ((temperature, logits), (0.5, torch.zeros(6))))
    z = q.rsample()
    weight = p.log_prob(z) - q.log_prob(z)
    assert weight.isfinite().all() and (temperature > 0.1 or (z.exp() == 0).any())
    (gradient,) = torch.autograd.grad(weight.sum(), logits)
    assert gradient.isfinite().all()
    in_float64 = families.RelaxedOneHotCategorical(temperature).double()(logits.double())
    torch.testing.assert_close(q.log_prob(z).double(), in_float64.log_prob(z.double()), rtol=1e-4, atol=1e-3)


def test_the_relaxed_categorical_goes_to_the_corners_with_their_probabilities() -> None:
    """P(argmax z = d) = softmax(logits)_d at every temperature."""
    torch.manual_seed(0)
    logits = torch.tensor([0.0, 1.0, -1.0])
    z = families.RelaxedOneHotCategorical(0.2)(logits).sample((20_000,))
    assert_mean(nn.functional.one_hot(z.argmax(-1), 3).float(), logits.softmax(-1))


@pytest.mark.parametrize("name", FAMILIES)
def test_params_at_start_where_they_say(name: str) -> None:
    family = FAMILIES[name]
    params = family.params_at(torch.tensor([0.5, -1.0, 2.0]))
    assert params.shape == family.out_shape((3,))
    if name != "relaxed":
        torch.testing.assert_close(family(params).mean, torch.tensor([0.5, -1.0, 2.0]))


# ------------------------------------------------------------------------------------- gradients through a mixture


def moment(z: Tensor) -> Tensor:
    """A function of z that has no symmetry: (*, D) to (*,)."""
    return (z[..., 0] * 1.3).sin() + (z.cos().prod(-1)) + 0.2 * z.sum(-1).square()


def exact_gradient(parameters: list[Tensor]) -> list[Tensor]:
    """d E[f] / d parameters by quadrature over one or two dimensions."""
    width = parameters[1].shape[-1]
    axis = torch.linspace(-12, 12, 2001 if width == 1 else 401)
    z = torch.cartesian_prod(*[axis] * width).reshape(-1, width)
    log_p = PathwiseNormalMixture(*parameters).log_prob(z)
    expected = (log_p.exp() * moment(z)).sum() * (axis[1] - axis[0]) ** width
    return list(torch.autograd.grad(expected, parameters))


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("equal", [False, True])
def test_gradients_through_samples_of_a_mixture_are_unbiased(double: None, width: int, equal: bool) -> None:
    """40,000 draws: within 4 standard errors of the gradient by quadrature, of every logit, location and scale.

    Components that coincide are no special case.
    """
    torch.manual_seed(0)
    logits, loc = torch.randn(3), torch.randn(3, width)
    loc = loc[[0, 0, 1]] if equal else loc
    parameters = [logits, loc, 0.5 + torch.rand(3, width)]
    exact = exact_gradient([p.requires_grad_() for p in parameters])
    count = 40_000
    repeated = [p.detach().expand(count, *p.shape).clone().requires_grad_() for p in parameters]
    z = PathwiseNormalMixture(*repeated).rsample()
    for gradient, expected in zip(torch.autograd.grad(moment(z).sum(), repeated), exact, strict=True):
        assert gradient.isfinite().all()
        assert_mean(gradient, expected)


def test_samples_of_a_mixture_are_its_samples_in_many_dimensions() -> None:
    """The gradient of a mean of z is that of the mixture's mean: known in closed form for any D."""
    torch.manual_seed(0)
    count, width = 20_000, 12
    parameters = [torch.randn(4), torch.randn(4, width), 0.5 + torch.rand(4, width)]
    leaves = [p.expand(count, *p.shape).clone().requires_grad_() for p in parameters]
    direction = torch.randn(width)
    z = PathwiseNormalMixture(*leaves).rsample()
    found = torch.autograd.grad((z @ direction).sum(), leaves[:2])
    exact = [p.clone().requires_grad_() for p in parameters[:2]]
    mean = PathwiseNormalMixture(*exact, parameters[2]).mean @ direction
    for gradient, expected in zip(found, torch.autograd.grad(mean, exact), strict=True):
        assert_mean(gradient, expected, errors=4.5)  # of 52 comparisons


def test_a_mixture_of_one_component_is_a_normal(double: None) -> None:
    """The implicit gradient is then the usual one, draw by draw: dz = dm + e ds."""
    torch.manual_seed(0)
    loc, scale = torch.randn(1, 3, requires_grad=True), (0.5 + torch.rand(1, 3)).requires_grad_()
    z = PathwiseNormalMixture(torch.zeros(1), loc, scale).rsample()
    to_loc, to_scale = torch.autograd.grad((z * torch.arange(3.0)).sum(), [loc, scale])
    torch.testing.assert_close(to_loc[0], torch.arange(3.0))
    torch.testing.assert_close(to_scale[0], torch.arange(3.0) * ((z - loc) / scale)[0].detach())


# --------------------------------------------------------------------------------------------- in a program


class Linear(nn.Module):
    """A network that says its shape: params = x A + c."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias, self.out_shape = weight, bias, bias.shape

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


def raw(scale: Tensor) -> Tensor:
    """What ``positive`` makes these scales of."""
    return torch.log(torch.expm1(scale - families.MIN_SCALE))


def test_the_weights_of_a_mixture_s_components_keep_their_digits() -> None:
    """A draw 1000 scales away from a component in its second dimension, and near it in the first."""
    loc, scale, z = torch.tensor([[0.0, 0.0], [0.5, 1000.0]]), torch.ones(2, 2), torch.tensor([0.3, 0.2])

    def displaced(dtype: torch.dtype) -> Tensor:
        logits = torch.zeros(2, dtype=dtype, requires_grad=True)
        mixture = PathwiseNormalMixture(logits, loc.to(dtype), scale.to(dtype))
        dz = mixture._displacement(z.to(dtype))
        return torch.autograd.grad(dz[1], logits)[0].double()

    torch.testing.assert_close(displaced(torch.float32), displaced(torch.float64), rtol=1e-5, atol=1e-6)


def full_params(V: Tensor) -> Tensor:
    """The numbers beyond the location of a full normal of covariance V (2, 2)."""
    return full_scales(torch.linalg.cholesky(V))


def full_scales(tril: Tensor) -> Tensor:
    """The numbers of a Cholesky factor diag(s) (I + B)."""
    scale = tril.diagonal()
    below = (tril / scale[:, None])[*torch.tril_indices(*tril.shape, -1)]
    return torch.cat([raw(scale), 300 * torch.atanh(below / 30)])


def low_rank_params(V: Tensor) -> Tensor:
    """Of a normal of rank one: u u^T / (1 + u^2) off the diagonal is the correlation where |u_1| = |u_2|."""
    correlation = V[0, 1] / (V[0, 0] * V[1, 1]).sqrt()
    u = (correlation.abs() / (1 - correlation.abs())).sqrt() * torch.stack([torch.ones(()), correlation.sign()])
    return torch.cat([raw((V.diagonal() / (1 + u.square())).sqrt()), 300 * torch.atanh(u / 30)])


@pytest.mark.parametrize(
    ("family", "params"),
    [(families.full_normal, full_params), (families.LowRankNormal(1), low_rank_params)],
    ids=["full", "low rank"],
)
def test_the_exact_posterior_of_a_linear_model_gives_the_exact_evidence(double: None, family: Any, params: Any) -> None:
    """p(z | x) = N(A x + c, V) is in the family, and there the ELBO is log p(x) for every draw."""
    exact = LinearGaussian(2, 4)
    others = params(exact.V)
    weight = torch.cat([exact.A.T, torch.zeros(4, len(others))], 1)
    encoder = pv.Conditional(Linear(weight, torch.cat([exact.c, others])), family)
    program = pv.VAE(exact.program.prior, exact.program.decoder, encoder)
    x = exact.data(5)
    elbo = pv.objectives.elbo(pv.log_terms(program, x, num_particles=3))
    torch.testing.assert_close(elbo, exact.log_prob(x))


class Table(nn.Module):
    """Logits of x for each of D values of a one-hot z."""

    def __init__(self, categories: int, width: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.randn(categories, width))
        self.in_shapes, self.out_shape = ((categories,),), (width,)

    def forward(self, z: Tensor) -> Tensor:
        return z @ self.logits


def enumerable(categories: int = 3, width: int = 5) -> tuple[pv.VAE, Tensor, Tensor]:
    """A mixture of Bernoullis as a VAE, x, and log p(x), (N,), by the sum over all z."""
    torch.manual_seed(0)
    prior = pv.priors.Categorical(categories)
    with torch.no_grad():
        prior.net.value.copy_(torch.randn(categories))
    decoder = pv.Conditional(Table(categories, width), families.bernoulli)
    encoder = pv.Conditional(pv.networks.MLP(width, 8, categories), families.OneHotCategorical())
    x = torch.rand(7, width).round()
    z = torch.eye(categories)
    joint = prior().log_prob(z)[:, None] + decoder(z[:, None].expand(-1, 7, -1)).log_prob(x)
    return pv.VAE(prior, decoder, encoder), x, joint.logsumexp(0)


@pytest.mark.parametrize("particles", [1, 3])
def test_a_categorical_posterior_is_enumerated_exactly(double: None, particles: int) -> None:
    """The ELBO is sum_z q (log p(x, z) - log q), log_marginal log p(x), whatever the particles, without noise."""
    program, x, log_px = enumerable()
    z = torch.eye(3)
    log_q = program.encoder(x).logits.T  # (3, 7)
    log_joint = program.prior().log_prob(z)[:, None] + program.decoder(z[:, None].expand(-1, 7, -1)).log_prob(x)
    by_hand = (log_q.exp() * (log_joint - log_q)).sum(0)
    t = pv.log_terms(program, x, num_particles=particles)
    torch.testing.assert_close(pv.objectives.elbo(t), by_hand)
    ev = pv.log_marginal(program, x, num_particles=particles, compile=False)
    torch.testing.assert_close(ev.log_prob, log_px.detach())


def test_stock_pyro_enumerates_it_as_well(double: None, empty_store: None) -> None:
    program, x, _ = enumerable()
    expected = pv.objectives.elbo(pv.log_terms(program, x)).sum().item()
    with pyro.poutine.block():
        loss = TraceEnum_ELBO(max_plate_nesting=1).loss(program.model, program.guide, x)
    assert -loss == pytest.approx(expected, rel=1e-9)


def test_gradients_of_an_enumerated_posterior_are_exact(double: None) -> None:
    program, x, _ = enumerable()
    weights = list(program.encoder.parameters())
    z = torch.eye(3)
    log_q = program.encoder(x).logits.T
    log_joint = program.prior().log_prob(z)[:, None] + program.decoder(z[:, None].expand(-1, 7, -1)).log_prob(x)
    by_hand = torch.autograd.grad((log_q.exp() * (log_joint - log_q)).sum(), weights)
    found = torch.autograd.grad(pv.objectives.elbo(pv.log_terms(program, x)).sum(), weights)
    for one, two in zip(found, by_hand, strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("extreme", [-1e4, 1e4])
def test_extreme_network_outputs_stay_finite(name: str, extreme: float) -> None:
    """FAULTS 18."""
    params = torch.full((2, *FAMILIES[name].out_shape((3,))), extreme, requires_grad=True)
    q = FAMILIES[name](params)
    z = q.rsample()
    assert z.isfinite().all()
    assert q.log_prob(z.detach()).isfinite().all()


def test_recipes_read_a_relaxed_latent_as_the_point_that_it_is() -> None:
    data = pv.data.load("digits")
    relaxed = families.RelaxedOneHotCategorical(0.5)
    program = pv.vae(data, latent=5, hidden=(8,), prior=pv.priors.Learned(relaxed, 5), posterior=relaxed)
    assert isinstance(program.decoder.net.readers[0], pv.readings.Exp)
    run = pv.fit(program, data.test.x[:64], epochs=1, device="cpu", progress=False, compile=False)
    assert math.isfinite(run.history[0]["objective"])
    assert pv.sample(program, 3).shape == (3, 1, 8, 8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: families.LowRankNormal(0), "rank must be at least 1"),
        (lambda: families.NormalMixture(0), "at least one component"),
        (lambda: families.RelaxedOneHotCategorical(0.0), "temperature must be positive"),
    ],
)
def test_impossible_sizes_are_refused(make: Any, message: str) -> None:
    with pytest.raises(pv.PyrovaeError, match=message):
        make()
