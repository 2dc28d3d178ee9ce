"""Programs made of any parts of the board, with data that suit them, and their log p(x) by sums and quadratures."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from quadrature import Points, counted, halfline, interval, line, listed, product
from torch import Tensor, nn

import pyrovae as pv
from pyrovae import board
from pyrovae.board import Part
from pyrovae.validation import validating

N, WIDTH, LATENT = 12, 2, 2  # data, columns, dimensions of z
Data = tuple[Tensor, ...]  # x, *given


class Kind(NamedTuple):
    """What x may be: a few data (N, width), and every value or a quadrature of them, of one column or of all."""

    data: Callable[[], Tensor]
    axis: Callable[[], Points]


KINDS: dict[str, Kind] = {
    "bits": Kind(lambda: torch.rand(N, WIDTH).round(), lambda: counted(2)),
    "reals": Kind(lambda: torch.randn(N, WIDTH), line),
    "counts": Kind(lambda: torch.randint(5, (N, WIDTH)).to(torch.get_default_dtype()), lambda: counted(300)),
    "categories": Kind(lambda: torch.randint(4, (N, WIDTH)).to(torch.get_default_dtype()), lambda: counted(4)),
    "reals, some missing": Kind(lambda: torch.randn(N, WIDTH).masked_fill(torch.rand(N, WIDTH) < 0.3, torch.nan), line),
    "levels": Kind(lambda: torch.randint(8, (N, WIDTH)) / 7, lambda: listed(torch.arange(8)[:, None] / 7)),
    "positive": Kind(lambda: torch.randn(N, WIDTH).exp(), halfline),
    "unit interval": Kind(lambda: 0.02 + 0.96 * torch.rand(N, WIDTH), interval),
    "angles": Kind(lambda: torch.pi * (2 * torch.rand(N, WIDTH) - 1), lambda: interval(-math.pi, math.pi)),
    "bags of words": Kind(
        lambda: torch.randint(5, (N, WIDTH)).to(torch.get_default_dtype()),
        lambda: listed(torch.stack([torch.arange(8), 7 - torch.arange(8)], -1).to(torch.get_default_dtype())),
    ),
    "mixed columns": Kind(
        lambda: torch.stack([torch.randn(N).exp(), torch.randint(4, (N,))], -1),
        lambda: product(halfline(), counted(4)),
    ),
}


def values(kind: str) -> Points:
    """All values of an x of the kind."""
    axis = KINDS[kind].axis()
    return axis if axis.nodes.shape[-1] == WIDTH else product(*[axis] * WIDTH)


def latents(kind: str, latent: int = LATENT, count: int = 101) -> Points:
    """All values of a z of the kind."""
    if kind == "one-hot":
        return listed(torch.eye(LATENT))
    if kind == "log-simplex":  # with two categories the density is that of the difference of the logarithms
        difference, log_weight = line(4 * count)
        return Points(nn.functional.logsigmoid(torch.cat([difference, -difference], -1)), log_weight)
    return product(*[line(count, reach=7.0)] * latent)


# ------------------------------------------------------------------------------------------------------- programs

SCORING = {"VampPrior"}  # priors that ask for the density of the encoder's distribution at other points
AVERAGING = {"exemplars"}  # priors that ask for its mean, which flows have not


def legal(prior: str, posterior: str) -> bool:
    p, q = board.PRIORS[prior], board.POSTERIORS[posterior]
    asked = (prior in SCORING and not q.scores) or (prior in AVERAGING and posterior.endswith("flow"))
    return p.values == q.values and not asked


TRIPLES = [t for t in itertools.product(board.PRIORS, board.LIKELIHOODS, board.POSTERIORS) if legal(t[0], t[2])]


Triple = tuple[str, str, str]


def parts(triple: Triple) -> tuple[Part, Part, Part]:
    prior, likelihood, posterior = triple
    return board.PRIORS[prior], board.LIKELIHOODS[likelihood], board.POSTERIORS[posterior]


def covering(triples: list[Triple], held: Callable[[Triple], set[Any]]) -> list[Triple]:
    """Triples that hold all that any triple holds; greedy, so that what stands first is taken often."""
    missing = set().union(*map(held, triples))
    chosen = []
    for wanted in (3, 2, 1):  # first those that bring three new ones
        for triple in triples:
            if len(held(triple) & missing) >= wanted:
                chosen.append(triple)
                missing -= held(triple)
    return chosen


def data(prior: str, likelihood: str) -> Data:
    """x, and a one-hot y where the prior reads one."""
    x = KINDS[board.LIKELIHOODS[likelihood].values].data()
    return x, *(torch.eye(width)[torch.arange(N) % width] for width in board.PRIORS[prior].given)


def program(prior: str, likelihood: str, posterior: str, x: Tensor, latent: int = LATENT) -> pv.VAE:
    """The VAE of three parts of the board.

    Raises:
        PyrovaeError: where they cannot be combined.
    """
    given, missing = board.PRIORS[prior].given, "missing" in board.LIKELIHOODS[likelihood].values
    q: Any = board.POSTERIORS[posterior].make(2 * WIDTH if missing else WIDTH, latent, *given)
    if missing:
        q = pv.Conditional(pv.readings.Reading(q.net, pv.readings.ValuesAndMask()), q.family)
    widened(q.net.output)
    decoder = board.LIKELIHOODS[likelihood].make(latent, WIDTH, *given)
    return pv.VAE(board.PRIORS[prior].make(q, x, latent), decoder, q)


def widened(output: Any) -> None:
    """Close to its bias, whose scales of 1 are raised above a prior's: importance weights of light tails."""
    one, wide = (pv.families.inverse_positive(scale) for scale in (1.0, 1.8))
    with torch.no_grad():
        output.weight.mul_(0.3)
        output.bias[output.bias.isclose(torch.tensor(one))] = wide


def plainest(slot: str, name: str) -> Triple:
    """The part among the plainest of the board that go with it."""
    kind = "real" if slot == "likelihoods" else board.SLOTS[slot][name].values
    prior, posterior = (
        next(n for n, p in parts.items() if p.values == kind) for parts in (board.PRIORS, board.POSTERIORS)
    )
    names = {"priors": prior, "likelihoods": "bernoulli", "posteriors": posterior} | {slot: name}
    return names["priors"], names["likelihoods"], names["posteriors"]


def alone(slot: str, name: str) -> tuple[pv.VAE, Data]:
    """A VAE with one part of the board, the others the plainest that go with it; and data."""
    names = plainest(slot, name)
    found = data(*names[:2])
    return program(*names, found[0]), found


# -------------------------------------------------------------------------------------------- programs of a network

Made = tuple[pv.VAE, Tensor]  # and x
IMAGE, STEPS, LEVELS = (1, 5, 4), 3, 4


def of_networks(encoder: nn.Module, decoder: nn.Module, family: Any = pv.families.bernoulli) -> pv.VAE:
    likelihood = pv.Conditional(decoder, family)
    return pv.VAE(pv.priors.StandardNormal(LATENT), likelihood, pv.Conditional(encoder, pv.families.normal))


def mlp(*shapes: Any) -> nn.Module:
    return pv.networks.MLP(shapes[0], 5, shapes[1], activation=nn.Tanh)


def of_vectors(make: Any) -> Made:
    return of_networks(make(WIDTH, 2 * LATENT), mlp(LATENT, WIDTH)), torch.rand(N, WIDTH).round()


def of_incomplete(make: Any) -> Made:
    vae = of_networks(make(WIDTH, 2 * LATENT), mlp(LATENT, 2 * WIDTH), pv.families.normal)
    return pv.VAE(vae.prior, pv.Missing(vae.decoder), vae.encoder), KINDS["reals, some missing"].data()


def of_images(make: Any) -> Made:
    return of_networks(make(IMAGE, 2 * LATENT), mlp(LATENT, IMAGE)), torch.rand(N, *IMAGE).round()


def to_images(make: Any) -> Made:
    return of_networks(mlp(IMAGE, 2 * LATENT), make(LATENT, IMAGE)), torch.rand(N, *IMAGE).round()


def tokens() -> Tensor:
    return torch.randint(LEVELS, (N, STEPS)).to(torch.get_default_dtype())


def of_sequences(make: Any) -> Made:
    encoder = pv.readings.Reading(make((STEPS, LEVELS), 2 * LATENT), pv.readings.OneHot(LEVELS))
    return of_networks(encoder, mlp(LATENT, LEVELS * STEPS), pv.families.Categorical(LEVELS)), tokens()


def to_sequences(make: Any) -> Made:
    net = pv.readings.Reading(make([(STEPS, LEVELS), LATENT], LEVELS * STEPS), pv.readings.OneHot(LEVELS))
    decoder = pv.Autoregressive(net, pv.families.Categorical(LEVELS))
    encoder = pv.Conditional(mlp(STEPS, 2 * LATENT), pv.families.normal)
    return pv.VAE(pv.priors.StandardNormal(LATENT), decoder, encoder), tokens()


def with_network(name: str) -> Made:
    part = board.NETWORKS[name]
    return WITH_NETWORK[part.values](part.make)


WITH_NETWORK: dict[str, Callable[[Any], Made]] = {
    "real": of_vectors,
    "reals, some missing": of_incomplete,
    "images": of_images,
    "to images": to_images,
    "sequences": of_sequences,
    "to sequences": to_sequences,
}

# ------------------------------------------------------------------------------------------------ exact evidence


def exact_log_prob(vae: pv.VAE, kind: str, x: Tensor, *given: Tensor) -> Tensor:
    """log p(x | given), (N,) in float64, by a sum or a quadrature over z of the kind."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        vae = copy.deepcopy(vae).double().eval()
        x, given = x.double(), tuple(y.double() for y in given)
        nodes, log_weight = latents(kind, vae.encoder(x, *given).event_shape[0])
        z = nodes[:, None].expand(-1, len(x), -1)
        with torch.no_grad(), validating(False):
            log_pz = vae.prior(*given).log_prob(z if given else nodes[:, None])
            return (log_pz + log_likelihood(vae.decoder, x, z, *given) + log_weight[:, None]).logsumexp(0)
    finally:
        torch.set_default_dtype(before)


def log_likelihood(decoder: Any, x: Tensor, *parents: Tensor) -> Tensor:
    """log p(x | z, given); what an observation of normals adds to the latents is integrated out."""
    p = decoder(*parents)
    if isinstance(decoder, pv.Dequantized):
        return _of_cells(p.base_dist, (x * (decoder.num_levels - 1)).round(), decoder.num_levels).sum(-1)
    if isinstance(decoder, pv.MissingNotAtRandom):
        return _of_values_and_mask(p.base.base_dist, x, decoder.mask_model).sum(-1)
    return p.log_prob(x)


def _of_cells(normal: Any, k: Tensor, num_levels: int) -> Tensor:
    """The mass of each cell, log (Phi(b) - Phi(a)), by the tail on its own side, where it has digits."""
    low, high = (((k + end) / num_levels - normal.loc) / normal.scale for end in (0, 1))
    a, b = torch.where(low > 0, -high, low), torch.where(low > 0, -low, high)
    upper, lower = torch.special.log_ndtr(b), torch.special.log_ndtr(a)
    return upper + torch.log1p(-(lower - upper).exp())


def _of_values_and_mask(normal: Any, x: Tensor, mask: pv.SelfMasking) -> Tensor:
    """log N(x) P(seen | x) where x is seen, else log E[P(not seen | x)] by Gauss and Hermite."""
    logit = lambda v: mask.offset - mask.weight * v  # noqa: E731
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    drawn = normal.loc + normal.scale * torch.tensor(nodes)[:, None, None, None]
    log_weight = torch.tensor(weights / math.sqrt(2 * math.pi)).log()[:, None, None, None]
    unseen = (nn.functional.logsigmoid(-logit(drawn)) + log_weight).logsumexp(0)
    value = x.nan_to_num(0.0)
    seen = normal.log_prob(value) + nn.functional.logsigmoid(logit(value))
    return torch.where(x.isnan(), unseen, seen)
