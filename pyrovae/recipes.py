"""Convenience constructors: a sensible program from a data set's description, one slot to change at a time."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import constraints

from pyrovae import families, networks, priors, readings
from pyrovae.autoregressive import Autoregressive
from pyrovae.conditional import Conditional
from pyrovae.data import Data
from pyrovae.errors import PyrovaeError
from pyrovae.families import Family
from pyrovae.nearest import nearest
from pyrovae.observations.base import Observation
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
        if not all(g.is_floating_point() for g in split.given):
            raise PyrovaeError(
                "pseudo-labels are learned real numbers: make labels one-hot, as data.conditional() does"
            )
        x = torch.where(data.seen(split.x[:count]), split.x[:count], data.mean)
        return priors.VampPrior(encoder, (x, *(g[:count] for g in split.given)))


@dataclass(frozen=True)
class Exemplar(PriorRecipe):
    """A recipe for ``priors.ExemplarPrior``: the exemplars are the first training data.

    Args:
        num_exemplars: at most; K.
        num_sampled: how many of them a training step takes; by default all.
    """

    num_exemplars: int = 500
    num_sampled: int | None = None

    def __call__(self, encoder: Conditional, data: Data, latent: int) -> nn.Module:
        split, count = data.train, self.num_exemplars
        return priors.ExemplarPrior(
            encoder, (split.x[:count], *(g[:count] for g in split.given)), num_sampled=self.num_sampled
        )


@dataclass(frozen=True)
class ConditionalPrior(PriorRecipe):
    """A recipe for p(z | given) = family(net(given)), by an MLP of the conditioning variables.

    Args:
        hidden: the MLP's hidden widths.
        family: of the latents; by default a normal with a scale per element.
        readers: as for ``Dense``.
    """

    hidden: Sequence[int] = (64,)
    family: Family | None = None
    readers: Sequence[nn.Module | None] = ()

    def __call__(self, encoder: Conditional, data: Data, latent: int) -> nn.Module:
        given = data.train.given
        if not given:
            raise PyrovaeError("a conditional prior needs conditioning variables: use data.conditional()")
        family = self.family or families.normal
        net = networks.MLP(
            readings.shapes_read(self.readers, given), *self.hidden, families.out_shape(family, (latent,))
        )
        if isinstance(family, Family):
            net.start_at(family.standard((latent,)))
        return Conditional(_reading(net, *self.readers), family)


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
            values, ``functools.partial(pyrovae.Missing, sentinel=-1)`` for tokens with such (the encoder then reads
            values and mask), ``functools.partial(pyrovae.Dequantized, num_levels=256)``.
        network: ``networks.GatedMLP``, ``networks.MLP`` or ``networks.ResidualMLP``.
        readers: how encoder and decoder read the conditioning variables, one for each: ``torch.nn.Embedding(10, 8)`` or
            ``readings.OneHot(10)`` for integer labels, which both parts share; without one a variable is read as it is.
    """

    latent: int = 40
    hidden: Sequence[int] = (300, 300)
    prior: nn.Module | PriorRecipe | None = None
    likelihood: Family | None = None
    posterior: Family | None = None
    observation: Observing | None = None
    network: type[networks.Network] = networks.GatedMLP
    readers: Sequence[nn.Module | None] = ()

    def __call__(self, data: Data) -> VAE:
        shapes = _Shapes(data, self.latent, self.likelihood, self.posterior, self.readers, self.observation)
        if any(self.network is kind for pair in _CONVOLUTIONAL.values() for kind in pair):
            raise PyrovaeError(f"{self.network.__name__} is no dense network: pyrovae.conv_vae has such")
        encoder = self.network(shapes.encoder_in, *self.hidden, shapes.encoder_out)
        decoder = self.network(shapes.decoder_in, *reversed(self.hidden), shapes.decoder_out)
        return shapes.program(self.prior, encoder, decoder)


@dataclass(frozen=True)
class Convolutional(Recipe):
    """A VAE with convolutional networks, for images of any size and channel count.

    Args:
        latent: the dimension of z.
        channels: of the stages, from the image inwards; each stage halves the image.
        hidden: width of the dense layer between the convolutions and z.
        prior, likelihood, posterior, observation, readers: as for ``Dense``.
        blocks: residual blocks in each stage, ``networks.ResidualConvEncoder``; none by default.
    """

    latent: int = 40
    channels: Sequence[int] = (32, 64)
    hidden: int = 256
    prior: nn.Module | PriorRecipe | None = None
    likelihood: Family | None = None
    posterior: Family | None = None
    observation: Observing | None = None
    readers: Sequence[nn.Module | None] = ()
    blocks: int = 0

    def __call__(self, data: Data) -> VAE:
        shapes = _Shapes(data, self.latent, self.likelihood, self.posterior, self.readers, self.observation)
        sizes: dict[str, Any] = {"channels": self.channels, "hidden": self.hidden}
        if self.blocks:
            sizes["blocks"] = self.blocks
        encoder, decoder = _CONVOLUTIONAL[self.blocks > 0]
        return shapes.program(
            self.prior, encoder(shapes.encoder_in, shapes.encoder_out, **sizes),
            decoder(shapes.decoder_in, shapes.decoder_out, **sizes),
        )  # fmt: skip


_CONVOLUTIONAL = {
    False: (networks.ConvEncoder, networks.ConvDecoder),
    True: (networks.ResidualConvEncoder, networks.ResidualConvDecoder),
}


@dataclass(frozen=True)
class Recurrent(Recipe):
    """A VAE of texts: p(x | z) = prod_t P(x_t | x_<t, z), with recurrent networks (Bowman et al. 2016).

    The decoder's output bias starts at the frequencies of the tokens.

    Args:
        latent: the dimension of z.
        width: of the networks' states.
        embedding: the dimension of the vectors that tokens become, in encoder and decoder each their own.
        word_dropout: in training, the share of the tokens before x_t that the decoder is not shown. Without it, or a
            warm-up of beta, a decoder of texts learns to do without z.
        prior, posterior, readers: as for ``Dense``.
    """

    latent: int = 32
    width: int = 256
    embedding: int = 64
    word_dropout: float = 0.0
    prior: nn.Module | PriorRecipe | None = None
    posterior: Family | None = None
    readers: Sequence[nn.Module | None] = ()

    def __call__(self, data: Data) -> VAE:
        if data.num_levels is None:
            raise PyrovaeError(
                f"{data.name} holds {data.kind}, and a recurrent program is of tokens: use recipes.Dense"
            )
        levels = nn.Embedding(data.num_levels, self.embedding), nn.Embedding(data.num_levels, self.embedding)
        shapes = _Shapes(data, self.latent, None, self.posterior, self.readers, reader=levels[0])
        encoder = networks.RecurrentEncoder(shapes.encoder_in, shapes.encoder_out, width=self.width)
        decoder = networks.RecurrentDecoder(
            [shapes.encoder_in[0], *shapes.decoder_in], shapes.decoder_out, width=self.width,
            word_dropout=self.word_dropout,
        )  # fmt: skip
        decoder.start_at(_log_frequencies(data))
        likelihood = Autoregressive(
            _reading(decoder, levels[1], shapes.latent_reader, *self.readers), shapes.likelihood
        )
        return shapes.assembled(self.prior, encoder, likelihood)


def _log_frequencies(data: Data) -> Tensor:
    """Of each token, at every step, of the shape of a categorical's logits; what never occurs counts as half a one."""
    counts = torch.bincount(data.train.x.flatten(), minlength=data.num_levels or 0).clamp(min=0.5)
    return (counts / counts.sum()).log().repeat_interleave(data.event_shape[0])


def vae(data: Data, **options: Any) -> VAE:
    """A VAE with dense networks for ``data``; conditional where the data come with conditioning variables.

    Args:
        data: a data set; its event shape, support, mean and ``given`` shape the program.
        options: those of ``Dense``: latent, hidden, prior, likelihood, posterior, observation, network, readers.

    Example:
        >>> import pyrovae as pv
        >>> data = pv.data.load("digits")
        >>> vae = pv.vae(data, latent=8)
        >>> swapped = pv.vae(data, latent=8, prior=pv.recipes.Vamp(100))
    """
    _check_options(Dense, options)
    return Dense(**options)(data)


def conv_vae(data: Data, **options: Any) -> VAE:
    """A VAE with convolutional networks for ``data``, images of any size and channel count.

    Args:
        data: as for ``vae``.
        options: those of ``Convolutional``: latent, channels, hidden, prior, likelihood, posterior, observation,
            readers, blocks.
    """
    _check_options(Convolutional, options)
    return Convolutional(**options)(data)


def text_vae(data: Data, **options: Any) -> VAE:
    """A VAE with recurrent networks for ``data``, tokens.

    Args:
        data: as for ``vae``.
        options: those of ``Recurrent``: latent, width, embedding, word_dropout, prior, posterior, readers.
    """
    _check_options(Recurrent, options)
    return Recurrent(**options)(data)


def _check_options(recipe: type[Recipe], options: dict[str, Any]) -> None:
    known = [field.name for field in fields(recipe)]  # type: ignore[arg-type]
    for name in options:
        if name not in known:
            hint = nearest(name, known) or f"; there are {', '.join(known)}"
            raise PyrovaeError(f"{name} is no option of {recipe.__name__}{hint}")


def _check_made(slot: str, part: Any) -> None:
    if isinstance(part, type) and issubclass(part, nn.Module):  # a class of distributions is a family: any callable is
        raise PyrovaeError(f"the {slot} is a class: make one, {part.__name__}(...)")


class _Shapes:
    """What goes in and out of the networks: k numbers per element, stacked along the first event dimension.

    Args:
        reader: of x; by default what its kind asks for.
    """

    def __init__(
        self,
        data: Data,
        latent: int,
        likelihood: Family | None,
        posterior: Family | None,
        readers: Sequence[nn.Module | None],
        observation: Observing | None = None,
        reader: nn.Module | None = None,
    ) -> None:
        if latent < 1:
            raise PyrovaeError(f"the number of latent dimensions must be at least 1; got {latent}")
        if data.missing and observation is None:
            missing = "functools.partial(pyrovae.Missing, sentinel=-1)" if data.num_levels else "pyrovae.Missing"
            raise PyrovaeError(
                f"values of {data.name} are missing: say observation={missing} (recipes.Dense, "
                "recipes.Convolutional), or impute them"
            )
        _check_made("likelihood", likelihood)
        _check_made("posterior", posterior)
        self.observation = observation
        self.data, self.latent, self.readers = data, latent, readers
        self.reader = reader or _usual_reader(data)
        self.likelihood = likelihood or _default_likelihood(data)
        self.posterior = posterior or families.normal
        relaxed = isinstance(self.posterior, families.RelaxedOneHotCategorical)
        self.latent_reader = readings.Exp() if relaxed else None  # how the decoder reads z
        x, given = data.train.x, data.train.given
        self.encoder_in = readings.shapes_read([self.reader, *readers], [x, *given])
        self.encoder_out = families.out_shape(self.posterior, (latent,))
        self.decoder_in: list[networks.Shape] = [latent, *readings.shapes_read(readers, given)]
        self.decoder_out = families.out_shape(self.likelihood, data.event_shape)

    def program(self, prior: nn.Module | PriorRecipe | None, encoder: nn.Module, decoder: networks.Network) -> VAE:
        """The networks made to parts and put together, the decoder starting at the training mean."""
        described = Conditional(_reading(decoder, self.latent_reader, *self.readers), self.likelihood)
        observed = self.observation(described) if self.observation else described
        if isinstance(self.likelihood, Family):  # a plain function does not say where to start
            mean = observed.described(self.data.mean) if isinstance(observed, Observation) else self.data.mean
            decoder.start_at(self.likelihood.params_at(mean))
        return self.assembled(prior, encoder, observed)

    def assembled(self, prior: nn.Module | PriorRecipe | None, encoder: nn.Module, decoder: nn.Module) -> VAE:
        """The program of a decoder and an encoder's network."""
        posterior = Conditional(_reading(encoder, self.reader, *self.readers), self.posterior)
        if prior is None:
            prior = priors.StandardNormal(self.latent)
        _check_made("prior", prior)
        if isinstance(prior, Family):
            raise PyrovaeError("the prior is a family, which wants parameters: pyrovae.priors.Learned(family, latent)")
        made = prior if isinstance(prior, nn.Module) else prior(posterior, self.data, self.latent)
        return VAE(made, decoder, posterior)


def _reading(net: nn.Module, *readers: nn.Module | None) -> nn.Module:
    """The network with its readers, where it has any."""
    return readings.Reading(net, *readers) if any(reader is not None for reader in readers) else net


def _usual_reader(data: Data) -> nn.Module | None:
    of_values = _reader_of_values(data)
    if not data.missing:
        return of_values
    sentinel = -1 if data.num_levels else None
    return readings.ValuesAndMask(of_values, sentinel=sentinel, event_dim=len(data.event_shape))


def _reader_of_values(data: Data) -> nn.Module | None:
    if data.num_levels:
        return readings.OneHot(data.num_levels)
    if data.kind == "table" and data.standardization is None:
        spread = (data.train.x - data.mean).square().nanmean(0).nan_to_num(0.0).sqrt()
        return readings.Standardized(data.mean, torch.where(spread > 1e-6 * data.mean.abs(), spread, 1.0))
    return readings.LogCounts() if data.kind == "counts" else None


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
