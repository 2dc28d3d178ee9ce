"""Convenience constructors: a sensible program from a data set's description, one slot to change at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.distributions import constraints

from pyrovae import families, networks, priors
from pyrovae.conditional import Conditional
from pyrovae.data import Data
from pyrovae.errors import PyrovaeError
from pyrovae.families import Family
from pyrovae.programs import VAE

# A prior, or a recipe: a function of the encoder and the data that makes one.
PriorOrRecipe = nn.Module | Callable[[Conditional, Data], nn.Module]


@dataclass(frozen=True)
class Vamp:
    """A recipe for ``priors.VampPrior``: the encoder at pseudo-inputs that start at the first training data."""

    num_pseudo_inputs: int = 500

    def __call__(self, encoder: Conditional, data: Data) -> nn.Module:
        split, count = data.train, self.num_pseudo_inputs
        return priors.VampPrior(encoder, (split.x[:count], *(g[:count] for g in split.given)))


@dataclass(frozen=True)
class ConditionalNormal:
    """A recipe for p(z | given) = Normal(loc(given), scale(given)), by an MLP of the conditioning variables."""

    hidden: Sequence[int] = (64,)

    def __call__(self, encoder: Conditional, data: Data) -> nn.Module:
        given = _given_shapes(data)
        if not given:
            raise PyrovaeError("a conditional prior needs conditioning variables: use data.conditional()")
        (latent,) = _latent_shape(encoder)
        return Conditional(networks.MLP(given, *self.hidden, 2 * latent), families.normal)


def vae(
    data: Data,
    *,
    latent: int = 40,
    hidden: Sequence[int] = (300, 300),
    prior: PriorOrRecipe | None = None,
    likelihood: Family | None = None,
    posterior: Family = families.normal,
    network: type[networks.MLP] = networks.GatedMLP,
) -> VAE:
    """A VAE with dense networks for ``data``; conditional where the data come with conditioning variables.

    Args:
        data: a data set; its event shape, support, mean and ``given`` shape the program.
        latent: the dimension of z.
        hidden: the hidden widths of the encoder; the decoder mirrors them.
        prior: a prior, or a recipe such as ``recipes.Vamp(500)``; standard normal by default.
        likelihood: the decoder's family; by default bernoulli for binarized data and a normal with a learned shared
            scale for grey values.
        posterior: the encoder's family.
        network: ``networks.GatedMLP`` or ``networks.MLP``.

    The decoder's output bias starts at the training mean, which saves the first epochs.

    Example:
        >>> import pyrovae as pv
        >>> data = pv.data.load("digits")
        >>> vae = pv.vae(data, latent=8)
        >>> swapped = pv.vae(data, latent=8, prior=pv.recipes.Vamp(100))
    """
    family = likelihood or _default_likelihood(data)
    shapes = _Shapes(data, latent, family, posterior)
    encoder = Conditional(network(shapes.encoder_in, *hidden, shapes.encoder_out), posterior)
    decoder = network(shapes.decoder_in, *reversed(hidden), shapes.decoder_out)
    return _assemble(data, latent, prior, encoder, decoder, family)


def conv_vae(
    data: Data,
    *,
    latent: int = 40,
    channels: Sequence[int] = (32, 64),
    hidden: int = 256,
    prior: PriorOrRecipe | None = None,
    likelihood: Family | None = None,
    posterior: Family = families.normal,
) -> VAE:
    """A VAE with convolutional networks, for images of any size and channel count.

    Args: as for ``vae``; ``channels`` of the stages, each of which halves the image, and ``hidden``, the dense width.
    """
    family = likelihood or _default_likelihood(data)
    shapes = _Shapes(data, latent, family, posterior)
    options: dict[str, Any] = {"channels": channels, "hidden": hidden}
    encoder = Conditional(networks.ConvEncoder(shapes.encoder_in, shapes.encoder_out, **options), posterior)
    decoder = networks.ConvDecoder(shapes.decoder_in, shapes.decoder_out, **options)
    return _assemble(data, latent, prior, encoder, decoder, family)


class _Shapes:
    """What goes in and out of the networks: k numbers per element, stacked along the first event dimension."""

    def __init__(self, data: Data, latent: int, likelihood: Family, posterior: Family) -> None:
        if latent < 1:
            raise PyrovaeError(f"the number of latent dimensions must be at least 1; got {latent}")
        given, event = _given_shapes(data), tuple(data.event_shape)
        self.encoder_in: list[networks.Shape] = [event, *given]
        self.encoder_out = posterior.num_params * latent
        self.decoder_in: list[networks.Shape] = [latent, *given]
        self.decoder_out = (likelihood.num_params * event[0], *event[1:])


def _given_shapes(data: Data) -> list[networks.Shape]:
    return [tuple(g.shape[1:]) for g in data.train.given]


def _latent_shape(encoder: Conditional) -> tuple[int]:
    (size,) = encoder.net.out_shape  # type: ignore[misc]
    return (size // getattr(encoder.family, "num_params", 1),)


def _default_likelihood(data: Data) -> Family:
    return families.bernoulli if data.support is constraints.boolean else families.SharedScaleNormal()


def _assemble(
    data: Data,
    latent: int,
    prior: PriorOrRecipe | None,
    encoder: Conditional,
    decoder: networks.Network,
    family: Family,
) -> VAE:
    decoder.start_at(family.params_at(data.mean))
    if prior is None:
        prior = priors.StandardNormal(latent)
    made = prior if isinstance(prior, nn.Module) else prior(encoder, data)
    return VAE(made, Conditional(decoder, family), encoder)
