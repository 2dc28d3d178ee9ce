"""Gradients: plain is stock Pyro's, the estimators agree on hierarchies too, and the loss traces."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pyro
import pyro.distributions as dist
import pyro.distributions.transforms as T
import pytest
import torch
from pyro.distributions.torch_transform import TransformModule
from pyro.infer import RenyiELBO, Trace_ELBO, TraceMeanField_ELBO
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn
from torch.distributions import constraints
from torch.fx.experimental.proxy_tensor import make_fx

import pyrovae as pv
from pyrovae.gradients import doubly_reparameterised, path, plain
from pyrovae.objectives import closed_form_kl, elbo, iwae
from pyrovae.parameters import bound
from pyrovae.terms import log_terms, repeated_log_terms

D = 2
Gradients = dict[str, Tensor]


@pytest.fixture(autouse=True)
def everywhere(double: None, empty_store: None) -> Iterator[None]:
    """float64, an empty parameter store, and one thread: for tensors this small more only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def data(n: int = 5, width: int = 6, seed: int = 0) -> Tensor:
    return torch.rand(n, width, generator=torch.Generator().manual_seed(seed)).round()


PRIORS: dict[str, Callable[[pv.Conditional], nn.Module]] = {
    "standard normal": lambda encoder: pv.priors.StandardNormal(D),
    "mixture": lambda encoder: pv.priors.NormalMixture(D, 3),
    "vamp": lambda encoder: pv.priors.VampPrior(encoder, data(4, seed=1)),
}
each_prior = pytest.mark.parametrize("prior", PRIORS)


def vae(prior: str = "standard normal", seed: int = 0) -> pv.VAE:
    torch.manual_seed(seed)
    encoder = pv.Conditional(pv.networks.MLP(6, 7, 2 * D, activation=nn.Tanh), pv.families.normal)
    decoder = pv.Conditional(pv.networks.MLP(D, 7, 6, activation=nn.Tanh), pv.families.bernoulli)
    return pv.VAE(PRIORS[prior](encoder), decoder, encoder)


def close(found: Gradients, expected: Gradients, tolerance: float = 1e-8) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=tolerance, atol=tolerance)


# ---------------------------------------------------------------------------------------------- plain is stock Pyro's


def stock(program: Any, loss: Any, x: Tensor) -> Gradients:
    """d(-loss) / d parameter by a stock ELBO, which sums over the data."""
    torch.manual_seed(7)
    loss.loss_and_grads(program.model, program.guide, x)
    gradients = {name: -p.grad.clone() for name, p in program.named_parameters()}
    program.zero_grad()
    return gradients


def ours(program: Any, objective: Any, x: Tensor, num_particles: int = 1, **options: Any) -> Gradients:
    """len(x) times ours, which is of the mean over the data."""
    torch.manual_seed(7)
    estimate = plain(program, objective, x, num_particles=num_particles, **options)
    return {name: len(x) * gradient for name, gradient in estimate.gradients.items()}


def particles(n: int) -> dict[str, Any]:
    return {"num_particles": n, "vectorize_particles": True, "max_plate_nesting": 1}


@each_prior
def test_plain_elbo_is_trace_elbo(prior: str) -> None:
    program, x = vae(prior), data()
    close(ours(program, elbo, x), stock(program, Trace_ELBO(), x))
    close(ours(program, elbo, x, num_particles=4), stock(program, Trace_ELBO(**particles(4)), x))


@each_prior
def test_plain_iwae_is_renyi_elbo(prior: str) -> None:
    """RenyiELBO takes one joint weight for the whole batch, so it is the per-datum bound for one datum at a time."""
    program = vae(prior)
    for row in data(3).split(1):
        close(ours(program, iwae, row, num_particles=5), stock(program, RenyiELBO(alpha=0, **particles(5)), row))


def test_closed_form_kl_is_trace_mean_field_elbo() -> None:
    program, x = vae(), data()
    closed = partial(elbo, kl=closed_form_kl)
    close(ours(program, closed, x), stock(program, TraceMeanField_ELBO(), x))
    assert not torch.equal(
        ours(program, closed, x)["encoder.net.output.bias"], ours(program, elbo, x)["encoder.net.output.bias"]
    )


def test_repeated_rows_give_the_same_gradient() -> None:
    program, x = vae("vamp"), data()
    repeated = ours(program, iwae, x, num_particles=3, terms=repeated_log_terms)
    close(repeated, ours(program, iwae, x, num_particles=3))


# --------------------------------------------------------------------------------- the estimators agree in the mean


class TwoLevel(nn.Module):
    """Guide: z1 from x, then z2 from z1. Model: z2, z1 from z2, x from z1. ``first`` and ``second`` serve both."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.second = nn.Linear(6, 3), nn.Linear(3, 2)
        self.guide_scales, self.model_scale = nn.Parameter(torch.tensor([-0.4, -0.1])), nn.Parameter(torch.tensor(0.2))
        self.shift = nn.Parameter(0.3 * torch.randn(3))

    def model(self, x: Tensor) -> None:
        pyro.module("two_level", self)
        with pyro.plate("data", len(x), dim=-1):
            z2 = pyro.sample("z2", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            loc = torch.tanh(z2 @ self.second.weight) + self.shift
            z1 = pyro.sample("z1", dist.Normal(loc, self.model_scale.exp()).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=z1 @ self.first.weight).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("two_level", self)
        with pyro.plate("data", len(x), dim=-1):
            z1 = pyro.sample("z1", dist.Normal(self.first(x).tanh(), self.guide_scales[0].exp()).to_event(1))
            pyro.sample("z2", dist.Normal(1.5 * self.second(z1).sin(), self.guide_scales[1].exp()).to_event(1))


DRAWS, COPIES = 150, 40  # batches, each of this many copies of the data


def estimates(
    estimator: Any, program: Any, objective: Any, x: Tensor, num_particles: int, draws: int = DRAWS
) -> Tensor:
    """(draws, parameters): the gradient of each of ``draws`` batches, all parameters in one row."""
    rows = []
    for seed in range(draws):
        torch.manual_seed(seed)
        gradients = estimator(program, objective, x, num_particles=num_particles).gradients
        rows.append(torch.cat([g.flatten() for g in gradients.values()]))
    return torch.stack(rows)


def deviation(estimator: Any, program: Any, objective: Any, x: Tensor, num_particles: int) -> Tensor:
    """Mean difference from the plain gradient on the same draws, in standard errors, per parameter."""
    x = x.repeat(COPIES, 1)
    found, expected = (estimates(e, program, objective, x, num_particles) for e in (estimator, plain))
    difference = found - expected
    moved = difference.abs().amax(0) > 1e-9  # parameters of the model alone have the same gradient in every draw
    assert moved.any()
    return difference.mean(0)[moved] / (difference.std(0)[moved] / DRAWS**0.5)


def unbiased(z: Tensor) -> bool:
    return bool(z.abs().max() < 4) and bool(z.square().mean() < 2.5)


ESTIMATORS = [
    pytest.param(path, elbo, 1, id="path-elbo"),
    pytest.param(path, partial(elbo, beta=0.5), 2, id="path-beta-elbo"),
    pytest.param(doubly_reparameterised, elbo, 1, id="doubly-elbo"),
    pytest.param(doubly_reparameterised, iwae, 4, id="doubly-iwae"),
    pytest.param(doubly_reparameterised, partial(iwae, beta=0.6), 3, id="doubly-tempered-iwae"),
]


@pytest.mark.parametrize(("estimator", "objective", "num_particles"), ESTIMATORS)
@pytest.mark.parametrize("program", [partial(vae, "vamp"), TwoLevel], ids=["one level", "two levels"])
def test_unbiased(program: Any, estimator: Any, objective: Any, num_particles: int) -> None:
    z = deviation(estimator, program(), objective, data(3), num_particles)
    assert unbiased(z), z


class Hooked(Messenger):
    """The single-level recipe: distributions held fixed as they score, each latent's gradient times the weight."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[Tensor] = []

    def _pyro_post_sample(self, msg: Any) -> None:
        if type(msg["fn"]).__name__ != "_Subsample":
            self.values.append(msg["value"])

    def hold(self, guide: Callable[..., Any], x: Tensor) -> None:
        with Fixed():
            guide(x)

    def multiply(self, weight: Tensor) -> None:
        for value in self.values:
            value.register_hook(lambda gradient: weight.unsqueeze(-1) * gradient)


class Fixed(Messenger):
    def _pyro_sample(self, msg: Any) -> None:
        if type(msg["fn"]).__name__ != "_Subsample":
            normal = msg["fn"].base_dist
            msg["fn"] = dist.Normal(normal.loc.detach(), normal.scale.detach()).to_event(1)


def single_level(program: Any, objective: Any, x: Tensor, num_particles: int) -> Any:
    """Tucker et al. 2019 as it is often written: right for one level, biased where a latent depends on another."""
    theta, phi = ({n: p.detach().requires_grad_() for n, p in program.named_parameters()} for _ in range(2))
    model, guide, hooked = bound(program, "model", theta), bound(program, "guide", phi), Hooked()

    def watched(x: Tensor) -> None:
        with hooked:
            guide(x)

    roles = SimpleNamespace(model=model, guide=watched)
    t = log_terms(roles, x, num_particles=num_particles, scorer=partial(hooked.hold, guide))
    weight = t.log_weight.softmax(0).detach()
    hooked.multiply(weight)
    both = torch.autograd.grad(
        (weight * t.log_weight).sum(0).mean(), [*theta.values(), *phi.values()], allow_unused=True
    )
    sides = [0.0 if g is None else g for g in both]
    return SimpleNamespace(gradients={n: sides[i] + sides[i + len(theta)] for i, n in enumerate(theta)})


def test_the_test_of_bias_has_power() -> None:
    assert unbiased(deviation(single_level, vae(), iwae, data(3), 4))
    assert not unbiased(deviation(single_level, TwoLevel(), iwae, data(3), 4))


@pytest.mark.parametrize("estimator", [plain, path, doubly_reparameterised])
def test_shared_parameters_get_the_sum_of_their_roles(estimator: Any) -> None:
    tied, x = vae("vamp"), data()
    untied = pv.VAE(copy.deepcopy(tied.prior), tied.decoder, tied.encoder)
    gradients = []
    for program in (tied, untied):
        torch.manual_seed(1)
        gradients.append(estimator(program, elbo, x).gradients)
    both, apart = gradients
    for name in [name for name in apart if name.startswith("prior.encoder.")]:
        encoder = name.removeprefix("prior.")
        assert apart[name].abs().sum() > 0
        assert apart[encoder].abs().sum() > 0
        found = both[name] if name in both else both[encoder]
        torch.testing.assert_close(found, apart[name] + apart[encoder])


# ------------------------------------------------------------------- lower variance; zero where the guide is exact


class Chain(nn.Module):
    """z2 ~ N(0, 1), z1 ~ N(a z2, 1/2), x ~ N(b z1, 1), and a guide z1 | x, z2 | z1 that starts at the posterior."""

    def __init__(self, *, error: float = 0.0) -> None:
        super().__init__()
        a, b = 0.8, 1.3
        v1 = a**2 + 0.25
        t1 = 1 / (1 / v1 + b**2)
        exact = torch.tensor([t1 * b, t1**0.5, a / v1, (1 - a**2 / v1) ** 0.5])
        self.theta, self.phi = nn.Parameter(torch.tensor([a, b])), nn.Parameter(exact * (1 + error))

    def model(self, x: Tensor) -> None:
        a, b = self.theta
        with pyro.plate("data", len(x), dim=-1):
            z2 = pyro.sample("z2", dist.Normal(x.new_zeros(()), 1.0))
            z1 = pyro.sample("z1", dist.Normal(a * z2, 0.5))
            pyro.sample("x", dist.Normal(b * z1, 1.0), obs=x)

    def guide(self, x: Tensor) -> None:
        k1, t1, k2, t2 = self.phi
        with pyro.plate("data", len(x), dim=-1):
            z1 = pyro.sample("z1", dist.Normal(k1 * x, t1))
            pyro.sample("z2", dist.Normal(k2 * z1, t2))


LOW = [
    pytest.param(path, elbo, 3, id="path-elbo"),
    pytest.param(doubly_reparameterised, elbo, 3, id="doubly-elbo"),
    pytest.param(doubly_reparameterised, iwae, 6, id="doubly-iwae"),
]


@pytest.mark.parametrize(("estimator", "objective", "num_particles"), LOW)
def test_zero_in_every_draw_where_the_guide_is_the_posterior(
    estimator: Any, objective: Any, num_particles: int
) -> None:
    program, x = Chain(), torch.linspace(-2, 2, 5)
    gradients = estimator(program, objective, x, num_particles=num_particles).gradients
    assert gradients["phi"].abs().max() < 1e-12
    assert gradients["theta"].abs().min() > 1e-3
    assert plain(program, objective, x, num_particles=num_particles).gradients["phi"].abs().min() > 1e-4


@pytest.mark.parametrize(("estimator", "objective", "num_particles"), LOW)
def test_lower_variance(estimator: Any, objective: Any, num_particles: int) -> None:
    program, x = Chain(error=0.1), torch.linspace(-2, 2, 5)
    ours, usual = (estimates(e, program, objective, x, num_particles, draws=60)[:, 2:] for e in (estimator, plain))
    assert ours.var(0).sum() < usual.var(0).sum() / 3


# ------------------------------------------------------------------------------------------------------- flows


class Affine(TransformModule):
    """y = scale x + loc with learned parameters, read when used and answered from a cache as Pyro's flows do."""

    domain = codomain = constraints.real_vector
    bijective = True

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        super().__init__(cache_size=1)
        self.loc, self.scale = nn.Parameter(loc), nn.Parameter(scale)

    def _call(self, x: Tensor) -> Tensor:
        return self.scale * x + self.loc

    def _inverse(self, y: Tensor) -> Tensor:
        return (y - self.loc) / self.scale

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return self.scale.abs().log().sum(-1).expand(x.shape[:-1])


class FlowGuide(nn.Module):
    """q(z | x): a flow over Normal(slope x, 1)."""

    def __init__(self, slope: Tensor, flow: nn.Module) -> None:
        super().__init__()
        self.slope, self.flow = nn.Parameter(slope), flow

    def forward(self, x: Tensor) -> Any:
        return dist.TransformedDistribution(dist.Normal(self.slope * x, 1.0).to_event(1), [self.flow])


def linear(guide: nn.Module) -> pv.VAE:
    """z ~ N(0, I), x ~ N(z + 1, I): the posterior is N((x - 1) / 2, I / 2)."""
    net = nn.Linear(D, D)
    with torch.no_grad():
        net.weight.copy_(torch.eye(D))
        net.bias.fill_(1.0)
    return pv.VAE(pv.priors.StandardNormal(D), pv.Conditional(net, pv.families.FixedScaleNormal(1.0)), guide)


@pytest.mark.parametrize(("estimator", "objective", "num_particles"), LOW)
def test_flow_that_is_the_posterior(estimator: Any, objective: Any, num_particles: int) -> None:
    """Zero only if the flow inverts with the parameters that score, not from its cache nor with the program's own."""
    root = torch.full((D,), 0.5**0.5)
    program = linear(FlowGuide(root.clone(), Affine(torch.full((D,), -0.5), root.clone())))
    gradients = estimator(program, objective, torch.randn(4, D), num_particles=num_particles).gradients
    assert max(gradients[name].abs().max() for name in gradients if name.startswith("encoder")) < 1e-12
    assert gradients["decoder.net.weight"].abs().min() > 1e-4


def test_autoregressive_flow_is_unbiased() -> None:
    torch.manual_seed(0)
    program = linear(FlowGuide(torch.tensor([0.3, 0.8]), T.affine_autoregressive(D, [4])))
    z = deviation(doubly_reparameterised, program, iwae, torch.randn(2, D), 3)
    assert unbiased(z), z


@pytest.mark.parametrize("estimator", [path, doubly_reparameterised])
def test_guides_without_an_inverse_are_refused(estimator: Any) -> None:
    program = linear(FlowGuide(torch.ones(D), T.Planar(D)))
    assert plain(program, elbo, torch.randn(3, D)).gradients["encoder.flow.u"].abs().sum() > 0
    with pytest.raises(pv.PyrovaeError, match="no inverse"):
        estimator(program, elbo, torch.randn(3, D))


@pytest.mark.parametrize("estimator", [path, doubly_reparameterised])
def test_a_flow_shared_by_guide_and_model_gets_both_gradients(estimator: Any) -> None:
    """One flow object in the prior and in the guide: neither may answer the other from its cache."""

    class FlowPrior(nn.Module):
        def __init__(self, flow: nn.Module) -> None:
            super().__init__()
            self.flow = flow

        def forward(self) -> Any:
            return dist.TransformedDistribution(dist.Normal(torch.zeros(D), 1.0).to_event(1), [self.flow])

    def program(shared: bool) -> pv.VAE:
        flow = Affine(torch.tensor([0.1, 0.4]), torch.tensor([0.7, 1.2]))
        vae = linear(FlowGuide(torch.tensor([0.3, 0.8]), flow))
        return pv.VAE(FlowPrior(flow if shared else copy.deepcopy(flow)), vae.decoder, vae.encoder)

    x, gradients = torch.randn(4, D), []
    for shared in (True, False):
        torch.manual_seed(2)
        gradients.append(estimator(program(shared), elbo, x).gradients)
    tied, apart = gradients
    for name in ("loc", "scale"):
        torch.testing.assert_close(
            tied[f"prior.flow.{name}"], apart[f"prior.flow.{name}"] + apart[f"encoder.flow.{name}"]
        )


# --------------------------------------------------------------------------------------------------- refusals


def test_path_refuses_curved_objectives() -> None:
    with pytest.raises(pv.PyrovaeError, match="doubly_reparameterised"):
        path(vae(), iwae, data(), num_particles=3)


@pytest.mark.parametrize("estimator", [path, doubly_reparameterised])
def test_guides_without_reparameterisation_are_refused(estimator: Any) -> None:
    class Discrete(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(6, 4)

        def model(self, x: Tensor) -> None:
            with pyro.plate("data", len(x), dim=-1):
                pyro.sample("y", dist.Categorical(logits=x.new_zeros(4)))
                pyro.sample("x", dist.Bernoulli(logits=self.net.bias.sum().expand(6)).to_event(1), obs=x)

        def guide(self, x: Tensor) -> None:
            with pyro.plate("data", len(x), dim=-1):
                pyro.sample("y", dist.Categorical(logits=self.net(x)))

    with pytest.raises(pv.PyrovaeError, match=r"'y' is not reparameterised.*Categorical"):
        estimator(Discrete(), elbo, data())


def test_closed_form_kl_is_refused_under_the_path_gradient() -> None:
    with pytest.raises(pv.PyrovaeError, match="plain"):
        path(vae(), partial(elbo, kl=closed_form_kl), data())


def test_programs_that_do_not_hold_their_modules_are_refused() -> None:
    """Their parameters cannot be exchanged, and a path gradient would be zero, silently."""
    encoder, decoder = nn.Linear(6, D), nn.Linear(D, 6)

    def model(x: Tensor) -> None:
        pyro.module("decoder", decoder)
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(x.new_zeros(D), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        pyro.module("encoder", encoder)
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(encoder(x), 1.0).to_event(1))

    program = pv.parameters.adopt(SimpleNamespace(model=model, guide=guide), data())
    assert all(gradient.abs().sum() > 0 for gradient in plain(program, elbo, data()).gradients.values())
    with pytest.raises(pv.PyrovaeError, match="does not contain"):
        path(program, elbo, data())


# --------------------------------------------------------------------------------------------------- tracing


@each_prior
@pytest.mark.parametrize(("objective", "num_particles"), [(elbo, 1), (iwae, 3)], ids=["elbo", "iwae"])
def test_loss_and_gradient_trace(prior: str, objective: Any, num_particles: int) -> None:
    """One trace serves any beta, batch, parameters and noise: no value was looked at, no constant frozen."""
    program = vae(prior)

    def step(values: Gradients, x: Tensor, beta: Tensor) -> tuple[Tensor, ...]:
        roles = SimpleNamespace(model=bound(program, "model", values), guide=bound(program, "guide", values))
        value = objective(log_terms(roles, x, num_particles=num_particles), beta=beta).mean()
        return value, *torch.autograd.grad(value, list(values.values()))

    def values(seed: int) -> Gradients:
        return {n: p.detach().clone().requires_grad_() for n, p in vae(prior, seed).named_parameters()}

    with pyro.validation_enabled(False):
        graph = make_fx(step)(values(0), data(), torch.tensor(1.0))
        assert not any("local_scalar" in str(node.target) for node in graph.graph.nodes)
        outcomes = []
        for beta, seed in ((1.0, 0), (0.3, 0), (0.3, 1)):
            args = values(seed), data(seed=seed), torch.tensor(beta)
            torch.manual_seed(9)
            traced = graph(*args)
            torch.manual_seed(9)
            for found, expected in zip(traced, step(*args), strict=True):
                torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
            outcomes.append(traced[0].item())
    assert len(set(outcomes)) == 3


def test_plain_refuses_a_guide_whose_score_would_be_left_out() -> None:
    """The gradient of a Bernoulli latent's logits would be near zero, silently, where it is not."""

    class Discrete(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.logit = nn.Parameter(torch.zeros(()))

        def model(self, x: Tensor) -> None:
            with pyro.plate("data", len(x), dim=-1):
                y = pyro.sample("y", dist.Bernoulli(0.5))
                pyro.sample("x", dist.Normal(2.0 * y, 1.0), obs=x)

        def guide(self, x: Tensor) -> None:
            with pyro.plate("data", len(x), dim=-1):
                pyro.sample("y", dist.Bernoulli(logits=self.logit), infer=self.infer)

        infer: dict[str, str] = {}  # noqa: RUF012

    program, x = Discrete(), torch.full((8,), 2.0)
    with pytest.raises(pv.PyrovaeError, match="without reparameterisation"):
        pv.gradients.plain(program, pv.objectives.elbo, x)
    program.infer = {"enumerate": "parallel"}
    gradient = pv.gradients.plain(program, pv.objectives.elbo, x).gradients["logit"]
    # d/dl [q (log 1/2 + l1) + (1 - q)(log 1/2 + l0) + H(q)] at q = 1/2: (l1 - l0) / 4, with l1 - l0 = 2
    torch.testing.assert_close(gradient, torch.tensor(0.5))
