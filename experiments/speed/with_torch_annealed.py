"""Annealed importance sampling in PyTorch by hand, and its decoder evaluations alone."""

import math
from functools import partial
from typing import NamedTuple

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, softplus
from with_torch import matmul
from work import MIN_SCALE, Evaluated, gradients, restored

ROWS = 2048  # data x chains at once
LEAPFROG, STEP = 3, 0.5  # leapfrog steps of a transition, and their size in scales of the encoder's normal


class State(NamedTuple):
    """Where chains stand, log q(z | x) and log p(x, z) but for a common constant, and their gradients in z."""

    z: torch.Tensor
    log_q: torch.Tensor  # (rows, 1)
    log_p: torch.Tensor
    slope_q: torch.Tensor
    slope_p: torch.Tensor


def anneal(work, weights):
    """From the encoder's normal to log p(x, z) by Hamiltonian transitions of one step size."""
    encoder, decoder = frozen(work, weights)

    def log_weight(x, num_steps):
        """log w of one chain for each row."""
        loc, raw = encoder(x).chunk(2, -1)
        scale = softplus(raw) + MIN_SCALE
        evaluate = partial(evaluated, decoder, x, loc, scale)
        state = evaluate(loc + scale * torch.randn_like(loc))
        log_w = (state.log_p - state.log_q) / num_steps
        for k in range(1, num_steps):
            state = transition(evaluate, state, k / num_steps, STEP * scale)
            log_w = log_w + (state.log_p - state.log_q) / num_steps
        return log_w

    def log_marginal(x, chains, num_steps):
        log_ws = [log_weight(block.repeat(chains, 1), num_steps) for block in x.split(ROWS // chains)]
        log_probs = [log_w.unflatten(0, (chains, -1)).logsumexp(0) - math.log(chains) for log_w in log_ws]
        return Evaluated(torch.cat(log_probs).mean().item())

    return log_marginal


def evaluated(decoder, x, loc, scale, z):
    """The state at z."""
    log_p, slope_p = with_gradient(lambda z: log_px_z(decoder, z, x) - 0.5 * z.square().sum(-1, keepdim=True), z)
    noise = (z - loc) / scale
    return State(z, -(0.5 * noise.square() + scale.log()).sum(-1, keepdim=True), log_p, -noise / scale, slope_p)


def log_px_z(decoder, z, x):
    """log p(x | z), (rows, 1)."""
    return -binary_cross_entropy_with_logits(decoder(z), x, reduction="none").sum(-1, keepdim=True)


def with_gradient(log_density, z):
    """A log-density at z and its gradient."""
    z = z.detach().requires_grad_()
    log_p = log_density(z)
    (slope,) = torch.autograd.grad(log_p.sum(), z)
    return log_p.detach(), slope


def transition(evaluate, state, t, stride):
    """A Hamiltonian transition at temperature t."""
    begin = momentum = torch.randn_like(state.z)
    end = state
    for _ in range(LEAPFROG):
        momentum = momentum + 0.5 * stride * torch.lerp(end.slope_q, end.slope_p, t)
        end = evaluate(end.z + stride * momentum)
        momentum = momentum + 0.5 * stride * torch.lerp(end.slope_q, end.slope_p, t)
    gain = torch.lerp(end.log_q - state.log_q, end.log_p - state.log_p, t)
    gain = gain + 0.5 * (begin.square() - momentum.square()).sum(-1, keepdim=True)
    accept = torch.rand_like(gain).log() < gain
    return State(*(torch.where(accept, new, old) for new, old in zip(end, state, strict=True)))


def floor(work, weights, *, compile=False):
    """log p(x | z) and its gradient in z, as often as pyrovae takes them, by the fastest float32 library."""
    _, decoder = frozen(work, weights)

    def total(z, x):
        log_p = log_px_z(decoder, z, x)
        return log_p.sum(), log_p

    def eager(z, x):
        return with_gradient(partial(log_px_z, decoder, x=x), z)

    # torch.compile does not take autograd.grad, and without it torch.func.grad is far slower
    evaluate = torch.compile(torch.func.grad(total, has_aux=True)) if compile else eager

    def run(x, chains, num_steps):
        with matmul("medium"):
            for block in x.split(ROWS // chains):
                rows = block.repeat(chains, 1)
                z = torch.randn(len(rows), work.latent)
                for _ in range(gradients(num_steps)):
                    evaluate(z, rows)
        return Evaluated(None)

    return run


def frozen(work, weights):
    """Encoder and decoder with these weights, which need no gradients."""
    return [network.requires_grad_(False) for network in restored(work, weights)]
