"""What cannot be combined is refused when the program is built, with what would work; what can be is left alone."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

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


given = [LATENT, LABELS]
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
