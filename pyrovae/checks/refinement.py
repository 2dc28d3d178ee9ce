"""Local refinement: Adam on the ELBO of each datum over parameters of its own, and bounds with fresh noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyrovae.errors import PyrovaeError
from pyrovae.randomness import reseed
from pyrovae.terms import LogTerms, Terms
from pyrovae.trees import Tree

GRADIENT = 16  # particles per datum of a step
CHUNK = 4096  # rows (data x particles) that bounds are evaluated on at once


class Block(NamedTuple):
    """A block of data, and what runs a program on it."""

    terms: Terms
    rows: list[Tree]
    size: int
    device: torch.device

    def run(self, program: Any, num_particles: int) -> LogTerms:
        return self.terms(program, *self.rows, num_particles=num_particles)


class Weights(NamedTuple):
    """Of each particle, (S, N) float64: its log-weight and its share of the ELBO, discrete latents summed out."""

    log_weight: Tensor
    elbo: Tensor


def weights(t: LogTerms, num_particles: int) -> Weights:
    """Of the particles of one run."""
    point = t.log_point_weight + math.log(num_particles)
    log_q = (t.log_w + math.log(num_particles)).double()
    shares = torch.where(log_q == -math.inf, 0, log_q.exp() * (point - log_q))
    points = tuple(range(point.dim() - 2))  # of discrete latents
    return Weights(point.logsumexp(points), shares.sum(points)) if points else Weights(point, shares)


def evaluated(program: Any, block: Block, num_particles: int, seed: int) -> Weights:
    """Weights of ``num_particles`` fresh particles; equal seeds give different guides the same noise."""
    chunk = max(1, CHUNK // block.size)
    reseed(seed, block.device)
    with torch.no_grad():
        sizes = [min(chunk, num_particles - start) for start in range(0, num_particles, chunk)]
        parts = [weights(block.run(program, size), size) for size in sizes]
    return Weights(*(torch.cat(column).cpu() for column in zip(*parts, strict=True)))


def refine(program: Any, block: Block, *, num_steps: int, learning_rate: float, tick: Callable[[], Any]) -> Any:
    """Adam in place, the rate falling to zero as a cosine; returns the parameters as they were halfway.

    Every operation is elementwise in the data, so each datum's parameters follow its own ELBO alone.
    """
    parameters = list(program.parameters.values())
    halfway = copied(program)
    optimizer = torch.optim.Adam(parameters, lr=learning_rate)
    for step in range(num_steps):
        optimizer.param_groups[0]["lr"] = learning_rate * 0.5 * (1 + math.cos(math.pi * step / num_steps))
        with torch.enable_grad():
            t = block.run(program, GRADIENT)
            shares = t.log_w.exp() * t.log_weight
            gradients = torch.autograd.grad(-shares.sum(), parameters, materialize_grads=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            # A density that overflowed at one particle must not end the search.
            parameter.grad = gradient.nan_to_num(0, 0, 0)
        optimizer.step()
        if step + 1 == num_steps // 2:
            halfway = copied(program)
        tick()
    return halfway


def check_refinable(t: LogTerms) -> None:
    """Refuse latents whose values carry no gradient."""
    if t.unreparameterised:
        raise PyrovaeError(
            f"the guide's latents {list(t.unreparameterised)} are neither reparameterised nor enumerated, so that no "
            "gradient says how to refine them: mark discrete ones with infer={'enumerate': 'parallel'}"
        )


def copied(program: Any) -> dict[str, Tensor]:
    """The parameters' values now."""
    return {name: value.detach().clone() for name, value in program.parameters.items()}


@torch.no_grad()
def put(program: Any, values: Mapping[str, Tensor], where: Tensor | None = None) -> None:
    """Give the parameters these values, for all data or those ``where`` it is True, (N,)."""
    for name, parameter in program.parameters.items():
        new = values[name]
        mask = None if where is None else where.to(new.device).reshape(-1, *[1] * (new.dim() - 1))
        parameter.copy_(new if mask is None else torch.where(mask, new, parameter))


def keep_better(program: Any, start: Mapping[str, Tensor], block: Block, num_particles: int) -> Tensor:
    """Put back the parameters of the data that are no better off than at ``start``; which they are, (N,) bool.

    Judged by noise of its own, so that the choice does not flatter the bound that is reported.
    """
    seed, now = fresh_seed(), copied(program)
    refined = evaluated(program, block, num_particles, seed).elbo.mean(0)
    put(program, start)
    before = evaluated(program, block, num_particles, seed).elbo.mean(0)
    worse = ~(refined >= before) | (refined == math.inf)  # nan is worse, and so is a density that overflowed
    put(program, now, ~worse)
    return worse


def fresh_seed() -> int:
    """From the generator that goes on."""
    return int(torch.randint(2**62, ()))
