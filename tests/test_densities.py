"""Families, priors and the fast mixture as densities: closed forms, integrals equal to one, samples that agree."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from exact import assert_mean, grid, integral, wide_encoder
from scipy import stats
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.distributions import DiagonalNormalMixture, mixture

LEVEL = 1e-4  # of every goodness-of-fit test below; the seeds are fixed

# ------------------------------------------------------------------------------------------------------- families

FAMILIES: dict[str, tuple[Callable[[], Any], int]] = {  # the family, and the numbers it wants per element
    "bernoulli": (lambda: pv.families.bernoulli, 1),
    "normal": (lambda: pv.families.normal, 2),
    "FixedScaleNormal": (lambda: pv.families.FixedScaleNormal(0.6), 1),
    "SharedScaleNormal": (lambda: pv.families.SharedScaleNormal(1.3), 1),
    "Categorical": (lambda: pv.families.Categorical(3), 3),
}
DISCRETE = {"bernoulli": 2, "Categorical": 3}  # how many values an element takes
CONTINUOUS = [name for name in FAMILIES if name not in DISCRETE]


def conditional(name: str, width: int = 2, hidden: int = 8) -> pv.Conditional:
    """p(x | z) of the family, z in the plane, by a random network."""
    family, count = FAMILIES[name]
    return pv.Conditional(pv.networks.MLP(2, hidden, count * width, activation=nn.Tanh), family())


@pytest.mark.parametrize("name", DISCRETE)
def test_discrete_family_sums_to_one(double: None, name: str) -> None:
    torch.manual_seed(0)
    values = torch.tensor(list(itertools.product(range(DISCRETE[name]), repeat=3)), dtype=torch.get_default_dtype())
    p = conditional(name, 3)(torch.randn(5, 2))
    total = p.log_prob(values[:, None]).logsumexp(0)  # (values, 5) to (5,)
    torch.testing.assert_close(total, torch.zeros(5), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous_family_integrates_to_one(double: None, name: str) -> None:
    torch.manual_seed(0)
    points, log_cell = grid(12.0, 0.1)
    p = conditional(name)(torch.randn(5, 2))
    torch.testing.assert_close(integral(p.log_prob(points[:, None]), log_cell), torch.zeros(5), rtol=0, atol=1e-9)


def test_families_are_the_textbook_densities(double: None) -> None:
    torch.manual_seed(0)
    a, b, x, bit = torch.randn(50), torch.randn(50), torch.randn(50), torch.randn(50).sign().clamp(min=0)
    close = torch.testing.assert_close

    def normal(scale: Any) -> Tensor:
        return -0.5 * ((x - a) / scale) ** 2 - torch.as_tensor(scale).log() - 0.5 * math.log(2 * math.pi)

    families = pv.families
    close(families.bernoulli(a).log_prob(bit), torch.where(bit > 0, a.sigmoid(), (-a).sigmoid()).log())
    close(families.normal(a, b).log_prob(x), normal(torch.log1p(b.exp()) + 1e-4))
    close(families.FixedScaleNormal(0.3)(a).log_prob(x), normal(0.3))
    close(families.SharedScaleNormal(0.3)(a).log_prob(x), normal(0.3))
    logits = torch.stack([a, b, torch.zeros(50)], -1)
    chosen = families.Categorical(3)(*logits.unbind(-1)).log_prob(torch.full((50,), 1.0))
    close(chosen, b - logits.exp().sum(-1).log())
    columns = torch.tensor([0.2, 3.0])
    per_column = families.SharedScaleNormal(shape=(2,))
    per_column.raw_scale.data = torch.log(torch.expm1(columns - 1e-4))
    pair = per_column(torch.stack([a, a], -1)).log_prob(torch.stack([x, x], -1))
    close(pair, torch.stack([normal(scale) for scale in columns], -1))


SOFTPLUS = torch.tensor([math.log1p(math.exp(-1.0)), math.log1p(math.exp(2.0))]).double()


def test_poisson_is_scipys(double: None) -> None:
    """log p against scipy.stats at rates from 1e-6 to 60, and the rate a softplus; it sums to one."""
    raw = torch.linspace(-15.0, 60.0, 31)
    p = pv.families.poisson(raw)
    x = torch.arange(300.0)[:, None]
    rate = np.logaddexp(0.0, raw.numpy()) + 1e-6
    torch.testing.assert_close(p.log_prob(x), torch.from_numpy(stats.poisson(rate).logpmf(x.numpy())))
    torch.testing.assert_close(p.log_prob(x).logsumexp(0), torch.zeros(31), rtol=0, atol=1e-12)
    torch.manual_seed(0)
    assert_mean(pv.families.poisson(torch.tensor([-1.0, 2.0])).sample((20_000,)), SOFTPLUS)
    mean = torch.tensor([0.002, 0.5, 70.0])
    torch.testing.assert_close(pv.families.poisson(pv.families.poisson.params_at(mean)).mean, mean, rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", DISCRETE)
def test_discrete_samples_agree_with_the_density(name: str) -> None:
    """Pearson's chi-squared test of 20,000 draws of two elements over all their values."""
    torch.manual_seed(1)
    p = conditional(name)(torch.randn(1, 2))
    values = torch.tensor(list(itertools.product(range(DISCRETE[name]), repeat=2))).float()
    draws = p.sample((20_000,)).squeeze(1).float()
    observed = [(draws == value).all(-1).sum().item() for value in values]
    expected = 20_000 * p.log_prob(values[:, None]).detach().exp().double().squeeze(1)
    assert stats.chisquare(observed, expected * (sum(observed) / expected.sum())).pvalue > LEVEL
    assert sum(observed) == 20_000


@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous_samples_agree_with_the_density(name: str) -> None:
    """-2 log p(x) plus its maximum is chi-squared with two degrees of freedom for two normal elements (one KS test)."""
    torch.manual_seed(1)
    p = conditional(name)(torch.randn(1, 2))
    draws = p.sample((20_000,))
    distance = 2 * (p.log_prob(p.mean) - p.log_prob(draws)).squeeze(1).detach()
    assert stats.kstest(distance.numpy(), stats.chi2(2).cdf).pvalue > LEVEL
    assert_mean(draws.squeeze(1), p.mean.detach())


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("event", [(4,), (2, 3, 5)])
def test_parameters_are_split_along_the_first_event_dimension(name: str, event: tuple[int, ...]) -> None:
    """Element i of an event takes numbers i, i + n, ...: the joint is the product over elements, whatever the batch."""
    torch.manual_seed(0)
    family, count = FAMILIES[name]
    net = pv.networks.MLP(2, 8, (count * event[0], *event[1:]))
    p = pv.Conditional(net, family())
    z = torch.randn(7, 6, 2)
    x = p(z).sample()
    assert p(z).batch_shape == (7, 6) and p(z).event_shape == event and p(z).log_prob(x).shape == (7, 6)
    parts = net(z).unflatten(2, (count, event[0])).unbind(2)
    by_hand = family()(*parts).log_prob(x).flatten(2).sum(-1)
    torch.testing.assert_close(p(z).log_prob(x), by_hand)
    torch.testing.assert_close(p(z).log_prob(x)[3, 4], p(z[3, 4]).log_prob(x[3, 4]))


def test_a_family_is_any_callable() -> None:
    laplace = pv.Conditional(pv.networks.MLP(2, 8, 4), lambda loc: dist.Laplace(loc, 1.0))
    assert laplace(torch.randn(5, 2)).log_prob(torch.zeros(4)).shape == (5,)


def test_a_family_that_swallows_data_is_refused() -> None:
    greedy = pv.Conditional(pv.networks.MLP(2, 8, 4), lambda loc: dist.Normal(loc, 1.0).to_event(2))
    with pytest.raises(pv.PyrovaeError, match="swallowed data dimensions"):
        greedy(torch.randn(5, 2))
    odd = pv.Conditional(pv.networks.MLP(2, 8, 5), pv.families.normal)
    with pytest.raises(pv.PyrovaeError, match=r"wants 2 numbers per element.*gives 5"):
        odd(torch.randn(5, 2))


def test_params_at_is_the_mean() -> None:
    mean = torch.tensor([0.2, 0.7])
    for name, (family, count) in FAMILIES.items():
        params = family().params_at(mean)
        assert params.shape == (2 * count,)
        if name != "Categorical":
            torch.testing.assert_close(family()(*params.chunk(count)).mean, mean)


@pytest.mark.parametrize("raw", [-1e30, -1e4, 0.0, 1e4, 1e30])
def test_extreme_network_outputs_stay_finite(raw: float) -> None:
    """FAULTS 18: scales towards zero and exploding logits."""
    extreme, x = torch.full((3,), raw), torch.tensor([0.0, 1.0, 1.0])
    zero = torch.zeros(3)
    for p in [
        pv.families.normal(zero, extreme),
        pv.families.bernoulli(extreme),
        pv.families.poisson(extreme),
        pv.families.Categorical(2)(extreme, zero),
        dist.Normal(zero, pv.families.positive(extreme)),
    ]:
        assert p.log_prob(x).isfinite().all()
    raw_scale = extreme.clone().requires_grad_()
    pv.families.normal(zero, raw_scale).log_prob(x).sum().backward()
    assert raw_scale.grad is not None and raw_scale.grad.isfinite().all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: pv.families.FixedScaleNormal(0.0),
        lambda: pv.families.FixedScaleNormal(math.nan),
        lambda: pv.families.SharedScaleNormal(1e-5),
        lambda: pv.families.Categorical(1),
        lambda: pv.priors.StandardNormal(0),
        lambda: pv.priors.NormalMixture(2, 0),
        lambda: pv.priors.NormalMixture(0, 2),
        lambda: pv.priors.VampPrior(wide_encoder(3), torch.zeros(0, 3)),
    ],
)
def test_impossible_sizes_and_scales_are_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(pv.PyrovaeError):
        make()


# --------------------------------------------------------------------------------------------------------- priors

ONE_HOT = torch.eye(3).double()


def _vamp() -> nn.Module:
    return pv.priors.VampPrior(wide_encoder(3, hidden=8), 3 * torch.randn(4, 3))


def _conditional_vamp() -> nn.Module:
    return pv.priors.VampPrior(wide_encoder([3, 3], hidden=8), (3 * torch.randn(4, 3), torch.eye(3)[[0, 1, 2, 0]]))


class FullEncoder(nn.Module):
    """A posterior that is not a diagonal normal."""

    def forward(self, x: Tensor) -> Any:
        tril = torch.tensor([[1.0, 0.0], [0.8, 0.5]])
        return dist.MultivariateNormal(x[..., :2], scale_tril=tril)


PRIORS: dict[str, tuple[Callable[[], nn.Module], tuple[Tensor, ...]]] = {  # the prior, and what is given
    "StandardNormal": (lambda: pv.priors.StandardNormal(2), ()),
    "NormalMixture": (lambda: pv.priors.NormalMixture(2, 3, spread=2.0), ()),
    "VampPrior": (_vamp, ()),
    "VampPrior, conditional": (_conditional_vamp, (ONE_HOT,)),
    "VampPrior, full covariance": (lambda: pv.priors.VampPrior(FullEncoder(), torch.randn(4, 3)), ()),
    "p(z | y)": (lambda: pv.Conditional(pv.networks.MLP(3, 8, 4), pv.families.normal), (ONE_HOT,)),
}


@pytest.mark.parametrize("name", PRIORS)
def test_prior_integrates_to_one_and_samples_agree(double: None, name: str) -> None:
    """Mean, second moments and entropy of 20,000 draws within 4 standard errors of the integrals over a grid."""
    torch.manual_seed(2)
    make, given = PRIORS[name]
    p = make()(*given)
    points, log_cell = grid(15.0, 0.1)
    with torch.no_grad():
        log_p = p.log_prob(points[:, None]).broadcast_to(len(points), *(p.batch_shape or (1,)))  # (G, N or 1)
        total = integral(log_p, log_cell)
        mass = (log_p + log_cell).exp()
        draws = p.sample((20_000,))
        log_p_draws = p.log_prob(draws).reshape(20_000, -1)
    assert draws.shape == (20_000, *p.batch_shape, 2)
    torch.testing.assert_close(total, torch.zeros_like(total), rtol=0, atol=1e-9)

    def moments(z: Tensor) -> Tensor:  # z, z z^T of the plane
        return torch.cat([z, (z[..., :, None] * z[..., None, :]).flatten(-2)], -1)

    z = draws.reshape(20_000, -1, 2)
    assert_mean(moments(z), torch.einsum("gn,gm->nm", mass, moments(points)))
    assert_mean(log_p_draws, (mass * log_p).sum(0))


def test_vamp_prior_is_the_mixture_of_the_encoders_posteriors(double: None) -> None:
    torch.manual_seed(0)
    prior = _conditional_vamp()
    z = torch.randn(50, 2)
    components = prior.encoder(*prior.pseudo_inputs)
    by_hand = components.log_prob(z[:, None]).logsumexp(-1) - math.log(4)
    torch.testing.assert_close(prior(torch.eye(3)).log_prob(z), by_hand)
    by_hand.sum().backward()
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0 for p in prior.parameters()
    )  # encoder, u and pseudo-labels


@pytest.mark.parametrize("name", PRIORS)
def test_prior_survives_deepcopy(name: str, double: None) -> None:
    torch.manual_seed(0)
    make, given = PRIORS[name]
    prior, z = make(), torch.randn(3, 2)
    before = prior(*given).log_prob(z)
    twin = copy.deepcopy(prior)
    torch.testing.assert_close(twin(*given).log_prob(z), before, rtol=0, atol=0)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(1.0)
    torch.testing.assert_close(prior(*given).log_prob(z), before, rtol=0, atol=0)


# ------------------------------------------------------------------------------------------------ the fast mixture


def _parameters(K: int = 6, D: int = 4, seed: int = 0, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Random logits, locations and scales, leaves of a graph."""
    generator = torch.Generator().manual_seed(seed)
    logits, loc, raw = (torch.randn(*n, generator=generator, dtype=torch.float64) for n in ((K,), (K, D), (K, D)))
    return [t.to(dtype).requires_grad_() for t in (logits, 3 * loc, (0.7 * raw).exp())]


def _reference(logits: Tensor, loc: Tensor, scale: Tensor) -> Any:
    return dist.MixtureSameFamily(dist.Categorical(logits=logits), dist.Normal(loc, scale).to_event(1))


@pytest.mark.parametrize("shape", [(4,), (7, 4), (3, 5, 4)])
@pytest.mark.parametrize("K", [1, 6])
def test_mixture_is_mixture_same_family(shape: tuple[int, ...], K: int) -> None:
    """Values, and the gradient to z and to every parameter, in float64 to 1e-10."""
    parameters = _parameters(K)
    z = (3 * torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).requires_grad_()
    fast, slow = (make(*parameters).log_prob(z) for make in (DiagonalNormalMixture, _reference))
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-10)
    for a, b in zip(*(torch.autograd.grad(v.sum(), [z, *parameters]) for v in (fast, slow)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("offset", [0.0, 1e3])
@pytest.mark.parametrize("scale", [1.0, 0.1, 0.01])
def test_mixture_in_float32_errs_as_stated(scale: float, offset: float) -> None:
    """The docstring: about 1e-7 (|z - centre| / s)^2, whatever the offset of all locations; here within thrice that.

    The reference is float64 at the float32 parameters, so that only the arithmetic counts. 50 components in 16
    dimensions, and points near components, where the density matters. The relative error of a float32 sum of 32
    products is a few times 6e-8; what is summed is of the size of |z - c|^2 / s^2 + |m - c|^2 / s^2.
    """
    logits, loc, s = (p.detach() for p in _parameters(50, 16, dtype=torch.float32))
    loc, s = loc + offset, scale * s.clamp(0.5, 2.0)
    z = loc + s * torch.randn(50, 16, generator=torch.Generator().manual_seed(1))
    double = [t.double() for t in (logits, loc, s)]
    error = (
        DiagonalNormalMixture(logits, loc, s).log_prob(z).double() - _reference(*double).log_prob(z.double())
    ).abs()
    centre = double[1].mean(0)
    size = sum(((t - centre) / double[2]).square().sum(-1) for t in (z.double(), double[1]))
    assert (error < 3e-7 * size).all()


def test_mixture_expands_as_a_label() -> None:
    parameters = [p.detach() for p in _parameters()]
    base = DiagonalNormalMixture(*parameters)
    assert base.batch_shape == () and base.event_shape == (4,)
    for wide in (base.expand((3, 5)), base.expand((5,)).expand((3, 5)), base.expand_by((3, 5))):
        assert wide.batch_shape == (3, 5) and wide.event_shape == (4,)
        z = wide.sample((2,))
        assert z.shape == (2, 3, 5, 4) and wide.shape((2,)) == z.shape
        torch.testing.assert_close(wide.log_prob(z), base.log_prob(z), rtol=0, atol=0)
        assert wide.log_prob(z[0, 0, 0]).shape == (3, 5)  # torch's contract: the batch shape whatever the value's
        assert wide.mean.shape == wide.variance.shape == (3, 5, 4)
    assert len(set(base.expand((1000,)).sample().unbind())) == 1000  # rows are independent draws


def test_mixture_moments_and_samples() -> None:
    parameters = [p.detach() for p in _parameters()]
    p = DiagonalNormalMixture(*parameters)
    reference = _reference(*parameters)
    torch.testing.assert_close(p.mean, reference.mean)
    torch.testing.assert_close(p.variance, reference.variance)
    torch.manual_seed(0)
    z = p.sample((50_000,))
    assert_mean(z, reference.mean)
    assert_mean((z - reference.mean).square(), reference.variance)
    for d in range(4):  # every margin is a mixture in one dimension
        weights = parameters[0].softmax(-1)[:, None]

        def cdf(x: Any, d: int = d, weights: Tensor = weights) -> Any:
            component = dist.Normal(parameters[1][:, d, None], parameters[2][:, d, None])
            return (weights * component.cdf(torch.as_tensor(x))).sum(0).numpy()

        assert stats.kstest(z[:, d].numpy(), cdf).pvalue > LEVEL


def test_mixture_deepcopy_and_validation() -> None:
    p = DiagonalNormalMixture(*(t.detach() for t in _parameters()))
    z = p.sample((3,))
    torch.testing.assert_close(copy.deepcopy(p).log_prob(z), p.log_prob(z), rtol=0, atol=0)
    for bad in (torch.full((4,), math.nan).double(), torch.zeros(3).double()):
        with pytest.raises(ValueError):
            p.log_prob(bad)
    logits, loc, scale = (t.detach() for t in _parameters())
    with pytest.raises(ValueError):
        DiagonalNormalMixture(logits, loc, -scale)


def test_mixture_picks_the_fast_form_for_diagonal_normals_only() -> None:
    logits, loc, scale = (t.detach() for t in _parameters())
    diagonal = dist.Normal(loc, scale).to_event(1)
    assert isinstance(mixture(logits, diagonal), DiagonalNormalMixture)
    laplace = dist.Laplace(loc, scale).to_event(1)
    other = mixture(logits, laplace)
    assert not isinstance(other, DiagonalNormalMixture)
    z = torch.zeros(4).double()
    by_hand = (logits.log_softmax(-1) + laplace.log_prob(z)).logsumexp(-1)
    torch.testing.assert_close(other.log_prob(z), by_hand)


def test_mixture_far_tails_and_vanishing_weights_stay_finite() -> None:
    logits, loc, scale = (t.detach() for t in _parameters())
    p = DiagonalNormalMixture(logits, loc, scale)
    far = torch.full((4,), 1e6, dtype=torch.float64)
    torch.testing.assert_close(p.log_prob(far), _reference(logits, loc, scale).log_prob(far))
    logits[0] = -math.inf
    dropped = DiagonalNormalMixture(logits, loc, scale)
    torch.testing.assert_close(
        dropped.log_prob(loc), DiagonalNormalMixture(logits[1:], loc[1:], scale[1:]).log_prob(loc)
    )
