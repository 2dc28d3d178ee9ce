"""PyTorch by hand: the loop that everyone writes, the same with two settings that help, and evaluation by chunks."""

import math
import time
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus
from work import MIN_SCALE, RATE, Evaluated, Trained, log_weights, read, restored

BLOCK, CHUNK = 64, 64  # data and particles of one chunk of evaluation: 4,096 rows


@contextmanager
def matmul(precision):
    """PyTorch's setting for float32 matrix products, put back afterwards."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def batches(pixels, size):
    """An epoch of shuffled batches, binarized afresh."""
    for index in torch.randperm(len(pixels)).split(size):
        probabilities = pixels[index]
        yield (torch.rand_like(probabilities) < probabilities).float()


def timed(epochs, epoch):
    """Seconds of each of so many calls."""
    seconds = []
    for _ in range(epochs):
        begin = time.perf_counter()
        epoch()
        seconds.append(time.perf_counter() - begin)
    return seconds


def negative_elbo(encoder, decoder, x):
    """As one would write it."""
    loc, raw = encoder(x).chunk(2, -1)
    scale = softplus(raw) + MIN_SCALE
    noise = torch.randn_like(loc)
    z = loc + scale * noise
    log_px_z = -binary_cross_entropy_with_logits(decoder(z), x, reduction="none").sum(-1)
    return -(log_px_z + (0.5 * (noise**2 - z**2) + scale.log()).sum(-1)).mean()


def negative_iwae(encoder, decoder, x, work):
    """But for a constant."""
    return -log_weights(encoder, decoder, x, work.particles).logsumexp(0).mean()


def train(work, pixels, weights, seed, *, tuned=False):
    """The loop by hand; ``tuned`` with Adam in one kernel, and oneDNN's products where the processor has them."""
    torch.manual_seed(seed)
    encoder, decoder = restored(work, weights)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=RATE, fused=tuned or None)

    def epoch():
        for x in batches(pixels, work.batch):
            optimizer.zero_grad()
            loss = (
                negative_elbo(encoder, decoder, x) if work.particles == 1 else negative_iwae(encoder, decoder, x, work)
            )
            loss.backward()
            optimizer.step()

    with matmul("medium" if tuned else "highest"):
        seconds = timed(work.epochs, epoch)
    return Trained(seconds, read(encoder, decoder))


def evaluate(work, weights):
    """log p(x) vectorized over data and particles, in chunks that fit the cache."""
    encoder, decoder = restored(work, weights)

    @torch.no_grad()
    def log_marginal(x, particles):
        total = 0.0
        for block in x.split(BLOCK):
            chunks = [log_weights(encoder, decoder, block, CHUNK).logsumexp(0) for _ in range(particles // CHUNK)]
            total += torch.stack(chunks).logsumexp(0).sum()
        return Evaluated((total / len(x)).item() - math.log(particles))

    return log_marginal


def floor(work, weights):
    """The decoder's matrix products (or convolutions) alone, on as many rows, by the fastest float32 library."""
    _, decoder = restored(work, weights)
    products = deepcopy(nn.Sequential(*(layer for layer in decoder if not isinstance(layer, nn.ReLU | nn.SiLU))))
    for layer in products:
        if hasattr(layer, "bias"):
            layer.bias = None

    @torch.no_grad()
    def run(x, particles):
        z = torch.randn(BLOCK * CHUNK, work.latent)
        with matmul("medium"):
            for _ in range(len(x) * particles // len(z)):
                products(z)
        return Evaluated(None)

    return run
