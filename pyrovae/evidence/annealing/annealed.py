"""Annealed importance sampling of a program, a block of data at a time."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pyrovae import trees
from pyrovae.errors import PyrovaeError
from pyrovae.evidence.annealing.chains import (
    ORDINARY,
    Annealing,
    Evaluate,
    Frozen,
    backwards,
    forwards,
    frozen_by,
    pilot,
)
from pyrovae.evidence.annealing.latents import Joint, Point, from_prior, starting
from pyrovae.evidence.blocks import Block, Setting, compiled, most_rows, padded, sizes
from pyrovae.evidence.weights.draws import NOTHING, Kept, Wanted
from pyrovae.evidence.weights.streaming import Accumulator
from pyrovae.parameters import forget
from pyrovae.precision import float64_device
from pyrovae.randomness import seeded
from pyrovae.trees import Tree

RUNS = 4  # groups into which the chains fall, as many independent runs
SCALE_DRAWS = 32  # from the start, for the scale of each dimension
PILOTS = 16  # chains of a pilot at the least: how their weights spread decides on temperatures
TOGETHER = 64  # data handled at once, where there are so many


def passes(num_particles: Any, num_steps: Any, num_leapfrog: int) -> Any:
    """Passes through the decoder, forward or back for a gradient, that chains and their pilot take for each datum.

    Those of chains are exact. The pilot's are of an ordinary path: a guide far off, or the prior, may take up to
    ``STATIONS * TRANSITIONS / ORDINARY`` times as many; it walks a chunk of chains, and ``PILOTS`` at the least.
    """
    gradients = num_leapfrog * (num_steps - 1 + ORDINARY) + 2
    return SCALE_DRAWS + 2 * num_particles * (1 + gradients)


class Annealed:
    """Annealed importance sampling with ``num_particles`` chains of ``num_steps`` steps for every datum.

    Each block has a pilot, whose chains settle step sizes and temperatures and are then forgotten.

    Args:
        setting: what is estimated.
        num_particles: C, the number of chains.
        num_steps: T, the number of temperatures after the first.
        annealing: how.
        wanted: draws and expectations.
        num_data: of how many; all by default.

    Attributes:
        start: "guide" or "prior".
    """

    def __init__(
        self,
        setting: Setting,
        num_particles: int,
        num_steps: int,
        *,
        annealing: Annealing,
        wanted: Wanted = NOTHING,
        num_data: int | None = None,
    ) -> None:
        self.setting, self.num_particles, self.num_steps = setting, num_particles, num_steps
        self.annealing, self.wanted = annealing, wanted
        self.joint, self.start = _begun(setting, annealing.start)
        size = setting.data.size if num_data is None else num_data
        self.sizes = sizes(size, num_particles, most_rows(setting, self._run), TOGETHER)
        rows = padded(setting.probe, self.sizes.block)
        with torch.random.fork_rng():
            u = self.joint.draw(self.sizes.chunk, *rows)
        chunks = -(-num_particles // self.sizes.chunk)
        calls = annealing.num_leapfrog * (num_steps * chunks + ORDINARY) * -(-size // self.sizes.block)
        number = calls * self.sizes.block * self.sizes.chunk
        self._fast = compiled(setting, self.joint.point, u, *rows, calls=calls, rows=number, run=self._run)

    @property
    def compiled(self) -> bool:
        return self._fast.compiled is not None

    def begin(self) -> None:
        with torch.random.fork_rng(devices=[]):  # chains draw outside of the graph, the same numbers as without one
            self._fast.begin()

    def block(self, rows: list[Tree]) -> Block:
        size = trees.num_data(*rows)
        rows = padded(rows, self.sizes.block)  # computed whole and cut
        evaluate = self.evaluate(rows)
        frozen = self.settled(rows)
        accumulator = Accumulator(size, self.num_particles, float64_device(self.setting.device))
        kept = Kept(self.wanted)
        log_ws, rates = [], []
        for start in range(0, self.num_particles, self.sizes.chunk):
            count = min(self.sizes.chunk, self.num_particles - start)
            u = self.joint.draw(self.sizes.chunk, *rows)
            log_w, u, rate = (part[:count, :size] for part in forwards(evaluate, u, frozen, self.annealing))
            accumulator.add(log_w)
            log_ws.append(log_w)
            rates.append(rate)
            if self.wanted.anything:
                self._keep(kept, log_w, u, trees.rows(rows, slice(0, size)))
        forget(self.setting.program)
        figures = accumulator.figures() | _of_runs(torch.cat(log_ws))
        if self.num_steps > 1:  # with one step there are no transitions
            figures["acceptance"] = torch.cat(rates).mean(0).cpu()
        return kept.block(figures, self.setting.program, trees.rows(rows, slice(0, size)))

    def both_ways(self, rows: list[Tree], latents: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Log-weights of chains from the start, and of as many back from latents of the posterior, (C, n), nats.

        Both go by the same pilot, which knows nothing of these latents.
        """
        size = trees.num_data(*rows)
        rows = padded(rows, self.sizes.block)
        (true,) = padded([latents], self.sizes.block)
        evaluate, frozen, end = self.evaluate(rows), self.settled(rows), self.joint.unconstrained(true, *rows)
        ahead, back = [], []
        for _ in range(0, self.num_particles, self.sizes.chunk):
            start = self.joint.draw(self.sizes.chunk, *rows)
            ahead.append(forwards(evaluate, start, frozen, self.annealing)[0])
            back.append(backwards(evaluate, end.expand_as(start).contiguous(), frozen, self.annealing)[0])
        forget(self.setting.program)
        log_w, log_w_back = (torch.cat(each)[: self.num_particles, :size] for each in (ahead, back))
        return log_w, log_w_back

    def evaluate(self, rows: list[Tree]) -> Evaluate:
        """The densities and gradients at any u, for a whole block of data."""

        def evaluated(u: Tensor) -> Point:
            if len(u) == self.sizes.chunk:
                return self._fast(u, *rows)
            parts = [Point(*(each.clone() for each in self._fast(part, *rows))) for part in u.split(self.sizes.chunk)]
            return Point(*map(torch.cat, zip(*parts, strict=True)))

        return evaluated

    def settled(self, rows: list[Tree]) -> Frozen:
        """Temperatures, step sizes and scales for a whole block of data."""
        with seeded(int(torch.randint(2**62, ())), self.setting.device):  # a block's longest pilot is nobody else's
            scale = self._drawn(SCALE_DRAWS, rows).std(0)
            tiny = torch.finfo(scale.dtype).tiny
            start = self._drawn(PILOTS, rows)
            found = pilot(self.evaluate(rows), start, scale.clamp(min=tiny), self.annealing)
        return frozen_by(found, self.num_steps, self.annealing)

    def _drawn(self, least: int, rows: list[Tree]) -> Tensor:
        """Draws in whole chunks: no more at once than fits."""
        return torch.cat([self.joint.draw(self.sizes.chunk, *rows) for _ in range(0, least, self.sizes.chunk)])

    def _keep(self, kept: Kept, log_w: Tensor, u: Tensor, rows: list[Tree]) -> None:
        """Offer the ends of the chains as points; the discrete latents go with their probabilities given u and x."""
        t = self.joint.terms_at(u, *rows)
        log_p = sum((site.log_p.double() for site in t.sites.values()), start=torch.zeros_like(log_w))
        total = log_p.flatten(0, -3).logsumexp(0) if log_p.dim() > 2 else log_p
        log_weight = torch.where(log_w == -math.inf, log_w, log_w + log_p - total)  # total may be -inf there too
        kept.add(log_weight, self.wanted.values(t, log_weight))

    def _run(self, count: int, rows: list[Tree]) -> Point:
        return self.joint.point(self.joint.draw(count, *rows), *rows)


def _begun(setting: Setting, start: str) -> tuple[Joint, str]:
    """The densities of the program with the guide that chains start from, and which guide that is."""
    make = partial(Joint, terms=setting.terms, rows=setting.probe)
    program = starting(setting.program, setting.probe, start)
    try:
        return make(program), "guide" if program is setting.program else "prior"
    except PyrovaeError as error:
        if start != "auto":
            raise
        try:
            return make(from_prior(setting.program)), "prior"
        except PyrovaeError:
            raise error from None


def _of_runs(log_w: Tensor) -> dict[str, Tensor]:
    """log p-hat of each of the independent groups of chains, (R, n)."""
    groups = log_w.tensor_split(min(RUNS, len(log_w)))
    return {"runs": torch.stack([group.logsumexp(0) - math.log(len(group)) for group in groups]).cpu()}
