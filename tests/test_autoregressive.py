"""Autoregressive conditionals: causal, exact, usable wherever a distribution is."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from exact import assert_mean, grid, integral, log_prob_by_quadrature, wide_encoder
from torch import Tensor, nn
from torch.autograd.functional import jacobian

import pyrovae as pv
from pyrovae import families
from pyrovae.networks import MLP, MaskedMLP, RecurrentDecoder
from pyrovae.readings import Ignore, OneHot, Reading


def laplace(loc: Tensor, raw_scale: Tensor) -> Any:
    return dist.Laplace(loc, families.positive(raw_scale))


def two_normals(a: Tensor, b: Tensor, raw_scale: Tensor, logit: Tensor) -> Any:
    components = dist.Normal(torch.stack([a, b], -1), families.positive(raw_scale)[..., None])
    weights = dist.Categorical(logits=torch.stack([logit, -logit], -1))
    return dist.MixtureSameFamily(weights, components)


laplace.num_params, two_normals.num_params = 2, 4  # type: ignore[attr-defined]

FAMILIES: dict[str, Any] = {"normal": families.normal, "laplace": laplace, "mixture": two_normals}
each_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


def moved(module: Any, size: float = 0.5) -> Any:
    """Away from where it starts, which is close to independence."""
    with torch.no_grad():
        for p in module.parameters():
            p.add_(size * torch.randn_like(p))
    return module


def prior(family: Any, given: tuple[int, ...] = (), latent: int = 2) -> pv.Autoregressive:
    out = families.out_shape(family, (latent,))
    return moved(pv.Autoregressive(MaskedMLP([latent, *given], 8, 8, out, activation=nn.Tanh), family))


# -------------------------------------------------------------------------------------------------------- causality

CAUSAL: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], tuple[int, ...]]] = {  # a net, shapes it reads, event
    "masked": (lambda: MaskedMLP([6, 2], 30, 30, 12, activation=nn.Tanh), (6,), (6,)),
    "masked, shallow": (lambda: MaskedMLP([6, 2], 12), (6,), (6,)),
    "masked, narrow": (lambda: MaskedMLP([6, 2], 3, 12, activation=nn.Tanh), (6,), (6,)),
    "masked, bottleneck": (lambda: MaskedMLP([6, 2], 30, 2, 30, 12, activation=nn.Tanh), (6,), (6,)),
    "masked, image": (lambda: MaskedMLP([(2, 2, 2), 2], 40, (6, 2, 2), activation=nn.Tanh), (2, 2, 2), (2, 2, 2)),
    "masked, tokens": (lambda: MaskedMLP([(4, 3), 2], 30, 12, activation=nn.Tanh), (4, 3), (4,)),
    "recurrent": (lambda: RecurrentDecoder([(5, 3), 2], 10, width=8), (5, 3), (5,)),
}


@pytest.mark.parametrize("name", CAUSAL)
def test_the_numbers_of_a_factor_see_earlier_elements_only(double: None, name: str) -> None:
    """The Jacobian is zero on and above the diagonal; below it every element is seen, as is z by every factor."""
    torch.manual_seed(0)
    make, shape, event = CAUSAL[name]
    net, x, z = moved(make(), 0.3), torch.randn(3, *shape), torch.randn(3, 2)
    count = math.prod(event)

    def summed(x: Tensor, z: Tensor) -> Tensor:
        return net(x, z).sum(0).reshape(-1, count)  # (k, elements)

    by_x, by_z = jacobian(summed, (x, z))  # (k, elements, 3, *shape)
    seen = by_x.abs().amax(0).amax(1).reshape(count, count, -1).amax(-1)  # (factor, element)
    assert (seen.triu() == 0).all()
    least = torch.ones(count, count).tril(-1) > 0
    assert (seen[least] > 0).all() or name in (
        "masked, narrow",
        "masked, bottleneck",
    )  # whose three units have three degrees, first to last:
    assert (seen[-1, :-1] > 0).all()
    assert (by_z.abs().amax(0).flatten(1).amax(1) > 0).all()


def test_other_networks_are_refused() -> None:
    with pytest.raises(pv.PyrovaeError, match=r"MLP does not say.*networks\.MaskedMLP.*causal = True"):
        pv.Autoregressive(MLP(3, 6), families.normal)
    with pytest.raises(pv.PyrovaeError, match="several elements at once"):
        pv.Autoregressive(MaskedMLP(3, 3), lambda loc: dist.Normal(loc, 1.0).to_event(1))
    with pytest.raises(pv.PyrovaeError, match="several elements at once"):
        pv.Autoregressive(MaskedMLP(3, 3), families.OneHotCategorical())


class Cumulative(nn.Module):
    """A reader that mixes elements: the sum of all."""

    def forward(self, x: Tensor) -> Tensor:
        return x + x.sum(-1, keepdim=True)


class Own(pv.networks.Network):
    """Says that it is causal, and is where ``shift`` is 1."""

    causal = True

    def __init__(self, shift: int) -> None:
        super().__init__()
        self.in_shapes, self.out_shape, self.shift = pv.networks.as_shapes(4), torch.Size([4]), shift

    def forward(self, *parents: Tensor) -> Tensor:
        return nn.functional.pad(parents[0], (self.shift, 0))[..., :4]


MIXING: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: Reading(MaskedMLP([4, 2], 20, 4), nn.Linear(4, 4)),
    "norm": lambda: Reading(MaskedMLP([4, 2], 20, 4), nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))),
    "sum": lambda: Reading(
        RecurrentDecoder([(4, 3), 2], 4, width=8),
        nn.Sequential(Cumulative(), nn.Unflatten(-1, (4, 1)), nn.Linear(1, 3)),
    ),
    "sees itself": lambda: Own(0),
}


@pytest.mark.parametrize("name", MIXING)
def test_what_mixes_elements_is_refused(name: str) -> None:
    """Factors would see later elements, and their product would be no density."""
    torch.manual_seed(0)
    with pytest.raises(pv.PyrovaeError, match="mixes elements, and the product of the factors would be no density"):
        pv.Autoregressive(MIXING[name](), families.FixedScaleNormal())


def test_trying_causality_changes_nothing() -> None:
    net = Reading(RecurrentDecoder([(5, 3), 2], 15, width=8, word_dropout=0.5), nn.Embedding(3, 3)).train()
    state = torch.get_rng_state()
    pv.Autoregressive(net, families.Categorical(3))
    assert torch.equal(torch.get_rng_state(), state) and all(m.training for m in net.modules())
    pv.Autoregressive(Reading(net.net, nn.Sequential(nn.Embedding(3, 3), nn.Linear(3, 3))), families.Categorical(3))
    assert pv.Autoregressive(Own(1), families.FixedScaleNormal())._event_shape == (4,)


def test_a_network_of_ones_own() -> None:
    class Previous(pv.networks.Network):
        """The number of each factor is the element before."""

        causal = True

        def __init__(self, count: int) -> None:
            super().__init__()
            self.in_shapes, self.out_shape = pv.networks.as_shapes(count), torch.Size([count])
            self.first = nn.Parameter(torch.zeros(1))

        def forward(self, *parents: Tensor) -> Tensor:
            (x,) = self.parents(parents)
            return torch.cat([self.first.expand(*x.shape[:-1], 1), x[..., :-1]], -1)

    walk = pv.Autoregressive(Previous(4), families.FixedScaleNormal(0.5))()
    cov = 0.25 * torch.minimum(torch.arange(1.0, 5)[:, None], torch.arange(1.0, 5))
    x = torch.randn(6, 4)
    torch.testing.assert_close(walk.log_prob(x), dist.MultivariateNormal(torch.zeros(4), cov).log_prob(x))
    torch.manual_seed(0)
    draws = walk.sample((20_000,))
    assert_mean(draws[:, :, None] * draws[:, None, :], cov)


# -------------------------------------------------------------------------------------------- exact, and its draws


@each_family
def test_a_density_of_reals_integrates_to_one(double: None, family: Any) -> None:
    """Given a parent, and its draws have its mean and products."""
    torch.manual_seed(0)
    p = prior(family, given=(3,))(torch.randn(2, 3))
    points, log_cell = grid(16.0, 0.03 if family is laplace else 0.1)
    with torch.no_grad():
        log_p = p.log_prob(points[:, None])
        total = log_p.logsumexp(0) + log_cell
        torch.testing.assert_close(total, torch.zeros(2), rtol=0, atol=2e-3)  # a Laplace has a kink
        features = torch.stack([points[:, 0].tanh(), points[:, 1].tanh(), (points[:, 0] * points[:, 1]).sin()], -1)
        expected = (log_p + log_cell).exp().T @ features
    x = p.sample((20_000,))
    assert x.shape == (20_000, 2, 2)
    assert_mean(torch.stack([x[..., 0].tanh(), x[..., 1].tanh(), (x[..., 0] * x[..., 1]).sin()], -1), expected)


def tokens(net: str, steps: int = 3, levels: int = 3) -> pv.Autoregressive:
    if net == "recurrent":
        made: Any = RecurrentDecoder([(steps, 4), 2], levels * steps, width=6)
        made = Reading(made, nn.Embedding(levels, 4))
    else:
        made = Reading(MaskedMLP([(steps, levels), 2], 12, levels * steps, activation=nn.Tanh), OneHot(levels))
    return moved(pv.Autoregressive(made, families.Categorical(levels)))


@pytest.mark.parametrize("net", ["masked", "recurrent"])
def test_probabilities_of_tokens_sum_to_one(double: None, net: str) -> None:
    """And draws occur as often as they say."""
    torch.manual_seed(0)
    decoder = tokens(net)
    p = decoder(torch.randn(2, 2))
    every = torch.tensor(list(itertools.product(range(3), repeat=3)))
    probs = p.log_prob(every[:, None]).exp().detach()  # (27, 2)
    torch.testing.assert_close(probs.sum(0), torch.ones(2))
    draws = p.sample((5_000,))
    assert draws.shape == (5_000, 2, 3) and draws.dtype == torch.int64
    found = (draws[None] == every[:, None, None]).all(-1).double().mean(1)  # (27, 2)
    assert ((found - probs).abs() < 4.5 * (probs / 5_000).sqrt() + 1e-3).all()


def test_bits_one_after_another(double: None) -> None:
    """Of an image: all 16 of them, whose elements stand in the order of their memory."""
    torch.manual_seed(0)
    net = MaskedMLP([(1, 2, 2), 2], 16, (1, 2, 2), activation=nn.Tanh)
    p = moved(pv.Autoregressive(net, families.bernoulli))(z := torch.randn(5, 2))
    every = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4))).reshape(16, 1, 1, 2, 2)
    torch.testing.assert_close(p.log_prob(every).logsumexp(0), torch.zeros(5))
    first = p.log_prob(every)[every[:, 0, 0, 0, 0] == 1].logsumexp(0).exp()
    torch.testing.assert_close(first, net(torch.rand(5, 1, 2, 2), z)[:, 0, 0, 0].sigmoid())
    assert_mean(p.sample((5_000,))[:, :, 0, 0, 0], first.detach())


# ----------------------------------------------------------------------------------------------- as a distribution


def test_shapes_and_what_it_is_not() -> None:
    p = prior(families.normal)()
    assert (p.batch_shape, p.event_shape, p.has_rsample) == ((), (2,), False)
    assert p.expand([3, 4]).sample((5,)).shape == (5, 3, 4, 2)
    assert p.expand([4]).log_prob(torch.zeros(2)).shape == (4,)
    assert p.log_prob(torch.zeros(3, 4, 2)).shape == (3, 4)
    given = prior(families.normal, given=(3,))(torch.randn(4, 3))
    assert given.batch_shape == (4,) and given.log_prob(torch.zeros(5, 1, 2)).shape == (5, 4)
    assert given.sample((5,)).shape == (5, 4, 2)
    for name in ("mean", "variance", "mode"):
        with pytest.raises(NotImplementedError, match="no moments in closed form: average its draws"):
            getattr(p, name)


def test_an_example_without_data() -> None:
    shown = prior(families.normal, given=(3,)).example()
    assert (shown.batch_shape, shown.event_shape) == ((), (2,))
    assert shown.support.check(torch.zeros(2))
    text = tokens("recurrent").example()
    assert text.event_shape == (3,) and not text.support.check(torch.tensor([0, 1, 3])).all()
    assert text.log_prob(torch.zeros(7, 3).long()).shape == (7,)
    torch.testing.assert_close(text.log_prob(torch.zeros(3).long()), torch.tensor(-3 * math.log(3.0)))
    net, state = MaskedMLP(1, 2), torch.get_rng_state()
    pv.Autoregressive(net, families.normal)().expand([4]).log_prob(torch.zeros(4, 1))
    assert torch.equal(state, torch.get_rng_state())  # nothing is drawn but by sample


def test_missing_values_cannot_be_left_out() -> None:
    """It does not factorise: there is no base distribution of single elements."""
    p = tokens("recurrent")(torch.zeros(4, 2))
    assert not isinstance(p, dist.Independent) and p.event_dim == 1


# -------------------------------------------------------------------------------------------------------- as a part


@each_family
@pytest.mark.parametrize("given", [False, True])
def test_as_a_prior(double: None, family: Any, given: bool, tmp_path: Path) -> None:
    """log_marginal against quadrature, with what is given or without; the same after saving and loading."""
    torch.manual_seed(0)
    y = [torch.randn(5, 3)] if given else []
    wide = wide_encoder([4, 3] if given else 4, scale=2.0)
    decoder = pv.Conditional(MLP([2, 3] if given else 2, 8, 4, activation=nn.Tanh), families.bernoulli)
    made = pv.Autoregressive(MaskedMLP([2, *([3] if given else [])], 8, 2 * getattr(family, "num_params", 1),
                                       activation=nn.Tanh), family)  # fmt: skip
    program, x = pv.VAE(moved(made, 0.2), decoder, wide), torch.rand(5, 4).round()
    ev = pv.log_marginal(program, x, *y, num_particles=4000, seed=0)
    points, log_cell = grid(12.0)
    z = points[:, None].expand(-1, 5, -1)
    with torch.no_grad():
        log_p = program.prior(*y).log_prob(z) + program.decoder(z, *y).log_prob(x)
    expected = log_p.logsumexp(0) + log_cell
    assert ((ev.log_prob - expected).abs() < 4 * ev.standard_error + 1e-3).all()  # a Laplace has a kink
    assert pv.sample(program, 5, *y).shape == (5, 4)
    if family is families.normal:
        pv.save(program, tmp_path / "program.safetensors")
        again = pv.load(tmp_path / "program.safetensors")
        torch.testing.assert_close(pv.log_marginal(again, x, *y, num_particles=4000, seed=0).log_prob, ev.log_prob)


def test_a_prior_that_ignores_what_is_given() -> None:
    net = Reading(MaskedMLP(2, 8, 4), None, Ignore())
    p = pv.Autoregressive(net, families.normal)
    assert p(torch.randn(5, 3)).batch_shape == ()
    encoder = pv.Conditional(MLP([4, 3], 8, 4), families.normal)
    program = pv.VAE(p, pv.Conditional(MLP([2, 3], 8, 4), families.bernoulli), encoder)
    x, y = torch.rand(5, 4).round(), torch.randn(5, 3)
    assert pv.log_terms(program, x, y, num_particles=3).log_pz.shape == (3, 5)


@pytest.mark.parametrize("net", ["masked", "recurrent"])
def test_as_a_decoder(double: None, net: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = pv.Conditional(Reading(wide_encoder((3, 3)).net, OneHot(3)), families.normal)
    program = pv.VAE(pv.priors.StandardNormal(2), tokens(net), encoder)
    x = torch.randint(3, (6, 3))
    ev = pv.log_marginal(program, x, num_particles=4000, seed=0)
    assert ((ev.log_prob - log_prob_by_quadrature(program, x)).abs() < 4 * ev.standard_error).all()
    pv.save(program, tmp_path / "program.safetensors")
    again = pv.log_marginal(pv.load(tmp_path / "program.safetensors"), x, num_particles=4000, seed=0)
    assert torch.equal(again.log_prob, ev.log_prob)
    copied = pv.log_marginal(copy.deepcopy(program), x, num_particles=4000, seed=0)
    assert torch.equal(copied.log_prob, ev.log_prob)
    assert pv.sample(program, 5).shape == (5, 3)
    assert pv.reconstruct(program, x).sample().shape == (6, 3)


@pytest.mark.parametrize("net", ["masked", "recurrent"])
def test_enumerated_latents(double: None, net: str) -> None:
    """The sum over the categories, exactly."""
    torch.manual_seed(0)
    family = families.OneHotCategorical()
    encoder = pv.Conditional(Reading(MLP((3, 3), 8, 2), OneHot(3)), family)
    program = pv.VAE(pv.priors.Learned(family, 2), tokens(net), encoder)
    x, each = torch.randint(3, (6, 3)), torch.eye(2)
    terms = pv.log_terms(program, x, num_particles=1)
    found = terms.log_point_weight.flatten(0, -2).logsumexp(0)
    expected = program.decoder(each[:, None]).log_prob(x) + program.prior().log_prob(each)[:, None]
    torch.testing.assert_close(found, expected.logsumexp(0))


def test_a_posterior_of_it_is_known_to_carry_no_gradient() -> None:
    encoder = pv.Autoregressive(MaskedMLP([2, 4], 8, 4), families.normal)
    decoder = pv.Conditional(MLP(2, 4), families.bernoulli)
    program = pv.VAE(pv.priors.StandardNormal(2), decoder, encoder)
    terms = pv.log_terms(program, torch.ones(5, 4), num_particles=3)
    assert terms.unreparameterised == ("z",)


def test_integral_of_the_prior_on_the_grid(double: None) -> None:
    """By the rule that watches tails and resolution."""
    torch.manual_seed(0)
    p = pv.Autoregressive(moved(MaskedMLP(2, 8, 4), 0.1), families.normal)()
    points, log_cell = grid(12.0, 0.1)
    with torch.no_grad():
        torch.testing.assert_close(integral(p.log_prob(points), log_cell), torch.zeros(()), rtol=0, atol=1e-6)
