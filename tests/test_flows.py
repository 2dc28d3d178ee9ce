"""Flows against what is known of them: Jacobians by autograd, integrals, closed forms, quadrature of whole programs."""

from __future__ import annotations

import copy
import math
import pickle
import subprocess
import sys
from typing import Any

import pyro.distributions as dist
import pyro.distributions.transforms as T
import pytest
import torch
import torch.distributions.transforms as TT
import zuko
from exact import assert_mean
from torch import Tensor, nn
from torch.distributions import Transform

import pyrovae as pv
from pyrovae.flows.adapter import ComposedTransform
from pyrovae.flows.layers import SLOPE
from pyrovae.flows.transformed import at
from pyrovae.parameters import forget

INVERTIBLE = {
    "affine coupling": pv.flows.affine_coupling,
    "spline coupling": pv.flows.spline_coupling,
    "inverse autoregressive": pv.flows.inverse_autoregressive,
    "masked autoregressive": pv.flows.masked_autoregressive,
}
FORWARD_ONLY = {"planar": pv.flows.planar, "radial": pv.flows.radial, "Sylvester": pv.flows.sylvester}
EVERY = INVERTIBLE | FORWARD_ONLY


def perturbed(module: Any, by: float = 0.15) -> Any:
    with torch.no_grad():
        for p in module.parameters():
            p.add_(by * torch.randn_like(p))
    return module


def layers(make: Any, latent: int, context: int = 0, **options: Any) -> list[nn.Module]:
    """A flow moved from where it starts."""
    torch.manual_seed(0)
    return list(perturbed(nn.ModuleList(make(latent, 2, context=context, **options))))


def whole(transforms: list[nn.Module], context: Tensor | None = None) -> Any:
    return ComposedTransform(*(at(t, context) for t in transforms))


def normal(latent: int, *batch: int) -> Any:
    return dist.Normal(torch.zeros(*batch, latent), 1.0).to_event(1)


# ------------------------------------------------------------------------------------------------------ transforms


@pytest.mark.parametrize("context", [0, 3])
@pytest.mark.parametrize("latent", [1, 2, 5])
@pytest.mark.parametrize("name", EVERY)
def test_the_log_determinant_is_that_of_the_jacobian(double: None, name: str, latent: int, context: int) -> None:
    """And the inverse leads back, with minus the log-determinant."""
    transforms = layers(EVERY[name], latent, context)
    u, h = torch.randn(3, latent), torch.randn(3, context) if context else None
    x, log_det = whole(transforms, h).call_and_ladj(u)
    assert x.shape == (3, latent) and log_det.shape == (3,) and not torch.allclose(x, u, atol=0.01)
    for i in range(3):
        one = whole(transforms, None if h is None else h[i])
        jacobian: Any = torch.autograd.functional.jacobian(one, u[i])
        torch.testing.assert_close(log_det[i], torch.linalg.slogdet(jacobian).logabsdet, rtol=1e-6, atol=1e-6)
    if name in INVERTIBLE:
        back, opposite = whole(transforms, h).inv.call_and_ladj(x)
        torch.testing.assert_close(back, u, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(opposite, -log_det, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("latent", [1, 3])
@pytest.mark.parametrize("name", EVERY)
def test_a_flow_starts_near_the_identity(name: str, latent: int) -> None:
    torch.manual_seed(0)
    u = torch.randn(50, latent)
    x, log_det = whole(EVERY[name](latent, context=2), torch.randn(50, 2)).call_and_ladj(u)
    torch.testing.assert_close(x, u, rtol=0, atol=0.2)
    torch.testing.assert_close(log_det, torch.zeros(50), rtol=0, atol=0.2)


def test_an_inverse_autoregressive_flow_is_a_masked_one_turned_round(double: None) -> None:
    """Papamakarios, Pavlakou & Murray 2017, section 3.4; and each is triangular the way it should be."""
    iaf = layers(pv.flows.inverse_autoregressive, 4)
    u = torch.randn(6, 4)
    x, log_det = whole(iaf).call_and_ladj(u)
    back, opposite = whole(pv.flows.inverse(iaf)).call_and_ladj(x)
    torch.testing.assert_close(back, u)
    torch.testing.assert_close(opposite, -log_det)
    first, second = (torch.autograd.functional.jacobian(whole([layer]), u[0]) for layer in iaf)
    ones = torch.ones(4, 4)
    assert torch.equal((first != 0).double(), ones.tril())  # x_d of u_1 .. u_d
    assert torch.equal((second != 0).double(), ones.triu())  # and in the opposite order


def test_one_pass_where_the_flow_is_fast(double: None) -> None:
    """An inverse autoregressive flow draws and scores its draw in one pass, a masked one scores any point in one."""

    def passes(layer: Any, run: Any) -> int:
        count: list[int] = []
        net = layer.transform.net if isinstance(layer, pv.flows.Inverse) else layer.net
        handle = net.register_forward_hook(lambda *args: count.append(1))
        run(pv.flows.transformed(normal(4), [layer]))
        handle.remove()
        return len(count)

    z = torch.randn(3, 4)
    iaf, maf = pv.flows.inverse_autoregressive(4, 1)[0], pv.flows.masked_autoregressive(4, 1)[0]
    coupling = pv.flows.affine_coupling(4, 1)[0]
    assert passes(iaf, lambda q: q.log_prob(q.rsample())) == passes(maf, lambda q: q.log_prob(z)) == 1
    assert passes(coupling, lambda q: q.log_prob(q.rsample())) == passes(coupling, lambda q: q.log_prob(z)) == 1
    assert passes(iaf, lambda q: q.log_prob(z)) >= 4 and passes(maf, lambda q: q.rsample()) >= 4


def test_a_linear_autoregressive_flow_is_a_normal_with_a_known_covariance(double: None) -> None:
    """Without hidden layers x = exp(a) u + W u + b, W strictly lower triangular: N(b, L L^T), L = diag(exp(a)) + W."""
    (layer,) = layers(pv.flows.inverse_autoregressive, 3, hidden=())[:1]
    weight, bias = layer.net[0].weight, layer.net[0].bias  # rows: shift and scale of each dimension in turn
    with torch.no_grad():
        weight[1::2] = 0
    a = bias[1::2] / (1 + (bias[1::2] / math.log(SLOPE)).abs())
    L = (weight * layer.net[0].mask)[0::2] + a.exp().diag()
    expected = dist.MultivariateNormal(bias[0::2], scale_tril=L)
    z = torch.randn(7, 3)
    torch.testing.assert_close(pv.flows.transformed(normal(3), [layer]).log_prob(z), expected.log_prob(z))


# --------------------------------------------------------------------------------------------------- distributions


@pytest.mark.parametrize("context", [0, 2])
@pytest.mark.parametrize("name", INVERTIBLE)
def test_in_one_dimension_densities_integrate_to_one_and_samples_follow_them(
    double: None, name: str, context: int
) -> None:
    """The largest distance of two distribution functions, after Kolmogorov and Smirnov, at a level of 1e-4."""
    h = torch.randn(3, context) if context else None
    q = pv.flows.transformed(normal(1, 3), layers(INVERTIBLE[name], 1, context), h)
    axis = torch.linspace(-25.0, 25.0, 20_001)
    with torch.no_grad():
        cdf = q.log_prob(axis[:, None, None]).exp().cumsum(0) * (axis[1] - axis[0])  # (G, 3)
        torch.testing.assert_close(cdf[-1], torch.ones(3), rtol=0, atol=1e-4)
        draws = q.sample((4000,))[..., 0].sort(0).values  # (S, 3)
    for i in range(3):
        below = cdf[torch.searchsorted(axis, draws[:, i].contiguous()).clamp(max=len(axis) - 1), i]
        distance = (below - (torch.arange(4000) + 0.5) / 4000).abs().max()
        assert distance < math.sqrt(-math.log(1e-4 / 2) / 2 / 4000) + 1e-3


@pytest.mark.parametrize("name", EVERY)
def test_draws_come_with_their_density(double: None, name: str) -> None:
    """E_q[h / q] = 1 for a narrow density h: true of the right density, and of a one-to-one map only."""
    q = pv.flows.transformed(normal(2, 20_000), layers(EVERY[name], 2, 2), torch.ones(20_000, 2))
    with torch.no_grad():
        z = q.sample()
        h = dist.Normal(z.mean(0), 0.4 * z.std(0)).to_event(1)
        assert_mean((h.log_prob(z) - q.log_prob(z)).exp(), 1.0)


@pytest.mark.parametrize("name", INVERTIBLE)
def test_what_is_remembered_of_a_draw_is_what_the_inverse_gives(double: None, name: str) -> None:
    """Values and gradients, with respect to the layers, the base and the context."""
    transforms = nn.ModuleList(layers(INVERTIBLE[name], 3, 2))
    loc, h = torch.randn(4, 3, requires_grad=True), torch.randn(4, 2, requires_grad=True)
    q = pv.flows.transformed(dist.Normal(loc, 1.0).to_event(1), list(transforms), h)
    z = q.rsample()
    one, two = q.log_prob(z), q.log_prob(z.view_as(z))
    torch.testing.assert_close(one, two)
    leaves = [loc, h, *transforms.parameters()]
    gradients = [torch.autograd.grad(log_q.sum() + z.sum(), leaves, retain_graph=True) for log_q in (one, two)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)


def test_a_draw_without_gradients_is_scored_with_them() -> None:
    q = pv.flows.transformed(normal(2), layers(pv.flows.affine_coupling, 2))
    assert q.log_prob(q.sample()).requires_grad


@pytest.mark.parametrize("name", EVERY)
def test_shapes_of_particles(name: str) -> None:
    """A flow at 5 data, expanded to 7 particles, is the same at each."""
    h = torch.randn(5, 2)
    q = pv.flows.transformed(normal(3, 5), layers(EVERY[name], 3, 2), h)
    assert q.has_rsample and q.batch_shape == (5,) and q.event_shape == (3,) and q.rsample((4,)).shape == (4, 5, 3)
    wide = q.expand((7, 5))
    z = wide.rsample()
    assert z.shape == (7, 5, 3) and wide.log_prob(z).shape == (7, 5) and wide.batch_shape == (7, 5)
    if name in INVERTIBLE:
        torch.testing.assert_close(wide.log_prob(z), torch.stack([q.log_prob(row) for row in z]), rtol=1e-4, atol=1e-4)
        assert q.log_prob(torch.randn(7, 1, 3)).shape == (7, 5)  # one value under every datum's density, in a mixture


# ----------------------------------------------------------------------------------- transforms of other libraries


def test_a_zuko_flow_is_the_flow_it_is() -> None:
    torch.manual_seed(0)
    flow = perturbed(zuko.flows.NSF(2, transforms=2, hidden_features=(8,)))
    prior = pv.priors.Flow(pv.priors.StandardNormal(2), flow)
    z = torch.randn(6, 2)
    torch.testing.assert_close(prior().log_prob(z), flow().log_prob(z))
    assert {id(p) for p in prior.parameters()} == {id(p) for p in flow.parameters()}
    lazy = pv.priors.Flow(pv.priors.StandardNormal(2), flow.transform.inv)
    torch.testing.assert_close(lazy().log_prob(z), flow().log_prob(z))


def test_a_conditional_zuko_flow_gets_the_context() -> None:
    torch.manual_seed(0)
    flow = zuko.flows.MAF(2, context=3, hidden_features=(8,))
    family = pv.families.Flow(lambda loc: dist.Normal(loc, 1.0), flow, context=3)
    params, z = torch.cat([torch.zeros(6, 2), torch.randn(6, 3)], -1), torch.randn(6, 2)
    torch.testing.assert_close(family(params).log_prob(z), flow(params[:, 2:]).log_prob(z))


@pytest.mark.parametrize(
    "transforms",
    [
        T.affine_autoregressive(2, [4]),
        T.affine_autoregressive(2, [4]).inv,
        [T.affine_coupling(2, [4]), T.AffineTransform(1.0, 2.0)],
        T.ComposeTransform([T.affine_coupling(2, [4]), T.permute(2)]),
        T.spline_coupling(2, hidden_dims=[4]).inv,
    ],
    ids=["layer", "inverse", "list", "composition", "inverse of a spline"],
)
def test_transforms_of_pyro_are_what_pyro_makes_of_them(transforms: Any) -> None:
    """Their parameters are found, and nothing is left in their caches that could not be copied."""
    prior = pv.priors.Flow(pv.priors.StandardNormal(2), transforms)
    z = torch.randn(5, 2)
    expected = dist.TransformedDistribution(normal(2), transforms).log_prob(z)
    torch.testing.assert_close(prior().log_prob(z), expected)
    assert list(prior.parameters())
    prior().log_prob(prior().rsample((5,))).sum().backward()
    assert all(p.grad is not None for p in prior.parameters())
    for other in (copy.deepcopy(prior), pickle.loads(pickle.dumps(prior))):
        torch.testing.assert_close(other().log_prob(z), expected)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda t: TT.IndependentTransform(t, 0, cache_size=1),
        lambda t: TT.CatTransform([t, T.AffineTransform(0.0, 1.0)], dim=-1, lengths=[2, 0]),
        lambda t: TT.StackTransform([t], dim=-2),
        lambda t: TT.ComposeTransform([TT.IndependentTransform(t, 0, cache_size=1)]),
        lambda t: TT.IndependentTransform(t, 0, cache_size=1).inv,
        lambda t: pv.flows.Inverse(TT.IndependentTransform(t, 0, cache_size=1)),
    ],
    ids=["independent", "cat", "stack", "composed", "inverse", "our inverse"],
)
def test_modules_inside_torchs_transforms_are_found(wrap: Any) -> None:
    inner = T.spline(2)
    made = pv.flows.Transforms(wrap(inner))
    assert {id(p) for p in made.parameters()} == {id(p) for p in inner.parameters()}
    inner(torch.randn(3, 2, requires_grad=True))
    forget(made.each[0].transform if isinstance(made.each[0], pv.flows.Inverse) else made.each[0])
    copy.deepcopy(made)


@pytest.mark.parametrize("wrap", [lambda t: t, lambda t: TT.IndependentTransform(t, 1), lambda t: t.inv])
def test_a_parameter_that_nothing_would_train_is_refused(wrap: Any) -> None:
    learned = T.AffineTransform(nn.Parameter(torch.zeros(2)), torch.ones(2))
    with pytest.raises(pv.PyrovaeError, match=r"AffineTransform is no module, so that its \['loc'\]"):
        pv.priors.Flow(pv.priors.StandardNormal(2), wrap(learned))


@pytest.mark.parametrize("name", FORWARD_ONLY)
def test_a_draw_of_a_base_without_gradients_is_scored_too(name: str) -> None:
    """And nothing of it is left that could not be copied."""
    base = dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), normal(2, 2))
    q = pv.flows.transformed(base, layers(EVERY[name], 2))
    with torch.no_grad():
        z = q.sample((7,))
        assert not q.has_rsample and q.log_prob(z).shape == (7,)
    flow = T.affine_coupling(2, [4])
    pv.flows.transformed(base, [flow]).sample((7,))
    copy.deepcopy(flow)


def test_an_inverse_without_a_context_takes_none() -> None:
    with pytest.raises(pv.PyrovaeError, match="no transform takes any"):
        pv.families.Flow(pv.families.normal, T.affine_coupling(2, [4]).inv, context=3)


def test_a_conditional_transform_of_pyro_gets_the_context() -> None:
    conditional = T.conditional_affine_coupling(2, 3, [4])
    family = pv.families.Flow(pv.families.normal, [conditional, T.Permute(torch.tensor([1, 0]))], context=3)
    params, z = torch.randn(5, 7), torch.randn(5, 2)
    base = dist.Normal(params[:, :2], pv.families.positive(params[:, 2:4])).to_event(1)
    chain: list[Transform] = [conditional.condition(params[:, 4:]), T.Permute(torch.tensor([1, 0]))]
    torch.testing.assert_close(family(params).log_prob(z), dist.TransformedDistribution(base, chain).log_prob(z))


def test_validation_stays_as_it_was() -> None:
    """zuko switches it off when it is imported; not here, and not for a user who imports it later."""
    code = (
        "import torch; D = torch.distributions.Distribution; before = D._validate_args; import pyrovae; import zuko; "
        "assert before and D._validate_args is before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# -------------------------------------------------------------------------------------------------------- programs

WIDTH = 3


def encoder(family: Any = pv.families.normal) -> pv.Conditional:
    """A posterior near N(0, 1.4^2), wider than the priors."""
    net = pv.networks.MLP(WIDTH, 8, pv.families.out_shape(family, (2,)), activation=nn.Tanh)
    with torch.no_grad():
        net.output.weight[2:4] *= 0.1
        net.output.bias[2:4] = pv.families.inverse_positive(1.4)
    return pv.Conditional(net, family)


def decoder() -> pv.Conditional:
    return pv.Conditional(pv.networks.MLP(2, 8, WIDTH, activation=nn.Tanh), pv.families.bernoulli)


def with_posterior(name: str) -> pv.VAE:
    family = pv.families.Flow(pv.families.normal, layers(EVERY[name], 2, 4), context=4)
    return pv.VAE(pv.priors.StandardNormal(2), decoder(), encoder(family))


def test_a_flow_is_a_likelihood_too() -> None:
    family = pv.families.Flow(pv.families.normal, pv.flows.spline_coupling(WIDTH, context=2), context=2)
    vae = pv.VAE(
        pv.priors.StandardNormal(2),
        pv.Conditional(pv.networks.MLP(2, 8, family.out_shape((WIDTH,))), family),
        encoder(),
    )
    x = torch.randn(5, WIDTH)
    assert pv.log_terms(vae, x, num_particles=3).log_px_z.shape == (3, 5)
    run = pv.fit(vae, x, epochs=1, gradient=pv.gradients.path, compile=False, progress=False)
    assert math.isfinite(run.history[-1]["objective"])


# -------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("name", FORWARD_ONLY)
@pytest.mark.parametrize("prior", ["flow", "learned", "vamp"])
def test_a_flow_without_an_inverse_is_no_prior(name: str, prior: str) -> None:
    """Refused when the program is built, with what would work."""
    e = encoder(pv.families.Flow(pv.families.normal, FORWARD_ONLY[name](2)))
    made: nn.Module = {
        "flow": lambda: pv.priors.Flow(pv.priors.StandardNormal(2), FORWARD_ONLY[name](2)),
        "learned": lambda: pv.priors.Learned(pv.families.Flow(pv.families.normal, FORWARD_ONLY[name](2)), 2),
        "vamp": lambda: pv.priors.VampPrior(e, torch.rand(3, WIDTH)),
    }[prior]()
    with pytest.raises(pv.PyrovaeError, match=r"no inverse.*use coupling or autoregressive"):
        pv.VAE(made, decoder(), e)


def test_a_flow_without_an_inverse_is_no_likelihood() -> None:
    family = pv.families.Flow(pv.families.normal, pv.flows.planar(WIDTH))
    with pytest.raises(pv.PyrovaeError, match="the decoder must give the density"):
        pv.VAE(
            pv.priors.StandardNormal(2),
            pv.Conditional(pv.networks.MLP(2, family.out_shape((WIDTH,))), family),
            encoder(),
        )


@pytest.mark.parametrize("name", FORWARD_ONLY)
def test_a_flow_without_an_inverse_has_no_path_gradient(name: str) -> None:
    with pytest.raises(pv.PyrovaeError, match="cannot score a given value: it has no inverse"):
        pv.gradients.path(with_posterior(name), pv.objectives.elbo, torch.rand(4, WIDTH))


def of_prior(transforms: Any) -> Any:
    return pv.priors.Flow(pv.priors.StandardNormal(2), transforms)()


REFUSED: dict[str, tuple[Any, str]] = {
    "another dimension": (lambda: of_prior(pv.flows.affine_coupling(3)), "is of 3 dimensions"),
    "a context too few": (
        lambda: of_prior(pv.flows.affine_coupling(2, context=4)),
        "a context of 4 numbers and gets 0",
    ),
    "another context": (
        lambda: pv.families.Flow(pv.families.normal, pv.flows.planar(2, context=4), context=3)(torch.zeros(7)),
        "a context of 4 numbers and gets 3",
    ),
    "a context for nothing": (
        lambda: pv.families.Flow(pv.families.normal, pv.flows.planar(2), context=3),
        "no transform takes any",
    ),
    "Pyro's without a context": (lambda: of_prior(T.conditional_planar(2, 3)), "nothing is there to condition it on"),
    "no transform": (lambda: of_prior([nn.Tanh, 3]), "a flow is made of transforms, and a type is none"),
    "images": (
        lambda: pv.families.Flow(pv.families.normal, pv.flows.planar(2)).out_shape((1, 2, 2)),
        "Flow is of vectors",
    ),
    "numbers that do not divide": (
        lambda: pv.families.Flow(pv.families.normal, pv.flows.planar(2))(torch.zeros(5)),
        "wants 2 numbers per dimension",
    ),
    "no dimension": (lambda: pv.flows.affine_coupling(0), "at least one dimension"),
    "a narrow network": (lambda: pv.flows.inverse_autoregressive(8, hidden=(4,)), "in every hidden layer a unit"),
    "no reflection": (lambda: pv.flows.sylvester(2, reflections=0), "at least one reflection"),
    "one bin": (lambda: pv.flows.spline_coupling(2, bins=1), "at least two bins"),
    "no layer": (lambda: pv.flows.radial(2, 0), "at least one layer"),
}


def of_six(transforms: Any) -> pv.VAE:
    encoder = pv.Conditional(pv.networks.MLP(3, 4, 12), pv.families.normal)
    decoder = pv.Conditional(pv.networks.MLP(6, 4, 3), pv.families.bernoulli)
    return pv.VAE(pv.priors.Flow(pv.priors.StandardNormal(6), transforms), decoder, encoder)


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("scale", [torch.tensor(2.0), 2.0, torch.full((6,), 2.0)], ids=["0-dim", "number", "vector"])
def test_a_log_determinant_must_be_that_of_the_jacobian(scale: Any, invert: bool) -> None:
    """Torch counts log 2 once, and not six times, where the scale is a tensor without dimensions."""
    affine = TT.AffineTransform(torch.zeros(6), scale, event_dim=1)
    transforms = [T.spline(6), T.affine_autoregressive(6, [8]), affine.inv if invert else affine]
    if torch.is_tensor(scale) and scale.dim() == 0:
        with pytest.raises(pv.PyrovaeError, match=r"is 0\.6931, and by its Jacobian it is 4\.159"):
            of_six(transforms)
    else:
        copy.deepcopy(of_six(transforms))  # nothing is left in caches


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused(what: str) -> None:
    make, message = REFUSED[what]
    with pytest.raises(pv.PyrovaeError, match=message):
        make()
