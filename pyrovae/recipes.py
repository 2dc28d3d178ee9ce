"""Convenience constructors: a sensible program from a data set's description, one slot to change at a time."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.distributions import constraints

from pyrovae import families, networks, priors, readings
from pyrovae.conditional import Conditional
from pyrovae.data import Data
from pyrovae.errors import PyrovaeError
from pyrovae.families import Family
from pyrovae.programs import VAE

Observing = Callable[[nn.Module], nn.Module]


class PriorRecipe(ABC):
    """From the encoder and the data to a prior, where a prior needs to know them."""

    @abstractmethod
    def __call__(self, encoder: Conditional, data: Data, latent: int) -> nn.Module:
        """The prior of a program with this encoder and so many latent dimensions."""


@dataclass(frozen=True)
class Vamp(PriorRecipe):
    """A recipe for ``priors.VampPrior``: the encoder at pseudo-inputs that start at the first training data."""

    num_pseudo_inputs: int = 500

    def __call__(self, encoder: Conditional, data: Data, latent: int) -> nn.Module:
        split, count = data.train, self.num_pseudo_inputs
        if not split.x.is_floating_point():
            raise PyrovaeError("pseudo-inputs are learned real numbers, and these data are tokens: use another prior")
        x = torch.where(data.seen(split.x[:count]), split.x[:count], data.mean)
        return priors.VampPrior(encoder, (x, *(g[:count] for g in split.given)))


@dataclass(frozen=True)
class ConditionalNormal(PriorRecipe):
    """A recipe for p(z | given) = Normal(loc(given), scale(given)), by an MLP of the conditioning variables."""

    hidden: Sequence[int] = (64,)

    def __call__(self, encoder: Conditional, data: Data, latent: int) -> nn.Module:
        given = _given_shapes(data)
        if not given:
            raise PyrovaeError("a conditional prior needs conditioning variables: use data.conditional()")
        return Conditional(networks.MLP(given, *self.hidden, 2 * latent), families.normal)


class Recipe(ABC):
    """From a data set's description to a program: the initial weights come from torch's global generator."""

    @abstractmethod
    def __call__(self, data: Data) -> nn.Module:
        """A program for such data."""


@dataclass(frozen=True)
class Dense(Recipe):
    """A VAE with dense networks; conditional where the data come with conditioning variables.

    The decoder's output bias starts at the training mean, which saves the first epochs.

    Args:
        latent: the dimension of z.
        hidden: the hidden widths of the encoder; the decoder mirrors them.
        prior: a prior, or a recipe such as ``recipes.Vamp(500)``; standard normal by default.
        likelihood: the decoder's family. By default bernoulli for bits, a normal with one learned scale for grey values
            and with one for each column of a table, which start at the data's spread, categorical for tokens, poisson
            for counts.
        posterior: the encoder's family; by default a normal with a scale per element.
        observation: wraps the decoder where less is seen than it describes: ``pyrovae.Missing`` for data with missing
            values (the encoder then reads values and mask), ``functools.partial(pyrovae.Dequantized, num_levels=256)``.
        network: ``networks.GatedMLP`` or ``networks.MLP``.
    """

    latent: int = 40
    hidden: Sequence[int] = (300, 300)
    prior: nn.Module | PriorRecipe | None = None
    likelihood: Family | None = None
    posterior: Family | None = None
    observation: Observing | None = None
    network: type[networks.MLP] = networks.GatedMLP

    def __call__(self, data: Data) -> VAE:
        shapes = _Shapes(data, self.latent, self.likelihood, self.posterior, self.observation)
        encoder = shapes.reading(self.network(shapes.encoder_in, *self.hidden, shapes.encoder_out))
        decoder = self.network(shapes.decoder_in, *reversed(self.hidden), shapes.decoder_out)
        return shapes.program(self.prior, encoder, decoder)


@dataclass(frozen=True)
class Convolutional(Recipe):
    """A VAE with convolutional networks, for images of any size and channel count.

    Args:
        latent: the dimension of z.
        channels: of the stages, from the image inwards; each stage halves the image.
        hidden: width of the dense layer between the convolutions and z.
        prior, likelihood, posterior, observation: as for ``Dense``.
    """

    latent: int = 40
    channels: Sequence[int] = (32, 64)
    hidden: int = 256
    prior: nn.Module | PriorRecipe | None = None
    likelihood: Family | None = None
    posterior: Family | None = None
    observation: Observing | None = None

    def __call__(self, data: Data) -> VAE:
        shapes = _Shapes(data, self.latent, self.likelihood, self.posterior, self.observation)
        sizes: dict[str, Any] = {"channels": self.channels, "hidden": self.hidden}
        encoder = shapes.reading(networks.ConvEncoder(shapes.encoder_in, shapes.encoder_out, **sizes))
        decoder = networks.ConvDecoder(shapes.decoder_in, shapes.decoder_out, **sizes)
        return shapes.program(self.prior, encoder, decoder)


def vae(data: Data, **options: Any) -> VAE:
    """A VAE with dense networks for ``data``; conditional where the data come with conditioning variables.

    Args:
        data: a data set; its event shape, support, mean and ``given`` shape the program.
        options: those of ``Dense``: latent, hidden, prior, likelihood, posterior, observation, network.

    Example:
        >>> import pyrovae as pv
        >>> data = pv.data.load("digits")
        >>> vae = pv.vae(data, latent=8)
        >>> swapped = pv.vae(data, latent=8, prior=pv.recipes.Vamp(100))
    """
    return Dense(**options)(data)


def conv_vae(data: Data, **options: Any) -> VAE:
    """A VAE with convolutional networks for ``data``, images of any size and channel count.

    Args:
        data: as for ``vae``.
        options: those of ``Convolutional``: latent, channels, hidden, prior, likelihood, posterior, observation.
    """
    return Convolutional(**options)(data)


class _Shapes:
    """What goes in and out of the networks: k numbers per element, stacked along the first event dimension."""

    def __init__(
        self,
        data: Data,
        latent: int,
        likelihood: Family | None,
        posterior: Family | None,
        observation: Observing | None,
    ) -> None:
        if latent < 1:
            raise PyrovaeError(f"the number of latent dimensions must be at least 1; got {latent}")
        if data.missing and observation is None:
            raise PyrovaeError(f"values of {data.name} are missing: say observation=pyrovae.Missing, or impute them")
        self.data, self.latent, self.observation = data, latent, observation
        self.likelihood = likelihood or _default_likelihood(data)
        self.posterior = posterior or families.normal
        given, event = _given_shapes(data), tuple(data.event_shape)
        self.encoder_in: list[networks.Shape] = [self._read(event), *given]
        self.encoder_out = families.out_shape(self.posterior, (latent,))
        self.decoder_in: list[networks.Shape] = [latent, *given]
        self.decoder_out = families.out_shape(self.likelihood, event)

    def _read(self, event: tuple[int, ...]) -> tuple[int, ...]:
        """The shape in which the encoder reads x."""
        if self.data.num_levels:  # a missing token is one of no level
            return (*event, self.data.num_levels)
        return (2 * event[0], *event[1:]) if self.data.missing else event

    def reading(self, net: networks.Network) -> nn.Module:
        """The encoder's network, with x read as its kind asks for."""
        if self.data.num_levels:
            return readings.OneHot(net, self.data.num_levels)
        read = readings.LogCounts(net) if self.data.kind == "counts" else net
        return readings.ValuesAndMask(read) if self.data.missing else read

    def program(self, prior: nn.Module | PriorRecipe | None, encoder: nn.Module, decoder: networks.Network) -> VAE:
        """The parts put together, the decoder starting at the training mean."""
        if isinstance(self.likelihood, Family):  # a plain function does not say where to start
            decoder.start_at(self.likelihood.params_at(self.data.mean))
        posterior = Conditional(encoder, self.posterior)
        if prior is None:
            prior = priors.StandardNormal(self.latent)
        made = prior if isinstance(prior, nn.Module) else prior(posterior, self.data, self.latent)
        described: nn.Module = Conditional(decoder, self.likelihood)
        return VAE(made, described if self.observation is None else self.observation(described), posterior)


def _given_shapes(data: Data) -> list[networks.Shape]:
    return [tuple(g.shape[1:]) for g in data.train.given]


def _default_likelihood(data: Data) -> Family:
    if data.support is constraints.boolean:
        return families.bernoulli
    if data.num_levels:
        return families.Categorical(data.num_levels)
    if data.kind == "counts":
        return families.poisson
    # A scale for each element would let the density grow without bound where a column repeats a value.
    return families.SharedScaleNormal(_spread(data), shape=data.event_shape if data.kind == "table" else ())


def _spread(data: Data) -> float:
    """The training data's standard deviation about their mean: the scale of a decoder that says the mean, as it does
    at the start. From 1 a scale of grey values would take thousands of steps down."""
    variance = (data.train.x - data.mean).square().nanmean().item()
    return max(math.sqrt(variance), 10 * families.MIN_SCALE)
