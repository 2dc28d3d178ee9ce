"""Importance sampling from the guide: log 1/S sum_s p(x, z_s) / q(z_s | x), a block of data at a time, streamed."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pyrovae import trees
from pyrovae.evidence.blocks import Block, Setting, compiled, most_rows, padded, sizes
from pyrovae.evidence.weights.draws import NOTHING, Kept, Wanted
from pyrovae.evidence.weights.streaming import Accumulator
from pyrovae.placed import placed
from pyrovae.precision import float64_device
from pyrovae.trees import Tree

TOGETHER = 16  # data handled at once, where there are so many: many particles of few data keep the guide's share small


class Importance:
    """Importance sampling with ``num_particles`` for every datum.

    Args:
        setting: what is estimated.
        num_particles: S.
        wanted: draws and expectations.
        num_data: of how many; all by default.
    """

    start = "guide"

    def __init__(
        self,
        setting: Setting,
        num_particles: int,
        *,
        wanted: Wanted = NOTHING,
        num_data: int | None = None,
    ) -> None:
        self.setting, self.num_particles = setting, num_particles
        self.wanted = wanted
        size = setting.data.size if num_data is None else num_data
        self.sizes = sizes(size, num_particles, most_rows(setting, self._run), TOGETHER)
        like = padded(setting.probe, self.sizes.block)
        number = num_particles * size
        run = partial(self._chunk, self.sizes.chunk)
        calls = number // (self.sizes.chunk * self.sizes.block)
        self._fast = compiled(setting, run, *like, calls=calls, rows=number, run=self._run)

    @property
    def compiled(self) -> bool:
        return self._fast.compiled is not None

    def begin(self) -> None:
        self._fast.begin()

    def block(self, rows: list[Tree]) -> Block:
        accumulator = Accumulator(trees.num_data(*rows), self.num_particles, float64_device(self.setting.device))
        kept = Kept(self.wanted)
        for start in range(0, self.num_particles, self.sizes.chunk):
            log_weight, values = self._points(rows, min(self.sizes.chunk, self.num_particles - start))
            accumulator.add(_per_particle(log_weight))
            kept.add(log_weight, values)
        return kept.block(accumulator.figures(), self.setting.program, rows)

    def both_ways(self, rows: list[Tree], latents: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Log-weights of particles from the guide (S, n), and of latents from the posterior (1, n), nats."""
        starts = range(0, self.num_particles, self.sizes.chunk)
        counts = [min(self.sizes.chunk, self.num_particles - start) for start in starts]
        # Cloned: a captured graph writes its next result over this one.
        log_w = torch.cat([_per_particle(self._points(rows, count)[0]).clone() for count in counts])
        true = self.setting.terms(placed(self.setting.program, latents), *rows)
        return log_w, _per_particle(true.log_point_weight)

    def _points(self, rows: list[Tree], count: int) -> tuple[Tensor, Any]:
        """(*points, n) log-weights, nats; and the values of the draws, where they are wanted."""
        size = trees.num_data(*rows)
        whole = (count, size) == (self.sizes.chunk, self.sizes.block)
        if self._fast.compiled is None or (self.wanted.anything and not whole):
            return self._chunk(count, *rows)
        log_weight, values = self._fast(*padded(rows, self.sizes.block))
        return log_weight[..., :count, :size], values  # a chunk or block that is smaller is computed whole and cut

    def _chunk(self, count: int, *rows: Tree) -> tuple[Tensor, Any]:
        t = self.setting.terms(self.setting.program, *rows, num_particles=count)
        log_weight = t.log_point_weight + math.log(count)
        return log_weight, self.wanted.values(t, log_weight)

    def _run(self, count: int, rows: list[Tree]) -> Any:
        return self._chunk(count, *rows)


def _per_particle(log_weight: Tensor) -> Tensor:
    """(*points, n) to (C, n): what is enumerated summed over."""
    return torch.logsumexp(log_weight.flatten(0, -3), 0) if log_weight.dim() > 2 else log_weight
