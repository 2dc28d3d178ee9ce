"""What is trained and evaluated: networks, data, the weights that all start from, and the loss that all must reach.

The networks are written in plain PyTorch, flat vectors in and out, and are the same for every contestant: a contestant
is handed the initial weights as tensors, layer by layer, and hands its trained ones back in the same order. So one
function says what loss each has reached.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

import pyrovae as pv
from pyrovae.evidence.annealing.chains import ORDINARY

HIDDEN = {"small MLP": (400,), "wide MLP": (1000, 1000)}  # ReLU; the encoder's widths, reversed the decoder's
CHANNELS, DENSE = (16, 32), 128  # of the conv network: two stages of stride 2, SiLU
LATENT = {"small MLP": 20, "wide MLP": 50, "conv network": 20}
RATE = 1e-3  # Adam's
MIN_SCALE = 1e-4  # of the posterior, scale = softplus(raw) + 1e-4
HELD_OUT, DRAWS = 1000, 8  # test images, and draws of z for each, that the loss is taken on


@dataclass(frozen=True)
class Work:
    """One cell of the benchmark. More than one particle means the importance-weighted objective."""

    network: str = "small MLP"
    batch: int = 128
    latent: int = 20
    particles: int = 1
    images: int = 12_800
    epochs: int = 5  # of one run; the first, which holds all compiling, is not counted
    shape: tuple[int, int, int] = (1, 28, 28)

    @property
    def steps(self):
        """Steps of an epoch; ``images`` is a multiple of the batch."""
        return self.images // self.batch

    @property
    def pixels(self):
        """Pixels of an image."""
        return torch.Size(self.shape).numel()

    def __str__(self):
        particles = f", IWAE with {self.particles} particles" if self.particles > 1 else ""
        return f"{self.network}, latent {self.latent}, batch {self.batch}{particles}"


class Trained(NamedTuple):
    """What a contestant hands back."""

    seconds: list[float]  # of each epoch
    weights: list[torch.Tensor]  # encoder's, then decoder's, in the order of ``networks``


class Evaluated(NamedTuple):
    """What an evaluation hands back."""

    log_prob: float | None  # mean over the data, nats; None of the floor
    compiling: float = 0.0  # seconds of its time, which are not counted


class Images(NamedTuple):
    """Flat images: probabilities of bits to train on, bits to evaluate on."""

    train: torch.Tensor
    test: torch.Tensor
    shape: tuple[int, int, int]


def load(name):
    """The images of a data set of pyrovae."""
    data = pv.data.load(name)
    return Images(data.train.x.flatten(1), data.test.x.flatten(1), tuple(data.event_shape))


def networks(work):
    """The encoder, x to (loc, raw scale), and the decoder, z to logits."""
    if work.network == "conv network":
        return _conv_encoder(work), _conv_decoder(work)
    hidden = HIDDEN[work.network]
    return _mlp(work.pixels, *hidden, 2 * work.latent), _mlp(work.latent, *hidden[::-1], work.pixels)


def _mlp(*widths):
    layers = [layer for n, m in pairwise(widths) for layer in (nn.Linear(n, m), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def _conv_encoder(work):
    (colours, height, width), (first, second) = work.shape, CHANNELS
    features = second * (height // 4) * (width // 4)
    return nn.Sequential(
        nn.Unflatten(-1, (colours, height, width)),
        *(nn.Conv2d(colours, first, 3, stride=2, padding=1), nn.SiLU()),
        *(nn.Conv2d(first, second, 3, stride=2, padding=1), nn.SiLU()),
        *(nn.Flatten(), nn.Linear(features, DENSE), nn.SiLU()),
        nn.Linear(DENSE, 2 * work.latent),
    )


def _conv_decoder(work):
    (colours, height, width), (first, second) = work.shape, CHANNELS
    start = (second, height // 4, width // 4)
    return nn.Sequential(
        *(nn.Linear(work.latent, DENSE), nn.SiLU()),
        *(nn.Linear(DENSE, torch.Size(start).numel()), nn.SiLU(), nn.Unflatten(-1, start)),
        *(nn.ConvTranspose2d(second, first, 3, stride=2, padding=1, output_padding=1), nn.SiLU()),
        *(nn.ConvTranspose2d(first, first, 3, stride=2, padding=1, output_padding=1), nn.SiLU()),
        *(nn.Conv2d(first, colours, 3, padding=1), nn.Flatten()),
    )


def start(work, seed):
    """Initial weights: encoder's, then decoder's."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return read(*networks(work))


def read(*modules):
    """Copies of the modules' weights."""
    return [weight.detach().clone() for module in modules for weight in module.parameters()]


@torch.no_grad()
def write(weights, *modules):
    """Put ``weights`` into modules with the same layers, and give these back."""
    for weight, value in zip([w for m in modules for w in m.parameters()], weights, strict=True):
        weight.copy_(value)
    return modules


def restored(work, weights):
    """Encoder and decoder with these weights."""
    return write(weights, *networks(work))


def log_weights(encoder, decoder, x, particles):
    """log p(x, z) / q(z | x) of so many draws of z: (particles, N), nats."""
    loc, raw = encoder(x).chunk(2, -1)
    scale = softplus(raw) + MIN_SCALE
    noise = torch.randn(particles, *loc.shape)
    z = loc + scale * noise  # (particles, N, latent)
    logits = decoder(z.flatten(0, 1)).unflatten(0, (particles, len(x)))
    log_px_z = -binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)
    return log_px_z + (0.5 * (noise**2 - z**2) + scale.log()).sum(-1)


def gradients(num_steps):
    """How many gradients pyrovae takes for a chain of so many steps, those of its pilot, about, among them."""
    return pv.Annealing().num_leapfrog * (num_steps - 1 + ORDINARY)


@torch.no_grad()
def held_out(work, weights, images):
    """The objective per held-out image, nats, with the same draws for every contestant."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draws = [log_weights(*restored(work, weights), images.test[:HELD_OUT], work.particles) for _ in range(DRAWS)]
    bounds = torch.stack([log_weight.logsumexp(0) for log_weight in draws])
    return (bounds.mean() - torch.tensor(float(work.particles)).log()).item()
