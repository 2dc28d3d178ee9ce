"""What cannot be combined is refused when the program is built, with what would work; what can be is left alone."""

from __future__ import annotations

from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints

import pyrovae as pv
from pyrovae import families, priors

WIDTH, LATENT, LABELS = 4, 2, 3


def part(in_shapes: Any, family: Any, width: int) -> pv.Conditional:
    return pv.Conditional(pv.networks.MLP(in_shapes, 5, families.out_shape(family, (width,))), family)


def encoder(family: Any = families.normal, in_shapes: Any = WIDTH, latent: int = LATENT) -> pv.Conditional:
    return part(in_shapes, family, latent)


def decoder(in_shapes: Any = LATENT, family: Any = families.bernoulli) -> pv.Conditional:
    return part(in_shapes, family, WIDTH)


class Flow(priors.Prior):
    """A prior without an inverse."""

    def __init__(self) -> None:
        super().__init__()
        self.flow = dist.transforms.Planar(LATENT)

    def forward(self, *given: Any) -> Any:
        return dist.TransformedDistribution(dist.Normal(torch.zeros(LATENT), 1.0).to_event(1), [self.flow])


class Undeclared(priors.Prior):
    """Without its event dimension."""

    def forward(self, *given: Any) -> Any:
        return dist.Normal(torch.zeros(LATENT), 1.0)


class Fixed(priors.Prior):
    """A prior of the user's: any distribution."""

    def __init__(self, distribution: Any) -> None:
        super().__init__()
        self.distribution = distribution

    def forward(self, *given: Any) -> Any:
        return self.distribution


def box(low: float, high: float) -> Any:
    return dist.Uniform(torch.full((LATENT,), low), torch.full((LATENT,), high)).to_event(1)


RELAXED = families.RelaxedOneHotCategorical(0.5)
STANDARD = priors.StandardNormal(LATENT)

REFUSED: dict[str, tuple[Any, str]] = {  # what is built, and the message
    "latents of another width": (
        lambda: pv.VAE(priors.StandardNormal(3), decoder(), encoder()),
        r"latents of shape \(3,\), the encoder of \(2,\)",
    ),
    "an event not declared": (lambda: pv.VAE(Undeclared(), decoder(), encoder()), r"with \.to_event\(1\)"),
    "a discrete prior, a normal posterior": (
        lambda: pv.VAE(priors.Categorical(LATENT), decoder(), encoder()),
        "must reach every point",
    ),
    "a relaxed posterior, a discrete prior": (
        lambda: pv.VAE(priors.Categorical(LATENT), decoder(), encoder(RELAXED)),
        "needs a relaxed prior",
    ),
    "a relaxed posterior, a normal prior": (lambda: pv.VAE(STANDARD, decoder(), encoder(RELAXED)), "a relaxed prior"),
    "a normal posterior, a relaxed prior": (
        lambda: pv.VAE(priors.Learned(RELAXED, LATENT), decoder(), encoder()),
        "must reach every point",
    ),
    "a prior without an inverse": (lambda: pv.VAE(Flow(), decoder(), encoder()), "has no inverse"),
    "a decoder of other latents": (
        lambda: pv.VAE(STANDARD, decoder(3), encoder()),
        r"reads latents of shape \(3,\), and prior and encoder are of \(2,\)",
    ),
    "a decoder of other latents, dequantized": (
        lambda: pv.VAE(STANDARD, pv.Dequantized(decoder(3, families.normal), num_levels=8), encoder()),
        r"reads latents of shape \(3,\)",
    ),
    "a flow of another width in a prior": (
        lambda: pv.VAE(priors.Flow(STANDARD, pv.flows.affine_coupling(3)), decoder(), encoder()),
        r"of 3 dimensions, the base distribution has event shape \(2,\)",
    ),
    "a flow with a context in a prior": (
        lambda: pv.VAE(priors.Flow(STANDARD, pv.flows.affine_coupling(LATENT, context=3)), decoder(), encoder()),
        "built for a context of 3 numbers and gets 0",
    ),
    "a conditional transform in a prior": (
        lambda: pv.VAE(priors.Flow(STANDARD, [dist.transforms.conditional_planar(LATENT, 3)]), decoder(), encoder()),
        "is conditional, and nothing is there",
    ),
    "a prior without an inverse on a base that is given": (
        lambda: pv.VAE(
            priors.Flow(part(LABELS, families.normal, LATENT), pv.flows.planar(LATENT)),
            decoder([LATENT, LABELS]),
            encoder(in_shapes=[WIDTH, LABELS]),
        ),
        "has no inverse",
    ),
    "a bounded prior, a normal posterior": (
        lambda: pv.VAE(Fixed(box(0.0, 1.0)), decoder(), encoder()),
        "must reach every point",
    ),
    "a box and another": (
        lambda: pv.VAE(Fixed(box(0.0, 2.0)), decoder(), encoder(families.beta)),
        "must reach every point",
    ),
    "one factor of other latents": (
        lambda: pv.VAE(STANDARD, pv.Product({"a": decoder(), "b": decoder(3)}), encoder()),
        r"reads latents of shape \(3,\)",
    ),
    "a label for the decoder only": (
        lambda: pv.VAE(STANDARD, decoder([LATENT, LABELS]), encoder()),
        r"decoder \[\(3,\)\], encoder \[\]",
    ),
    "a label for the encoder only": (
        lambda: pv.VAE(STANDARD, decoder(), encoder(in_shapes=[WIDTH, LABELS])),
        r"decoder \[\], encoder \[\(3,\)\]",
    ),
    "a label for the prior only": (
        lambda: pv.VAE(part(LABELS, families.normal, LATENT), decoder(), encoder()),
        r"prior \[\(3,\)\], decoder \[\], encoder \[\]",
    ),
    "a label for one factor": (
        lambda: pv.VAE(STANDARD, pv.Product([decoder([LATENT, LABELS]), decoder()]), encoder()),
        r"decoder \[\(3,\)\], decoder \[\]",
    ),
    "labels of different widths": (
        lambda: pv.VAE(STANDARD, decoder([LATENT, LABELS]), encoder(in_shapes=[WIDTH, 7])),
        r"decoder \[\(3,\)\], encoder \[\(7,\)\].*one shape per parent",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_when_built(name: str) -> None:
    build, message = REFUSED[name]
    with pytest.raises(pv.PyrovaeError, match=message):
        build()


class Point(nn.Module):
    """An autoencoder's encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(WIDTH, LATENT)

    def forward(self, x: Tensor) -> Any:
        return dist.Delta(self.net(x)).to_event(1)


class Users(nn.Module):
    """A decoder that shows nothing before there are data."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(LATENT, WIDTH)

    def forward(self, z: Tensor) -> Any:
        return dist.Bernoulli(logits=self.net(z)).to_event(1)


class Unsupported(TorchDistribution):
    """A normal one that does not say where it lies, which torch and Pyro leave to it."""

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(self, loc: Tensor) -> None:
        self.inner = dist.Normal(loc, 1.0).to_event(1)
        super().__init__(self.inner.batch_shape, self.inner.event_shape, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return Unsupported(self.inner.base_dist.loc.expand(*batch_shape, LATENT))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.inner.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.inner.log_prob(value)


class Undecided(Unsupported):
    support = constraints.dependent

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return Undecided(self.inner.base_dist.loc.expand(*batch_shape, LATENT))


def rates(width: int, last: nn.Module) -> Any:
    """A network whose last layer is no linear one, and that says what it gives."""

    class Rates(nn.Sequential):
        out_shape = (LATENT,)

    return Rates(nn.Linear(width, LATENT), last)


class Embedding(pv.networks.MLP):
    """Reads labels, although the network within reads what they become."""

    def forward(self, z: Any, *labels: Any) -> Tensor:
        return super().forward(z, torch.zeros(*z.shape[:-1], 7))


class Widened(pv.Conditional):
    """Gives something else than its family."""

    def forward(self, *parents: Any) -> Any:
        return dist.Normal(super().forward(*parents).mean[..., :LATENT], 1.0).to_event(1)


def window(loc: Tensor) -> Any:
    """Where it lies depends on x."""
    return dist.Uniform(loc - 0.1, loc + 0.1)


COUPLING = pv.flows.affine_coupling(LATENT, 2, hidden=(4,))
LEGAL: dict[str, Any] = {
    "the plainest": lambda: pv.VAE(STANDARD, decoder(), encoder()),
    "a user's decoder": lambda: pv.VAE(STANDARD, Users(), encoder()),
    "a user's network": lambda: pv.VAE(
        STANDARD, pv.Conditional(nn.Linear(LATENT, WIDTH), families.bernoulli), encoder()
    ),
    "points, an autoencoder": lambda: pv.VAE(STANDARD, decoder(), Point()),
    "relaxed": lambda: pv.VAE(priors.Learned(RELAXED, LATENT), decoder(), encoder(RELAXED)),
    "other temperatures": lambda: pv.VAE(
        priors.Learned(families.RelaxedOneHotCategorical(0.9), LATENT), decoder(), encoder(RELAXED)
    ),
    "constants": lambda: pv.VAE(
        pv.Conditional(pv.networks.Constant(2 * LATENT), families.normal),
        pv.Conditional(pv.networks.Constant(WIDTH), families.bernoulli),
        encoder(),
    ),
    "full covariances": lambda: pv.VAE(priors.FullNormalMixture(LATENT, 2), decoder(), encoder(families.full_normal)),
    "a box and a beta posterior": lambda: pv.VAE(Fixed(box(0.0, 1.0)), decoder(), encoder(families.beta)),
    "a box and a logit-normal posterior": lambda: pv.VAE(
        Fixed(box(0.0, 1.0)), decoder(), encoder(families.logit_normal)
    ),
    "a box and one that moves": lambda: pv.VAE(Fixed(box(-9.0, 9.0)), decoder(), encoder(window)),
    "a prior without a support": lambda: pv.VAE(Fixed(Unsupported(torch.zeros(LATENT))), decoder(), encoder()),
    "a support that depends": lambda: pv.VAE(Fixed(Undecided(torch.zeros(LATENT))), decoder(), encoder()),
    "a positive scale from the network": lambda: pv.VAE(
        Fixed(dist.Gamma(torch.ones(LATENT), 1.0).to_event(1)),
        decoder(),
        pv.Conditional(rates(WIDTH, nn.Softplus()), lambda a: dist.Gamma(a, 1.0)),
    ),
    "probabilities from the network": lambda: pv.VAE(
        priors.Categorical(LATENT),
        decoder(),
        pv.Conditional(rates(WIDTH, nn.Softmax(-1)), lambda p: dist.OneHotCategorical(p)),
    ),
    "a conditional with its own forward": lambda: pv.VAE(
        STANDARD, decoder(), Widened(pv.networks.MLP(WIDTH, 5, 4 * LATENT), families.normal)
    ),
    "a network with its own forward": lambda: pv.VAE(
        STANDARD, pv.Conditional(Embedding([LATENT, 7], 5, WIDTH), families.bernoulli), encoder()
    ),
    "a flow on a mixture": lambda: pv.VAE(priors.Flow(priors.NormalMixture(LATENT, 2), COUPLING), decoder(), encoder()),
    "a mixture of normals": lambda: pv.VAE(priors.Laplace(LATENT), decoder(), encoder(families.NormalMixture(2))),
}


@pytest.mark.parametrize("name", LEGAL)
def test_it_is_legal_and_trains(name: str) -> None:
    x = torch.rand(8, WIDTH).round()
    run = pv.fit(LEGAL[name](), x, epochs=1, compile=False, device="cpu", progress=False)
    assert torch.tensor(run.column("objective")).isfinite().all()


def test_an_autoencoder_trains_and_has_no_evidence() -> None:
    program = LEGAL["points, an autoencoder"]()
    with pytest.raises(pv.PyrovaeError, match="as an autoencoder does"):
        pv.log_marginal(program, torch.rand(4, WIDTH).round(), num_particles=5)


@pytest.mark.parametrize("kind", ["vamp", "exemplars", "flow"])
def test_priors_that_read_what_is_given(kind: str) -> None:
    x, y = torch.rand(5, WIDTH).round(), torch.eye(LABELS)[[0, 1, 2, 0, 1]]
    q = encoder(in_shapes=[WIDTH, LABELS])
    prior = {
        "vamp": lambda: priors.VampPrior(q, (x[:3], y[:3])),
        "exemplars": lambda: priors.ExemplarPrior(q, (x[:3], y[:3])),
        "flow": lambda: priors.Flow(part(LABELS, families.normal, LATENT), COUPLING),
    }[kind]()
    program = pv.VAE(prior, decoder([LATENT, LABELS]), q)
    assert pv.fit(program, (x, y), epochs=1, compile=False, device="cpu", progress=False).history


def test_an_observation_of_the_users_may_be_of_a_tree() -> None:
    """Values and how many of them there are, under one likelihood of the values."""

    class Counted(pv.Observation):
        def observe(self, name: str, likelihood: Any, x: Any) -> Any:
            return pyro.sample(name, likelihood, obs=x["values"])

    net = pv.networks.MLP([1, WIDTH], 5, 2 * LATENT)  # in the order of the leaves
    program = pv.VAE(STANDARD, Counted(decoder()), pv.Conditional(net, families.normal))
    x = {"length": torch.ones(3, 1), "values": torch.rand(3, WIDTH).round()}
    assert pv.log_terms(program, x).log_px_z.shape == (1, 3)


def test_building_leaves_the_moments_of_a_normalisation() -> None:
    norm = dist.transforms.BatchNorm(WIDTH)
    family = families.Flow(families.normal, [norm])
    before = norm.moving_mean.clone(), norm.moving_variance.clone()
    pv.VAE(STANDARD, decoder(family=family), encoder())
    assert torch.equal(norm.moving_mean, before[0]) and torch.equal(norm.moving_variance, before[1])


@pytest.mark.parametrize("prior", [STANDARD, priors.Normal(LATENT), None], ids=["fixed", "learned", "given"])
def test_labels_in_encoder_and_decoder(prior: Any) -> None:
    """And in the prior, or not."""
    prior = prior or part(LABELS, families.normal, LATENT)
    program = pv.VAE(prior, decoder([LATENT, LABELS]), encoder(in_shapes=[WIDTH, LABELS]))
    x, y = torch.rand(5, WIDTH).round(), torch.eye(LABELS)[[0, 1, 2, 0, 1]]
    assert pv.log_terms(program, x, y).log_pz.shape == (1, 5)


def test_an_encoder_of_a_tree_reads_each_of_its_leaves() -> None:
    class OfTree(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = encoder(in_shapes=[WIDTH, WIDTH])

        def forward(self, x: Any) -> Any:
            return self.inner(*x.values())

        def example(self) -> Any:
            return self.inner.example()

    program = pv.VAE(STANDARD, pv.Product({"a": decoder(), "b": decoder()}), OfTree())
    x = {"a": torch.rand(3, WIDTH).round(), "b": torch.rand(3, WIDTH).round()}
    assert pv.log_terms(program, x).log_px_z.shape == (1, 3)


class Dropping(pv.networks.MLP):
    """With dropout, which draws random numbers in training mode."""

    def _layer(self, n: int, m: int) -> nn.Module:
        return nn.Sequential(nn.Linear(n, m), nn.Dropout(0.5))


@pytest.mark.parametrize("kind", ["vamp", "exemplars", "coupling"])
def test_building_draws_nothing_and_changes_no_mode(kind: str) -> None:
    x = torch.rand(6, WIDTH).round()
    q = pv.Conditional(Dropping(WIDTH, 5, 2 * LATENT), families.normal)
    q.net.hidden[0][0].eval()
    made: Any = {
        "vamp": lambda: priors.VampPrior(q, x),
        "exemplars": lambda: priors.ExemplarPrior(q, x),
        "coupling": lambda: Invertible(),
    }[kind]
    prior, likelihood = made(), decoder()
    before, modes = torch.get_rng_state(), [m.training for m in q.modules()]
    program = pv.VAE(prior, likelihood, q)
    assert torch.equal(torch.get_rng_state(), before)
    assert [m.training for m in q.modules()] == modes and program.training and prior.training


class Invertible(priors.Prior):
    def __init__(self) -> None:
        super().__init__()
        self.flow = dist.transforms.affine_coupling(LATENT, [4])

    def forward(self, *given: Any) -> Any:
        return dist.TransformedDistribution(dist.Normal(torch.zeros(LATENT), 1.0).to_event(1), [self.flow])
